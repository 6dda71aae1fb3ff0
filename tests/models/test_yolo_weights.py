"""YOLO's weights: of a run, of the library's COCO models, and of files that would run code."""

import importlib.util
import os
import pickle
import re
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
    adopt_weights(model, state, tmp_path / "yolo11n.pt")
    own = model.state_dict()
    assert torch.equal(own["model.1.conv.weight"], state["model.1.conv.weight"])
    assert torch.equal(own["model.0.conv.weight"], state["model.0.conv.weight"].sum(1, keepdim=True))


def test_weights_of_another_architecture_are_named_by_file_tensor_and_shapes() -> None:
    state, larger = build_yolo("yolo11n.yaml", num_classes=1).state_dict(), build_yolo("yolo11s.yaml", num_classes=1)
    line = "best.safetensors: model.0.conv.weight: found (16, 1, 3, 3), expected (32, 1, 3, 3)"
    with pytest.raises(RunError, match=f"^{re.escape(line)}$"):
        adopt_weights(larger, state, Path("best.safetensors"))
    del state["model.1.bn.weight"]
    line = "best.safetensors: model.1.bn.weight: found no such tensor, expected (32,)"
    with pytest.raises(RunError, match=f"^{re.escape(line)}$"):
        adopt_weights(build_yolo("yolo11n.yaml", num_classes=1), state, Path("best.safetensors"))


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


@pytest.mark.parametrize(
    ("value", "found"),
    [
        pytest.param(
            {"model": Hostile(Path("executed"))},
            "objects other than tensors and ultralytics' own layers",
            id="another class",
        ),
        pytest.param(torch.zeros(3), "no checkpoint that can be read (AttributeError)", id="a tensor alone"),
        pytest.param({"a": torch.zeros(3)}, "no model", id="a state dict"),
    ],
)
def test_another_pt_is_refused_in_our_words(tmp_path: Path, value: object, found: str) -> None:
    torch.save(value, tmp_path / "other.pt")
    with pytest.raises(RunError, match=rf"other\.pt: weights: found {re.escape(found)}") as refusal:
        read_yolo_weights(tmp_path / "other.pt")
    assert "yolo predict" not in str(refusal.value)
