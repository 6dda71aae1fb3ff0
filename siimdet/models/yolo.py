"""YOLO through ultralytics (extra `yolo`, AGPL-3.0): building, weights and prediction.

`open_ultralytics` is the door: the package is imported by no module of ours before it was called.
Shapes: S the side of the square input in pixels, N boxes; greyscale in, one channel.
"""

import contextlib
import importlib.util
import os
import pickle
import re
import sys
import tempfile
import warnings
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast

import cv2
import numpy as np
import torch
import yaml
from torch import Tensor, nn

from siimdet.errors import ConfigError, MissingExtra, RunError
from siimdet.models.weight_files import read_safetensors

_PRIVATE = {"YOLO_OFFLINE": "true", "YOLO_AUTOINSTALL": "false", "ULTRALYTICS_SAFE_LOAD": "1"}
_NAME = re.compile(r"(?P<family>yolov?\d+)(?P<scale>[a-z]?)(?P<variant>(-[a-z0-9]+)*)")
_HEADS = ("Detect", "v10Detect")


def open_ultralytics() -> None:
    """Import ultralytics offline, silent, and without a trace in the process or the home folder.

    Left alone it looks for the network, installs packages, sends usage events, writes settings to
    ~/.config, logs to stdout, replaces torch.save, and sets OpenCV and OMP to one thread.
    Raises: MissingExtra if it is not installed.
    """
    if "ultralytics" in sys.modules:
        return
    if importlib.util.find_spec("ultralytics") is None:
        raise MissingExtra("ultralytics", "yolo")
    with tempfile.TemporaryDirectory() as folder, _process_state_kept():
        os.environ |= _PRIVATE | {"YOLO_CONFIG_DIR": folder, "YOLO_VERBOSE": "false"}
        from ultralytics.utils import SETTINGS

        SETTINGS.update(sync=False)
    os.environ |= _PRIVATE


@contextlib.contextmanager
def _process_state_kept() -> Iterator[None]:
    environment, cv2_threads, torch_threads = dict(os.environ), cv2.getNumThreads(), torch.get_num_threads()
    torch_save, print_options = torch.save, np.get_printoptions()
    with warnings.catch_warnings():
        try:
            yield
        finally:
            os.environ.clear()
            os.environ |= environment
            cv2.setNumThreads(cv2_threads)
            torch.set_num_threads(torch_threads)
            torch.save = torch_save
            np.set_printoptions(**print_options)
            torch.set_printoptions(profile="default")


def build_yolo(architecture: str, *, num_classes: int, channels: int = 1) -> nn.Module:
    """Build a detection model with random weights from torch's global generator.

    `architecture` names one of ultralytics' own tables with its scale letter: yolov5l.yaml, yolo11n.yaml.
    In its 8.x every YOLO is anchor-free, v5 included.
    Raises: ConfigError for another name.
    """
    open_ultralytics()
    from ultralytics.nn.tasks import DetectionModel

    # The table goes in as a dict: given a name, ultralytics would take a file of that name in the current folder.
    table: Any = _architecture_table(architecture)
    return DetectionModel(table, ch=channels, nc=num_classes, verbose=False)


def _architecture_table(architecture: str) -> dict[str, Any]:
    import ultralytics

    tables = {path.stem: path for path in (Path(ultralytics.__file__).parent / "cfg" / "models").glob("*/*.yaml")}
    stem = architecture.removesuffix(".yaml")
    name = _NAME.fullmatch(stem)
    family = stem if stem in tables or name is None else name["family"] + name["variant"]
    if name and family in tables:
        table = yaml.safe_load(tables[family].read_text(encoding="utf-8"))
        if table["head"][-1][2] in _HEADS and ("scales" not in table or name["scale"] in table["scales"]):
            return table | {"scale": name["scale"], "yaml_file": f"{stem}.yaml"}
    expected = "a detection model of ultralytics with its scale letter, such as yolov5l.yaml or yolo11n.yaml"
    raise ConfigError("model", "architecture", found=architecture, expected=expected)


def read_yolo_weights(path: Path) -> dict[str, Tensor]:
    """Tensors of our safetensors, or of a `.pt` that ultralytics published (COCO weights).

    A `.pt` is a pickle: it is read with weights_only and ultralytics' list of known classes, which
    executes nothing else.
    Raises: RunError if the file is missing, damaged, or refers to anything outside that list.
    """
    expected = "a run, a .safetensors, or a .pt of ultralytics' own models"
    if path.suffix not in (".safetensors", ".pt") or not path.is_file():
        raise RunError(path, "weights", found="a file" if path.is_file() else "nothing", expected=expected)
    if path.suffix == ".safetensors":
        return read_safetensors(path)
    if not zipfile.is_zipfile(path):  # what torch.save has written since 1.6; a bare pickle is not
        raise RunError(path, "weights", found="no torch archive", expected=expected)
    open_ultralytics()
    from ultralytics.nn.tasks import torch_safe_load

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of strange archives, which are then refused
            checkpoint, _ = torch_safe_load(str(path), safe_only=True)
    except Exception as refusal:  # the library's words advise to fetch another model
        cause = refusal.__cause__ or refusal
        found = f"no checkpoint that can be read ({type(cause).__name__})"
        if isinstance(cause, pickle.UnpicklingError):
            found = "objects other than tensors and ultralytics' own layers, which are not loaded"
        raise RunError(path, "weights", found=found, expected=expected) from refusal
    model = (checkpoint.get("ema") or checkpoint.get("model")) if isinstance(checkpoint, dict) else None
    if not isinstance(model, nn.Module):
        raise RunError(path, "weights", found="no model", expected=expected)
    return model.float().state_dict()


def adopt_weights(model: nn.Module, state: dict[str, Tensor], file: Path) -> None:
    """Start `model` from the tensors of `file`: everything but head tensors of another class count.

    A first convolution over three channels is summed to one: grey repeated three times gives the same.
    Raises: RunError if a tensor outside the head does not fit: the weights are of another architecture.
    """
    own = model.state_dict()
    first = next(key for key in own if own[key].ndim == 4)
    fitting = {key: value for key, value in state.items() if key in own}
    if first in fitting and fitting[first].ndim == 4 and own[first].shape[1] == 1:
        fitting[first] = fitting[first].sum(dim=1, keepdim=True)
    fitting = {key: value for key, value in fitting.items() if own[key].shape == value.shape}
    head = f"model.{len(cast(nn.Sequential, model.model)) - 1}."
    unfit = next((key for key in own if key not in fitting and not key.startswith(head)), None)
    if unfit is not None:
        found = tuple(state[unfit].shape) if unfit in state else "no such tensor"
        raise RunError(file, unfit, found=found, expected=tuple(own[unfit].shape))
    model.load_state_dict(fitting, strict=False)


class YoloDetector(nn.Module):
    """A YOLO and its non-maximum suppression behind the interface of every detector."""

    def __init__(self, network: nn.Module, *, confidence: float, iou: float, max_detections: int = 100) -> None:
        super().__init__()
        self.network = network
        self.confidence, self.iou, self.max_detections = confidence, iou, max_detections

    @property
    def stride(self) -> int:
        """Side of a cell of the coarsest map, px of the input: inputs have whole ones."""
        return int(cast(Any, self.network).stride.max())

    @torch.no_grad()
    def predict(self, images: Tensor) -> list[tuple[Tensor, Tensor, Tensor]]:
        """Boxes f32[N, 4] xyxy px, scores f32[N] and class ids i64[N] of each of f32[B, 1, S, S], best first."""
        from ultralytics.utils.nms import non_max_suppression

        # Its default gives up after 2 s + 50 ms an image and returns the rest of the batch empty.
        rows = non_max_suppression(
            self.network(images), self.confidence, self.iou, max_det=self.max_detections, max_time_img=float("inf")
        )
        return [(found[:, :4], found[:, 4], found[:, 5].long()) for found in cast(list[Tensor], rows)]


def build_yolo_detector(architecture: str, *, num_classes: int, confidence: float, iou: float) -> YoloDetector:
    """Build a detector with random weights, and the limits of its non-maximum suppression (report: .1, .2)."""
    return YoloDetector(build_yolo(architecture, num_classes=num_classes), confidence=confidence, iou=iou)
