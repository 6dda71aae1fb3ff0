"""`siimdet doctor`: what is installed, what is missing, and what this machine can do."""

import importlib.metadata
import os
import platform
import shutil
import sys
from collections.abc import Sequence
from typing import Any

CORE = (
    *("torch", "torchvision", "timm", "albumentations", "pydicom", "imagecodecs", "opencv-python-headless", "pillow"),
    *("pycocotools", "ensemble-boxes", "numba", "numpy", "polars", "scikit-learn", "pydantic", "PyYAML", "typer"),
    *("rich", "matplotlib", "safetensors"),
)
EXTRAS = {
    "yolo": ("ultralytics",),
    "serve": ("fastapi", "uvicorn"),
    "pacs": ("highdicom", "dicomweb-client", "pynetdicom"),
    "export": ("onnx", "onnxscript", "onnxruntime", "openvino"),
    "cluster": ("distributed",),
    "track": ("tensorboard",),
}
Finding = dict[str, Any]
"""name, ok, required, detail and, where it is not ok, remedy."""


def examine() -> list[Finding]:
    """Look at interpreter, packages, extras, operators and the machine."""
    return [_python(), *_core(), *_extras(), _opencv(), _operators(), _codecs(), *_machine()]


def is_sound(findings: Sequence[Finding]) -> bool:
    """Whether everything that is required is there."""
    return all(finding["ok"] for finding in findings if finding["required"])


def render(findings: Sequence[Finding]) -> str:
    """A line per finding, with the remedy where something is wrong."""
    lines = []
    for finding in findings:
        mark = "ok" if finding["ok"] else "MISSING" if finding["required"] else "-"
        remedy = f"  ->  {finding['remedy']}" if not finding["ok"] else ""
        lines.append(f"{mark:<8}{finding['name']:<24}{finding['detail']}{remedy}")
    return "\n".join(lines)


def _finding(name: str, ok: bool, detail: str, *, remedy: str = "", required: bool = True) -> Finding:
    return {"name": name, "ok": ok, "required": required, "detail": detail, "remedy": remedy}


def _python() -> Finding:
    remedy = "Python 3.11 or newer"
    return _finding("python", sys.version_info >= (3, 11), platform.python_version(), remedy=remedy)


def _core() -> list[Finding]:
    return [
        _finding(name, version is not None, version or "not installed", remedy=f"pip install {name}")
        for name in CORE
        for version in (_version(name),)
    ]


def _extras() -> list[Finding]:
    findings = []
    for extra, packages in EXTRAS.items():
        missing = [name for name in packages if _version(name) is None]
        detail = f"without {', '.join(missing)}" if missing else ", ".join(f"{p} {_version(p)}" for p in packages)
        remedy = f"pip install 'siimdet[{extra}]'"
        findings.append(_finding(f"extra {extra}", not missing, detail, remedy=remedy, required=False))
    return findings


def _opencv() -> Finding:
    """Two OpenCV wheels overwrite each other's files: whichever came last wins, until one is removed."""
    names = ("opencv-python", "opencv-python-headless", "opencv-contrib-python", "opencv-contrib-python-headless")
    owners = [name for name in names if _version(name)]
    remedy = "pip uninstall all of them, then pip install opencv-python-headless"
    return _finding("one OpenCV", len(owners) == 1, ", ".join(owners), remedy=remedy)


def _operators() -> Finding:
    """A torchvision built for another torch imports, but lacks its compiled operators."""
    try:
        import torch
        import torchvision

        kept = torchvision.ops.nms(torch.tensor([[0.0, 0.0, 1.0, 1.0]]), torch.ones(1), 0.5)
    except (ImportError, OSError, RuntimeError, AttributeError) as error:
        return _finding(
            "torchvision operators", False, str(error), remedy="install torch and torchvision of one release"
        )
    return _finding("torchvision operators", kept.tolist() == [0], "nms runs")


def _codecs() -> Finding:
    needed = ("JPEG8", "JPEGLS", "JPEG2K")
    try:
        import imagecodecs
    except ImportError as error:
        return _finding("DICOM codecs", False, str(error), remedy="pip install --force-reinstall imagecodecs")
    missing = [name for name in needed if not getattr(imagecodecs, name).available]
    detail = f"without {', '.join(missing)}" if missing else ", ".join(needed)
    return _finding("DICOM codecs", not missing, detail, remedy="pip install --force-reinstall imagecodecs")


def _machine() -> list[Finding]:
    free = shutil.disk_usage(os.getcwd()).free / 2**30
    disk = _finding("free disk here", free > 5, f"{free:.0f} GiB", remedy="5 GiB or more", required=False)
    try:
        import torch

        cuda = torch.cuda.is_available()
        gpu = torch.cuda.get_device_name() if cuda else "none: training runs on the CPU"
        threads = f"{torch.get_num_threads()} for torch, {os.cpu_count()} cores"
    except (ImportError, OSError) as error:  # without torch nothing is known of devices; it has a line of its own
        cuda, gpu, threads = False, str(error), f"{os.cpu_count()} cores"
    return [
        _finding("CUDA device", cuda, gpu, remedy="an NVIDIA driver, for full-size trainings", required=False),
        _finding("threads", True, threads),
        disk,
    ]


def _version(name: str) -> str | None:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None
