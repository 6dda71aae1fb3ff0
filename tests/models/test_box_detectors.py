"""What holds for every family of torchvision's detectors: losses, gradients, precision, sizes, predictions."""

import copy
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torchvision.ops import box_iou

from siimdet.models.bodies import GreyInput
from siimdet.models.box_detector import BoxDetector
from siimdet.models.faster_rcnn import build_faster_rcnn
from siimdet.models.fcos import build_fcos
from siimdet.models.retinanet import build_retinanet

SIDE = 64
SMALL: dict[str, Any] = {
    "num_classes": 2,
    "mean": (0.45, 0.45, 0.45),
    "std": (0.2, 0.2, 0.2),
    "finest_stage": 2,
    "fpn_channels": 64,
    "freeze_batch_norm": False,
}
REGIONS = {"anchor_sizes": (8, 16, 32, 48), "box_head_features": 32, "proposals": 50, "training_regions": 32}
FAMILIES: dict[str, Callable[..., BoxDetector]] = {
    "faster_rcnn": lambda body, **changes: build_faster_rcnn(body, **(SMALL | REGIONS | changes)),
    "retinanet": lambda body, **changes: build_retinanet(
        body, **(SMALL | {"anchor_sizes": (8, 16, 24, 32, 48)} | changes)
    ),
    "fcos": lambda body, **changes: build_fcos(body, **(SMALL | changes)),
}
LEVELS = {"retinanet": {"anchor_sizes": (8, 16, 24, 32, 48, 64)}}
TWO_IMAGES = [[[10, 10, 40, 40]], [[20, 5, 60, 50], [0, 40, 24, 64]]]
PINNED: list[tuple[str, dict[str, str], dict[str, float]]] = [
    (
        "faster_rcnn",
        {"box_loss": "smooth_l1"},
        {
            "loss_classifier": 1.05748,
            "loss_box_reg": 0.0160888,
            "loss_objectness": 0.699489,
            "loss_rpn_box_reg": 0.00468141,
        },
    ),
    (
        "faster_rcnn",
        {"box_loss": "giou"},
        {
            "loss_classifier": 1.05748,
            "loss_box_reg": 0.00395028,
            "loss_objectness": 0.699489,
            "loss_rpn_box_reg": 0.00468141,
        },
    ),
    (
        "faster_rcnn",
        {"box_loss": "diou"},
        {
            "loss_classifier": 1.05748,
            "loss_box_reg": 0.00391143,
            "loss_objectness": 0.699489,
            "loss_rpn_box_reg": 0.00468141,
        },
    ),
    (
        "faster_rcnn",
        {"box_loss": "ciou"},
        {
            "loss_classifier": 1.05748,
            "loss_box_reg": 0.00391152,
            "loss_objectness": 0.699489,
            "loss_rpn_box_reg": 0.00468141,
        },
    ),
    ("retinanet", {"box_loss": "smooth_l1"}, {"classification": 1.12907, "bbox_regression": 0.608642}),
    ("retinanet", {"box_loss": "giou"}, {"classification": 1.12907, "bbox_regression": 0.562051}),
    ("retinanet", {"box_loss": "diou"}, {"classification": 1.12907, "bbox_regression": 0.534679}),
    ("retinanet", {"box_loss": "ciou"}, {"classification": 1.12907, "bbox_regression": 0.535529}),
    ("fcos", {}, {"classification": 1.13278, "bbox_regression": 0.998331, "bbox_ctrness": 0.69737}),
]

each_family = pytest.mark.parametrize("family", FAMILIES)


pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def models() -> dict[str, BoxDetector]:
    return {family: build(family) for family in FAMILIES}


def build(family: str, body: str = "resnext14_32x4d", **changes) -> BoxDetector:
    torch.manual_seed(0)
    return FAMILIES[family](body, **changes)


def losses(model: BoxDetector, boxes: list[list[list[float]]], side: int = SIDE) -> dict[str, Tensor]:
    torch.manual_seed(1)
    images = torch.rand(len(boxes), 1, side, side)
    tensors = [torch.tensor(b, dtype=torch.float32).reshape(-1, 4) for b in boxes]
    return model.train()(images, tensors, [torch.arange(len(b)) for b in boxes])


def total(found: dict[str, Tensor]) -> Tensor:
    return torch.stack(list(found.values())).sum()


@pytest.mark.parametrize(("family", "changes", "expected"), PINNED)
def test_losses_of_two_images_are_those_of_this_release(family, changes, expected):
    found = losses(build(family, **changes), TWO_IMAGES)
    assert {name: value.item() for name, value in found.items()} == pytest.approx(expected, rel=1e-4)


@each_family
@pytest.mark.parametrize(
    "boxes",
    [
        [[[10, 10, 40, 40]], []],
        [[], []],
        [[[5, 5, 30, 50]]],
        [[]],
        [[[0, 0, 64, 64], [0, 60, 64, 64]], [[56, 56, 64, 64], [0, 0, 8, 8]]],
        [[[20, 20, 21, 21], [20.25, 20.5, 60.75, 22.5]]],
    ],
    ids=["one-empty", "all-empty", "one-image", "one-empty-image", "border", "tiny"],
)
def test_losses_and_gradients_are_finite(models, family, boxes):
    model = models[family]
    model.zero_grad()
    found = losses(model, boxes)
    total(found).backward()
    assert total(found).isfinite()
    assert all(parameter.grad.isfinite().all() for parameter in model.parameters())  # none is None: DDP needs them all
    if not any(boxes):
        of_boxes = [value for name, value in found.items() if "class" not in name and name != "loss_objectness"]
        assert of_boxes
        assert all(value == 0 for value in of_boxes)


@each_family
@pytest.mark.parametrize("body", ["resnet18", "efficientnet_lite0", "resnet10t", "convnext_atto"])
def test_every_weight_gets_a_gradient_whatever_the_body(family, body):
    model = build(family, body, freeze_batch_norm=True, finest_stage=3 if family == "fcos" else 2)
    total(losses(model, TWO_IMAGES)).backward()
    assert [name for name, parameter in model.named_parameters() if parameter.grad is None] == []


@pytest.mark.parametrize("loss", ["giou", "diou", "ciou"])
@pytest.mark.parametrize("family", ["faster_rcnn", "retinanet"])
def test_overlaps_have_finite_gradients_at_the_border_and_without_boxes(family, loss):
    model = build(family, box_loss=loss)
    total(losses(model, [[[0, 0, 64, 64], [0, 60, 64, 64]], []])).backward()
    assert all(parameter.grad.isfinite().all() for parameter in model.parameters())


@each_family
@pytest.mark.parametrize("precision", [torch.bfloat16, torch.float16], ids=str)
def test_losses_are_computed_in_float32_under_autocast(models, family, precision):
    model = copy.deepcopy(models[family])
    plain = losses(model, TWO_IMAGES)
    seen: list[Tensor] = []
    hooks = [m.register_forward_hook(lambda *call: seen.append(call[2])) for m in model.modules() if not m._modules]
    with torch.autocast("cpu", dtype=precision):
        found = losses(model, TWO_IMAGES)
    for hook in hooks:
        hook.remove()
    assert precision in {values.dtype for values in seen if isinstance(values, Tensor)}
    for name, value in found.items():
        assert value.dtype == torch.float32
        assert value.item() == pytest.approx(plain[name].item(), rel=0.05, abs=0.02), name


@pytest.mark.parametrize("family", ["retinanet", "fcos"])
def test_focal_losses_of_many_places_are_no_infinity_in_float16(family):
    model = build(family, "mobilenetv3_small_050", finest_stage=1, **LEVELS.get(family, {}))
    nn.init.constant_(model.detector.head.classification_head.cls_logits.bias, 40.0)  # every place says both classes
    with torch.autocast("cpu", dtype=torch.float16):
        found = losses(model, [[]], side=128)
    places = sum((128 // stride) ** 2 for stride in (4, 8, 16, 32, 64, 128)) * (9 if family == "retinanet" else 1)
    assert found["classification"].item() == pytest.approx(0.75 * 40 * 2 * places, rel=0.01)
    assert found["classification"].item() > torch.finfo(torch.float16).max


@each_family
@pytest.mark.parametrize("side", [32, 96, 100, 160])
def test_any_side_can_be_predicted(models, family, side):
    for boxes, scores, class_ids in models[family].eval().predict(torch.rand(2, 1, side, side)):
        assert 0 < len(scores) <= 100
        assert boxes.min() >= 0
        assert boxes.max() <= side
        assert (boxes[:, 2:] > boxes[:, :2]).all()
        assert (scores.diff() <= 0).all()
        assert set(class_ids.tolist()) <= {0, 1}


class Fixed(nn.Module):
    """Predicts what it was given."""

    def __init__(self, *boxes: list[float]) -> None:
        super().__init__()
        self.boxes = torch.tensor(boxes)

    def forward(self, images: list[Tensor]) -> list[dict[str, Tensor]]:
        scores = torch.linspace(0.9, 0.1, len(self.boxes))
        return [{"boxes": self.boxes, "scores": scores, "labels": torch.arange(len(self.boxes))} for _ in images]


def test_boxes_without_area_take_no_place_among_those_kept():
    boxes = [[5.0, 5, 5, 9], [1, 1, 8, 8], [0, 9, 7, 9], [2, 2, 9, 9], [3, 3, 9, 9]]
    model = BoxDetector(GreyInput([0.5], [0.5]), Fixed(*boxes), first_label=1, detections_per_image=2)
    ((found, scores, class_ids),) = model.predict(torch.zeros(1, 1, 16, 16))
    assert found.tolist() == [boxes[1], boxes[3]]
    assert scores.tolist() == pytest.approx([0.7, 0.3])
    assert class_ids.tolist() == [0, 2]


TRUTH = [[8.0, 8, 32, 32], [36.0, 24, 60, 60]]


def squares() -> Tensor:
    images = torch.full((1, 1, SIDE, SIDE), 0.3)
    images[:, :, 8:32, 8:32] = 0.9
    images[:, :, 24:60, 36:60] = 0.0
    return images


@each_family
def test_two_squares_are_learnt_each_with_its_class(family):
    model = build(family, "mobilenetv3_small_050").train()
    optimiser = torch.optim.AdamW(model.parameters(), lr=3e-3)
    torch.manual_seed(0)
    for _ in range(60):
        found = model(squares(), [torch.tensor(TRUTH)], [torch.tensor([0, 1])])
        optimiser.zero_grad()
        total(found).backward()
        nn.utils.clip_grad_norm_(model.parameters(), 10.0)
        optimiser.step()
    ((boxes, _, class_ids),) = model.eval().predict(squares())
    for class_id, box in enumerate(TRUTH):
        best = boxes[class_ids == class_id][:1]
        assert box_iou(best, torch.tensor([box])).item() > 0.7
