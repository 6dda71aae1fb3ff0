"""YOLO's weights: of a run, of the library's COCO models, and of files that would run code."""

import importlib.util
import os
import pickle
from pathlib import Path

import pytest
import torch

from siimdet.core.labels import OPACITY
from siimdet.errors import RunError
from siimdet.models.weights import ModelSpec, build_model, load_model, save_model
from siimdet.models.yolo import adopt_weights, build_yolo, read_yolo_weights

if importlib.util.find_spec("ultralytics") is None:
    pytest.skip("needs the extra `yolo`", allow_module_level=True)

pytestmark = pytest.mark.usefixtures("home", "one_thread")

SPEC = ModelSpec("yolo", {"architecture": "yolov5n.yaml", "confidence": 0.0, "iou": 0.5}, OPACITY, 64, "stretch", 2)


def test_weights_come_back_from_a_run(tmp_path: Path) -> None:
    model = build_model(SPEC).eval()
    save_model(tmp_path, SPEC, model.state_dict(), {})
    image = torch.rand(2, 1, 64, 64, generator=torch.Generator().manual_seed(0))
    loaded, spec = load_model(tmp_path)
    assert spec == SPEC
    for one, other in zip(model.predict(image), loaded.predict(image), strict=True):
        assert len(one[0]) and all(torch.equal(a, b) for a, b in zip(one, other, strict=True))


def test_coco_weights_start_a_grey_one_class_model(tmp_path: Path) -> None:
    coco = build_yolo("yolo11n.yaml", num_classes=80, channels=3)
    torch.save({"model": coco.half(), "ema": None}, tmp_path / "yolo11n.pt")
    state = read_yolo_weights(tmp_path / "yolo11n.pt")
    model = build_yolo("yolo11n.yaml", num_classes=1)
    adopt_weights(model, state)
    own = model.state_dict()
    assert torch.equal(own["model.1.conv.weight"], state["model.1.conv.weight"])
    assert torch.equal(own["model.0.conv.weight"], state["model.0.conv.weight"].sum(1, keepdim=True))
    with pytest.raises(RunError, match="this architecture's"):
        adopt_weights(build_yolo("yolo11s.yaml", num_classes=1), state)


class Hostile:
    def __init__(self, target: Path) -> None:
        self.target = target

    def __reduce__(self):
        return os.mkdir, (str(self.target),)


@pytest.mark.parametrize("write", [torch.save, lambda value, path: path.write_bytes(pickle.dumps(value))])
def test_a_hostile_pickle_is_refused_unexecuted(tmp_path: Path, write) -> None:
    payload = Hostile(tmp_path / "executed")
    write({"model": payload}, tmp_path / "evil.pt")
    with pytest.raises(RunError, match=r"evil\.pt: weights"):
        read_yolo_weights(tmp_path / "evil.pt")
    assert not payload.target.exists()
