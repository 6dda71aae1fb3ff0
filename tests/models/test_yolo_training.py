"""Training a YOLO: what it writes, what it resumes to, what it refuses, and that it learns."""

import hashlib
import importlib.util
import math
import os
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from siimdet.core.labels import OPACITY
from siimdet.data.loader import fit_image
from siimdet.errors import ConfigError, RunError
from siimdet.models.losses import NonFiniteLoss
from siimdet.models.weights import ModelSpec, save_model
from siimdet.models.yolo import YoloDetector
from siimdet.models.yolo_settings import YoloSettings

if importlib.util.find_spec("ultralytics") is None:
    pytest.skip("needs the extra `yolo`", allow_module_level=True)

from siimdet.models import yolo_trainer
from siimdet.models.yolo_data import read_yolo_boxes
from siimdet.models.yolo_loss import build_criterion
from siimdet.models.yolo_trainer import YoloEpoch, starting_model, train_yolo

pytestmark = pytest.mark.usefixtures("home", "one_thread")

TINY = YoloSettings(
    architecture="yolov5n.yaml",
    image_size=64,
    epochs=2,
    batch=3,
    nominal_batch=6,
    warmup_iterations=4,
    amp=False,
    mosaic=0.5,
)
NMS = {"confidence": 0.01, "iou": 0.5}
SPEC = ModelSpec("yolo", {"architecture": "yolov5n.yaml", "confidence": 0.0, "iou": 0.5}, OPACITY, 64, "stretch", 2)


def train(settings: YoloSettings, tree: Path, out: Path, *, resume: bool = False, stop_after: int | None = None):
    epochs: list[YoloEpoch] = []

    def on_epoch(result: YoloEpoch) -> float:
        if result.epoch == stop_after:
            raise KeyboardInterrupt
        epochs.append(result)
        return -sum(result.losses.values())

    train_yolo(
        settings,
        model=starting_model(settings, num_classes=1),
        data_yaml=tree,
        out=out,
        device="cpu",
        on_epoch=on_epoch,
        save_best=lambda result, score: save_model(out, SPEC, YoloDetector(result.model, **NMS).state_dict(), {}),
        identity=repr(replace(settings, workers=0)),
        resume=resume,
    )
    return epochs


def read_state(out: Path) -> dict:
    return torch.load(out / "state" / "last.pt", weights_only=True)


def snapshot(folder: Path) -> dict[str, str]:
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def test_a_run_writes_its_own_files_and_nothing_else(tree: Path, tmp_path: Path, home: Path) -> None:
    before = snapshot(tmp_path)
    train(replace(TINY, epochs=1), tree, tmp_path / "run")
    after = snapshot(tmp_path)
    assert {name: digest for name, digest in after.items() if name in before} == before
    assert after.keys() - before.keys() == {"run/state/last.pt", "run/weights/best.safetensors", "run/model.json"}
    assert not list(home.iterdir())


def test_training_leaves_threads_generators_and_switches_alone(tree: Path, tmp_path: Path) -> None:
    def process() -> list:
        return [
            torch.get_num_threads(),
            cv2.getNumThreads(),
            dict(os.environ),
            np.random.get_state()[1].tolist(),
            torch.get_rng_state().tolist(),
            torch.are_deterministic_algorithms_enabled(),
        ]

    before = process()
    train(replace(TINY, epochs=1), tree, tmp_path / "run")
    assert process() == before


def test_resuming_gives_the_numbers_of_an_unbroken_run(tree: Path, tmp_path: Path) -> None:
    settings = replace(TINY, epochs=3)
    whole = train(settings, tree, tmp_path / "whole")
    with pytest.raises(KeyboardInterrupt):
        train(settings, tree, tmp_path / "broken", stop_after=1)
    rest = train(settings, tree, tmp_path / "broken", resume=True)
    assert [e.epoch for e in rest] == [1, 2]
    assert [(e.losses, e.lr) for e in rest] == [(e.losses, e.lr) for e in whole[1:]]
    one, other = read_state(tmp_path / "whole"), read_state(tmp_path / "broken")
    assert one["best"] == other["best"]
    for part in ("model", "ema"):
        assert all(torch.equal(value, other[part][key]) for key, value in one[part].items())


def test_equal_seeds_give_equal_weights_with_any_number_of_workers(tree: Path, tmp_path: Path) -> None:
    settings = replace(TINY, epochs=1)
    for name, kind in (("a", settings), ("b", replace(settings, workers=2)), ("other", replace(settings, seed=1))):
        train(kind, tree, tmp_path / name)
    a, b, other = (read_state(tmp_path / name)["model"] for name in ("a", "b", "other"))
    assert all(torch.equal(a[key], b[key]) for key in a)
    assert not all(torch.equal(a[key], other[key]) for key in a)


class Hostile:
    def __init__(self, target: Path) -> None:
        self.target = target

    def __reduce__(self):
        return os.mkdir, (str(self.target),)


def test_a_state_of_other_settings_is_refused(tree: Path, tmp_path: Path) -> None:
    train(replace(TINY, epochs=1), tree, tmp_path)
    with pytest.raises(RunError, match=r"last\.pt: identity: found a state of another config"):
        train(replace(TINY, epochs=1, lr=0.02), tree, tmp_path, resume=True)
    with pytest.raises(RunError, match="interrupted training"):
        train(TINY, tree, tmp_path / "nothing", resume=True)
    torch.save({"settings": Hostile(tmp_path / "executed")}, tmp_path / "state" / "last.pt")
    with pytest.raises(RunError, match="a state that siimdet wrote"):
        train(TINY, tree, tmp_path, resume=True)
    assert not (tmp_path / "executed").exists()


def test_a_loss_of_nan_stops_with_the_place_and_keeps_the_last_state(
    tree: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    train(replace(TINY, epochs=1), tree, tmp_path)
    before = snapshot(tmp_path)

    def poisoned(model, settings):
        criterion = build_criterion(model, settings)
        return lambda preds, batch: tuple(x * math.nan if i == 0 else x for i, x in enumerate(criterion(preds, batch)))

    monkeypatch.setattr(yolo_trainer, "build_criterion", poisoned)
    line = r"^phase yolo, epoch 0, step 0: loss: found nan on images (case\d(, )?){3}"
    with pytest.raises(NonFiniteLoss, match=line):
        train(replace(TINY, epochs=1), tree, tmp_path)
    assert snapshot(tmp_path) == before


def write_tree(root: Path, boxes: list[str]) -> Path:
    """A tree of one noisy image of 64 px per text of boxes."""
    rng = np.random.default_rng(1)
    for folder in ("images", "labels"):
        (root / folder).mkdir(parents=True)
    for number, text in enumerate(boxes):
        cv2.imwrite(str(root / "images" / f"case{number}.png"), rng.integers(0, 255, (64, 64), np.uint8))
        (root / "labels" / f"case{number}.txt").write_text(text)
    (root / "train.txt").write_text("".join(f"./images/case{number}.png\n" for number in range(len(boxes))))
    (root / "data.yaml").write_text("train: train.txt\nnames: {0: opacity}\n")
    return root / "data.yaml"


EDGES = "0 .1 .5 .2 1\n0 .9 .5 .2 1\n0 .5 .1 1 .2\n0 .5 .9 1 .2\n0 .5 .5 1 1\n"


@pytest.mark.parametrize(
    ("boxes", "batch"),
    [
        pytest.param([EDGES, "", EDGES], 1, id="one image at a time, one of them empty"),
        pytest.param(["", "", EDGES], 2, id="a last batch of one image"),
        pytest.param(["", ""], 2, id="no boxes at all"),
    ],
)
def test_an_epoch_of_border_boxes_and_empty_images_has_finite_losses(
    tmp_path: Path, boxes: list[str], batch: int
) -> None:
    strong = {"mosaic": 0.5, "mixup": 0.5, "translate": 0.2, "scale": 0.5, "flip_vertical": 0.5}
    settings = replace(TINY, epochs=2, batch=batch, nominal_batch=batch, **strong)
    epochs = train(settings, write_tree(tmp_path / "data", boxes), tmp_path / "run")
    assert all(math.isfinite(value) for epoch in epochs for value in epoch.losses.values())
    assert all(torch.isfinite(value).all() for value in read_state(tmp_path / "run")["model"].values())
    assert (sum(epoch.losses["box"] for epoch in epochs) > 0) == any(boxes)


@pytest.mark.parametrize(("architecture", "side"), [("yolov5n-p6", 96), ("yolov5n-p6", 64), ("yolo26n-p6", 160)])
def test_a_side_that_the_coarsest_map_does_not_divide_is_refused(
    tree: Path, tmp_path: Path, architecture: str, side: int
) -> None:
    with pytest.raises(ConfigError, match=f"image_size: found {side}, expected a multiple of 64 from 128 on"):
        train(replace(TINY, architecture=architecture, image_size=side), tree, tmp_path / "run")


def test_a_model_learns_a_bright_rectangle(tree: Path, tmp_path: Path) -> None:
    plain = {"mixup": 0.0, "mosaic": 0.0, "flip_vertical": 0.0, "warmup_bias_lr": 0.0}
    settings = replace(
        TINY, epochs=20, batch=4, nominal_batch=4, optimizer="adamw", lr=4e-3, momentum=0.9, norm_momentum=0.2, **plain
    )
    model = train(settings, tree, tmp_path / "run")[-1].model
    image = cv2.imread(str(tree.parent / "images" / "case1.png"), cv2.IMREAD_GRAYSCALE)
    pixels = torch.from_numpy(fit_image(image, 64, "stretch")[0])[None, None] / 255
    detector = YoloDetector(model, confidence=0.01, iou=0.2, max_detections=3)
    boxes, scores, class_ids = (part.numpy() for part in detector.predict(pixels)[0])
    _, cx, cy, w, h = read_yolo_boxes(tree.parent / "images" / "case1.png", 1)[0] * 64
    assert class_ids[0] == 0 and np.all(scores[:-1] >= scores[1:])
    assert boxes[0] == pytest.approx([cx - w / 2, cy - h / 2, cx + w / 2, cy + h / 2], abs=6)
