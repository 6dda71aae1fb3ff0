"""The door to ultralytics, and which of its models come through it."""

import importlib.util
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import yaml

from siimdet.errors import ConfigError, MissingExtra
from siimdet.models.yolo import YoloDetector, build_yolo, open_ultralytics

if importlib.util.find_spec("ultralytics") is None:
    pytest.skip("needs the extra `yolo`", allow_module_level=True)

pytestmark = pytest.mark.usefixtures("home", "one_thread")

NO_DETECTORS = {
    "Classify": "classes of whole images",
    "Segment": "masks",
    "Segment26": "masks",
    "SemanticSegment": "masks",
    "YOLOESegment": "masks",
    "YOLOESegment26": "masks",
    "Pose": "key points",
    "Pose26": "key points",
    "OBB": "turned boxes",
    "OBB26": "turned boxes",
    "Depth": "distances",
    "WorldDetect": "classes described in words, which a text model embeds",
    "YOLOEDetect": "classes described in words, which a text model embeds",
    "RTDETRDecoder": "a transformer with a criterion of its own, without a maximum suppression",
}
"""Heads of tables that are refused, and what they are made for."""


def test_a_fresh_import_is_offline_and_leaves_the_process_as_it_was(home: Path, tmp_path: Path) -> None:
    code = """
import os, socket, sys
def refuse(*a, **k): raise AssertionError("network")
socket.socket.connect = socket.getaddrinfo = socket.create_connection = refuse
os.environ.pop("OMP_NUM_THREADS", None)
import cv2, torch
cv2.setNumThreads(3); torch.set_num_threads(2); save = torch.save
from siimdet.models.yolo import open_ultralytics
assert "ultralytics" not in sys.modules
open_ultralytics()
import siimdet.models.yolo_trainer
from ultralytics.utils import AUTOINSTALL, ONLINE, SAFE_LOAD, SETTINGS
assert (AUTOINSTALL, ONLINE, SAFE_LOAD, SETTINGS["sync"]) == (False, False, True, False)
assert "OMP_NUM_THREADS" not in os.environ and "YOLO_CONFIG_DIR" not in os.environ
assert cv2.getNumThreads() == 3 and torch.get_num_threads() == 2 and torch.save is save
for name in ("ultralytics_platform", "ultralytics.utils.events", "ultralytics.utils.callbacks.platform"):
    assert name not in sys.modules, name
"""
    environment = {"HOME": str(home), "PATH": os.environ["PATH"], "TMPDIR": str(tmp_path)}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment, cwd=Path.cwd())
    assert (done.returncode, done.stdout) == (0, ""), done.stderr
    assert not list(home.iterdir())
    assert [path.name for path in tmp_path.iterdir()] == ["home"]


def test_without_the_extra_one_line_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "ultralytics")
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(MissingExtra, match=r"siimdet\[yolo\]"):
        open_ultralytics()


def tables() -> list[str]:
    """Every model table of the library by the name of its smallest scale, and its head."""
    folder = Path(importlib.util.find_spec("ultralytics").submodule_search_locations[0]) / "cfg" / "models"
    found = []
    for path in sorted(folder.glob("*/*.yaml")):
        table = yaml.safe_load(path.read_text())
        scale = "" if path.stem[-1] in table.get("scales", "") else next(iter(table.get("scales", [""])))
        name = re.sub(r"^(yoloe-v?\d+|yolov?\d+|rtdetr)", rf"\g<1>{scale}", path.stem)
        found.append(pytest.param(name, table["head"][-1][2], id=path.stem))
    return found


@pytest.mark.parametrize(("architecture", "head"), tables())
def test_every_detection_table_is_built_and_the_others_are_refused(architecture: str, head: str) -> None:
    if head in NO_DETECTORS:
        with pytest.raises(ConfigError, match=rf"found {architecture}, expected a detection model"):
            build_yolo(architecture, num_classes=1)
        return
    model = build_yolo(architecture, num_classes=2)
    detector = YoloDetector(model.eval(), confidence=0.0, iou=0.5, max_detections=5)
    boxes, scores, class_ids = detector.predict(torch.zeros(1, 1, 64, 64))[0]
    assert 1 <= len(boxes) <= 5
    assert boxes.shape == (len(boxes), 4)
    assert scores.shape == class_ids.shape == (len(boxes),)


@pytest.mark.parametrize(
    "architecture",
    [
        "yolo11.yaml",
        "yolo11q.yaml",
        "yolo11n-seg.yaml",
        "yolo11n-cls.yaml",
        "yolov8l-rtdetr.yaml",
        "../yolo11n.yaml",
        "x",
    ],
)
def test_only_detection_tables_with_a_scale_are_built(architecture: str) -> None:
    with pytest.raises(ConfigError, match="with its scale letter"):
        build_yolo(architecture, num_classes=1)
