"""YOLO through ultralytics: what it learns from, what it writes, what it resumes to."""

import hashlib
import importlib.util
import math
import os
import pickle
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from siimdet.core.labels import OPACITY
from siimdet.data.loader import fit_image
from siimdet.errors import ConfigError, DatasetError, MissingExtra, RunError
from siimdet.models.losses import NonFiniteLoss
from siimdet.models.weights import ModelSpec, build_model, load_model, save_model
from siimdet.models.yolo import (
    YoloDetector,
    adopt_weights,
    build_yolo,
    open_ultralytics,
    read_yolo_weights,
)
from siimdet.models.yolo_settings import YoloSettings

if importlib.util.find_spec("ultralytics") is None:
    pytest.skip("needs the extra `yolo`", allow_module_level=True)

from siimdet.models import yolo_trainer
from siimdet.models.yolo_data import StretchedImages, epoch_loader, read_yolo_boxes, read_yolo_tree
from siimdet.models.yolo_loss import OverlapBoxLoss, build_criterion
from siimdet.models.yolo_trainer import YoloEpoch, train_yolo

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


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "home"
    folder.mkdir()
    monkeypatch.setenv("HOME", str(folder))
    return folder


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """Eight noisy images of 80 x 100 px, most with one bright rectangle, in a YOLO tree."""
    rng = np.random.default_rng(0)
    root = tmp_path / "data"
    for folder in ("images", "labels"):
        (root / folder).mkdir(parents=True)
    for i in range(8):
        image = rng.normal(80, 12, (100, 80))
        label = ""
        if i % 4:
            x, y = rng.integers(8, 40, 2)
            image[y : y + 40, x : x + 30] += 90
            label = f"0 {(x + 15) / 80} {(y + 20) / 100} {30 / 80} {40 / 100}\n"
        cv2.imwrite(str(root / "images" / f"case{i}.png"), np.clip(image, 0, 255).astype(np.uint8))
        (root / "labels" / f"case{i}.txt").write_text(label)
    (root / "train.txt").write_text("".join(f"./images/case{i}.png\n" for i in range(8)))
    (root / "data.yaml").write_text(
        "path: .\ntrain: train.txt\nval: train.txt\nchannels: 1\nnc: 1\nnames: {0: opacity}\n"
    )
    return root / "data.yaml"


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    # At 64 px a second thread only waits, for seconds where other processes want its core.
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def train(settings: YoloSettings, tree: Path, out: Path, *, resume: bool = False, stop_after: int | None = None):
    epochs: list[YoloEpoch] = []

    def on_epoch(result: YoloEpoch) -> float:
        if result.epoch == stop_after:
            raise KeyboardInterrupt
        epochs.append(result)
        return -sum(result.losses.values())

    train_yolo(
        settings,
        data_yaml=tree,
        out=out,
        init_state=None,
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


@pytest.mark.parametrize(
    ("overlap", "expected"),
    [
        # Boxes (0, 0, 2, 2) and (1, 0, 3, 2): IoU 1/3; hull 3 x 2, all of it covered; centres 1 apart, diagonal^2 13.
        ("giou", 1 - 1 / 3),
        ("diou", 1 - 1 / 3 + 1 / 13),
        ("ciou", 1 - 1 / 3 + 1 / 13),
    ],
)
def test_the_box_loss_is_the_overlap_asked_for(overlap, expected: float) -> None:
    predicted, true = torch.tensor([[[0.0, 0, 2, 2]]]), torch.tensor([[[1.0, 0, 3, 2]]])
    assert box_loss(overlap, predicted, true) == pytest.approx(expected, abs=1e-5)


def test_giou_and_diou_differ_where_the_hull_is_empty() -> None:
    # 1 x 1 boxes in opposite corners of a 4 x 4 hull: IoU 0, 14/16 of the hull uncovered; centres 3 apart in x and y.
    predicted, true = torch.tensor([[[0.0, 0, 1, 1]]]), torch.tensor([[[3.0, 3, 4, 4]]])
    assert box_loss("giou", predicted, true) == pytest.approx(1 + 14 / 16, abs=1e-5)
    assert box_loss("diou", predicted, true) == pytest.approx(1 + 18 / 32, abs=1e-5)


def box_loss(overlap, predicted: torch.Tensor, true: torch.Tensor) -> float:
    loss = OverlapBoxLoss(16, overlap)
    one = torch.ones(1, 1, 1)
    box, _ = loss(
        torch.zeros(1, 1, 64),
        predicted,
        torch.ones(1, 2),
        true,
        one,
        one.sum(),
        torch.ones(1, 1, dtype=torch.bool),
        torch.tensor([64.0, 64.0]),
        one[0],
    )
    return float(box)


@pytest.mark.parametrize("architecture", ["yolo11n.yaml", "yolov10n.yaml"])
def test_every_head_is_trained_with_our_overlap(architecture: str) -> None:
    criterion = build_criterion(build_yolo(architecture, num_classes=1), TINY)
    parts = [criterion.one2many, criterion.one2one] if hasattr(criterion, "one2many") else [criterion]
    assert [part.bbox_loss.overlap for part in parts] == [{"GIoU": True}] * len(parts)
    assert len(parts) == (2 if "v10" in architecture else 1)


def test_a_batch_without_boxes_has_a_finite_loss() -> None:
    model = build_yolo("yolo11n.yaml", num_classes=1)
    batch = {"batch_idx": torch.zeros(0), "cls": torch.zeros(0, 1), "bboxes": torch.zeros(0, 4)}
    losses, _ = build_criterion(model, TINY)(model(torch.zeros(2, 1, 64, 64)), batch)
    assert torch.isfinite(losses).all() and losses[0] == losses[2] == 0 and losses[1] > 0


def test_training_stretches_images_and_keeps_boxes_on_them(tree: Path) -> None:
    plain = replace(TINY, flip_horizontal=0, flip_vertical=0, value_jitter=0, mixup=0, mosaic=0)
    sample = StretchedImages(read_yolo_tree(tree), plain)[1]
    image = cv2.imread(str(tree.parent / "images" / "case1.png"), cv2.IMREAD_GRAYSCALE)
    assert sample["img"].shape == (1, 64, 64)
    assert np.array_equal(sample["img"][0].numpy(), fit_image(image, 64, "stretch")[0])
    written = read_yolo_boxes(tree.parent / "images" / "case1.png", 1)
    assert sample["bboxes"].numpy() == pytest.approx(written[:, 1:], abs=1e-6)


def test_value_jitter_changes_grey_images(tree: Path) -> None:
    jittered = replace(TINY, flip_horizontal=0, flip_vertical=0, value_jitter=0.4, mixup=0, mosaic=0)
    images = StretchedImages(read_yolo_tree(tree), jittered)
    means = set()
    for images.epoch_seed in range(3):
        means.add(float(images[1]["img"].float().mean()))
    assert len(means) == 3


def test_batches_of_an_epoch_do_not_depend_on_what_was_read_before(tree: Path) -> None:
    images = StretchedImages(read_yolo_tree(tree), TINY)

    def first() -> torch.Tensor:
        return next(iter(epoch_loader(images, TINY, seed=5, pin_memory=False)))["img"]

    assert torch.equal(first(), first())


@pytest.mark.parametrize(
    ("file", "text", "message"),
    [
        ("labels/case1.txt", "0 .5 .5 .2", r"case1\.txt: line 1: found '0 \.5 \.5 \.2'"),
        ("labels/case1.txt", "0 .5 .5 .2 .2\n1 .5 .5 .2 .2", r"case1\.txt: line 2"),
        ("labels/case1.txt", "0 nan .5 .2 .2", r"case1\.txt: line 1"),
        ("labels/case1.txt", "0 .5 .5 0 .2", r"case1\.txt: line 1"),
        ("train.txt", "./images/absent.png", r"train\.txt: images: found no .*absent\.png"),
        ("train.txt", "", r"train\.txt: images: found none"),
        ("data.yaml", "names: {0: opacity}", r"data\.yaml: train: found nothing"),
    ],
)
def test_a_broken_tree_is_one_line(tree: Path, tmp_path: Path, file: str, text: str, message: str) -> None:
    (tree.parent / file).write_text(text)
    with pytest.raises(DatasetError, match=message):
        train(TINY, tree, tmp_path / "run")


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


@pytest.mark.parametrize("architecture", ["yolov5n.yaml", "yolov8n.yaml", "yolo11n", "yolov9t.yaml", "yolov8n-p2.yaml"])
def test_tables_are_found_by_name(architecture: str) -> None:
    model = build_yolo(architecture, num_classes=2)
    detector = YoloDetector(model.eval(), confidence=0.0, iou=0.5, max_detections=5)
    boxes, scores, class_ids = detector.predict(torch.zeros(1, 1, 64, 64))[0]
    assert boxes.shape == (5, 4) and scores.shape == class_ids.shape == (5,)


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
