"""The losses of YOLO: known overlaps, pinned values, and finite ones for every batch that a data set may give.

Shapes as in the module: boxes of a batch as fractions of the image, centre and extent.
"""

import importlib.util
from typing import Any

import pytest
import torch

from siimdet.models.yolo import build_yolo
from siimdet.models.yolo_settings import YoloSettings

if importlib.util.find_spec("ultralytics") is None:
    pytest.skip("needs the extra `yolo`", allow_module_level=True)

from siimdet.models.yolo_loss import OverlapBoxLoss, build_criterion

pytestmark = pytest.mark.usefixtures("home", "one_thread")

SMALL = YoloSettings(image_size=64)


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
    criterion = build_criterion(build_yolo(architecture, num_classes=1), SMALL)
    parts = [criterion.one2many, criterion.one2one] if hasattr(criterion, "one2many") else [criterion]
    assert [part.bbox_loss.overlap for part in parts] == [{"GIoU": True}] * len(parts)
    assert len(parts) == (2 if "v10" in architecture else 1)


def fresh(architecture: str) -> tuple[Any, Any]:
    """A model of seeded weights and its criterion."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = build_yolo(architecture, num_classes=1)
    return model.train(), build_criterion(model, SMALL)


def noise(count: int) -> torch.Tensor:
    return torch.rand(count, 1, 64, 64, generator=torch.Generator().manual_seed(0))


def batch_of(*images: list[list[float]]) -> dict[str, torch.Tensor]:
    """The boxes of every image, as fractions: centre and extent."""
    rows = [(float(number), box) for number, boxes in enumerate(images) for box in boxes]
    boxes = torch.tensor([box for _, box in rows]).reshape(-1, 4)
    return {"batch_idx": torch.tensor([n for n, _ in rows]), "cls": torch.zeros(len(rows), 1), "bboxes": boxes}


def test_a_batch_without_boxes_has_the_class_loss_alone() -> None:
    model, criterion = fresh("yolo11n.yaml")
    losses, _ = criterion(model(noise(2)), batch_of([], []))
    assert torch.isfinite(losses).all() and losses[0] == losses[2] == 0 and losses[1] > 0


FULL = [0.5, 0.5, 1.0, 1.0]
BORDERS = {
    "left": [0.15, 0.5, 0.3, 0.6],
    "right": [0.85, 0.5, 0.3, 0.6],
    "top": [0.5, 0.15, 0.6, 0.3],
    "bottom": [0.5, 0.85, 0.6, 0.3],
}


BATCHES = {
    "no image with boxes": [[], []],
    "one image without boxes": [[]],
    "one image with a box over it": [[FULL]],
    "a box at every border": [list(BORDERS.values()), []],
    **{f"one image with a box at its {side}": [[box]] for side, box in BORDERS.items()},
}


@pytest.mark.parametrize("images", BATCHES.values(), ids=BATCHES.keys())
@pytest.mark.parametrize("architecture", ["yolov5n", "yolo11n", "yolov10n", "yolo26n"])
def test_losses_and_gradients_are_finite(architecture: str, images: list[list[list[float]]]) -> None:
    check_finite(architecture, images)


@pytest.mark.parametrize("architecture", ["yolov3-tiny", "yolov6n", "yolov8n", "yolov9t", "yolo12n"])
def test_those_of_the_other_families_are_too(architecture: str) -> None:
    check_finite(architecture, [[*BORDERS.values(), FULL], []])


def check_finite(architecture: str, images: list[list[list[float]]]) -> None:
    model, criterion = fresh(architecture)
    losses, items = criterion(model(noise(len(images))), batch_of(*images))
    losses.sum().backward()
    gradients = [parameter.grad for parameter in model.parameters() if parameter.grad is not None]
    assert len(gradients) > 30
    assert all(torch.isfinite(values).all() for values in (losses, *items.values(), *gradients))


@pytest.mark.parametrize(
    ("architecture", "expected"),
    [
        ("yolov5n.yaml", [16.600327, 5.111790, 12.419769]),
        ("yolo11n.yaml", [16.499992, 5.557006, 12.966799]),
    ],
)
def test_losses_of_two_images_are_pinned(architecture: str, expected: list[float]) -> None:
    model, criterion = fresh(architecture)
    losses, items = criterion(model(noise(2)), batch_of([[0.4, 0.5, 0.5, 0.75], FULL], [[0.7, 0.3, 0.4, 0.5]]))
    assert losses.tolist() == pytest.approx(expected, rel=1e-4)
    assert [float(value) for value in items.values()] == pytest.approx([value / 2 for value in expected], rel=1e-4)
