"""RetinaNet and FCOS: losses beside torchvision's own and by hand, their sizes, what they refuse."""

import math
from typing import Any

import pytest
import torch
import torchvision
from torch import Tensor, nn
from torchvision.models.detection import FCOS, RetinaNet
from torchvision.models.detection.anchor_utils import AnchorGenerator
from torchvision.models.detection.backbone_utils import BackboneWithFPN
from torchvision.ops.feature_pyramid_network import LastLevelP6P7

from siimdet.models.box_detector import BoxDetector
from siimdet.models.fcos import build_fcos
from siimdet.models.retinanet import build_retinanet

GREY = {"mean": (0.45, 0.45, 0.45), "std": (0.2, 0.2, 0.2)}
SIDE = 128
SIZES = (8, 16, 32, 64, 96)


pytestmark = pytest.mark.usefixtures("one_thread")


def build(family: str, **changes: Any) -> BoxDetector:
    torch.manual_seed(0)
    settings: dict[str, Any] = {"num_classes": 3, "fpn_channels": 64, "freeze_batch_norm": False, **GREY}
    if family == "fcos":
        return build_fcos("resnet18", **(settings | changes))
    return build_retinanet("resnet18", **({"anchor_sizes": SIZES, "anchor_octaves": 2} | settings | changes))


def torchvisions(family: str) -> nn.Module:
    """The same network, built by torchvision alone."""
    body = torchvision.models.resnet18(weights=None)
    names = {"layer2": "0", "layer3": "1", "layer4": "2"}
    pyramid: Any = BackboneWithFPN(body, names, [128, 256, 512], 64, LastLevelP6P7(64, 64))
    common: dict[str, Any] = {"num_classes": 3, "min_size": SIDE, "image_mean": [0.45] * 3, "image_std": [0.2] * 3}
    if family == "fcos":
        return FCOS(pyramid, **common)
    sizes: Any = tuple((size, size * 2**0.5) for size in SIZES)
    model = RetinaNet(pyramid, anchor_generator=AnchorGenerator(sizes, ((0.5, 1.0, 2.0),) * 5), **common)
    model.head.regression_head._loss_type = "giou"
    return model


@pytest.mark.parametrize("family", ["retinanet", "fcos"])
def test_losses_with_giou_are_torchvisions_own(family):
    ours = build(family, **({"box_loss": "giou"} if family == "retinanet" else {}))
    theirs = torchvisions(family)
    theirs.load_state_dict(ours.detector.state_dict())
    images = torch.rand(2, 1, SIDE, SIDE, generator=torch.Generator().manual_seed(1))
    boxes = [torch.tensor([[10.0, 10, 40, 40], [60, 30, 128, 100]]), torch.zeros(0, 4)]
    class_ids = [torch.tensor([2, 0]), torch.zeros(0, dtype=torch.int64)]
    found = ours.train()(images, boxes, class_ids)
    targets = [{"boxes": b, "labels": c} for b, c in zip(boxes, class_ids, strict=True)]
    expected = theirs.train()(list(images.expand(2, 3, SIDE, SIDE)), targets)
    assert {name: value.item() for name, value in found.items()} == pytest.approx(
        {name: value.item() for name, value in expected.items()}, rel=1e-6
    )


def parameters(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


def test_the_full_detectors_have_torchvisions_number_of_parameters():
    detection = torchvision.models.detection
    with torch.device("meta"):
        theirs = detection.retinanet_resnet50_fpn(weights=None, weights_backbone=None)
        ours = build_retinanet("resnet50", num_classes=91, freeze_batch_norm=False, **GREY)
        assert parameters(ours) == parameters(theirs)
        theirs = detection.fcos_resnet50_fpn(weights=None, weights_backbone=None)
        ours = build_fcos("resnet50", num_classes=91, freeze_batch_norm=False, **GREY)
        assert parameters(ours) == parameters(theirs)


def box_loss(loss: str, codes: list[list[float]], matched: list[int]) -> Tensor:
    """Of an image with the anchor of 30 x 20 px and a true box of 20 x 20 px in its corner, and of an empty one."""
    head = build("retinanet", box_loss=loss).detector.head.regression_head
    anchors = torch.tensor([[0.0, 0, 30, 20]] * len(codes))
    targets = [{"boxes": torch.tensor([[0.0, 0, 20, 20]])}, {"boxes": torch.zeros(0, 4)}]
    outputs = {"bbox_regression": torch.tensor([codes, codes])}
    nothing = torch.full((len(codes),), -1)
    return head.compute_loss(targets, outputs, [anchors, anchors], [torch.tensor(matched), nothing])


IOU, DISTANCE = 400 / 600, 5**2 / (30**2 + 20**2)
ASPECT = 4 / math.pi**2 * (math.atan(1) - math.atan(1.5)) ** 2


@pytest.mark.parametrize(
    ("loss", "expected"),
    [
        ("smooth_l1", (5 / 30 - 1 / 18) + (math.log(1.5) - 1 / 18)),  # codes -5/30, 0, -log 1.5, 0; both beyond 1/9
        ("giou", 1 - IOU),
        ("diou", 1 - IOU + DISTANCE),
        ("ciou", 1 - IOU + DISTANCE + ASPECT**2 / (1 - IOU + ASPECT)),
    ],
)
def test_box_losses_of_retinanet_by_hand(loss, expected):
    still = [0.0, 0, 0, 0]
    # Means over the two images, and over the first one's two anchors on its box; -2 is neither on a box nor beside.
    assert box_loss(loss, [still] * 4, [0, 0, -1, -2]).item() == pytest.approx(expected / 2, rel=1e-5)


def test_smooth_l1_of_retinanet_is_a_square_below_a_ninth():
    right = [-5 / 30, 0.06, -math.log(1.5), 0]
    assert box_loss("smooth_l1", [right], [0]).item() == pytest.approx(0.5 * 0.06**2 * 9 / 2, rel=1e-4)


def test_octaves_are_the_steps_to_twice_an_anchors_size():
    generator: Any = build("retinanet", anchor_octaves=3).detector.anchor_generator
    assert generator.sizes[0] == pytest.approx((8, 8 * 2 ** (1 / 3), 8 * 2 ** (2 / 3)))
    assert generator.num_anchors_per_location() == [9] * 5


def test_anchors_must_fit_the_levels():
    with pytest.raises(ValueError, match="4 anchor sizes, expected 5: one per pyramid level"):
        build("retinanet", anchor_sizes=(8, 16, 32, 64))
    with pytest.raises(ValueError, match="5 anchor sizes, expected 6: one per pyramid level"):
        build("retinanet", finest_stage=1)


@pytest.mark.parametrize("channels", [32, 80])
def test_fcos_refuses_channels_that_its_norms_cannot_group(channels):
    with pytest.raises(ValueError, match=f"{channels} channels of the pyramid, expected a multiple of 32 from 64 on"):
        build("fcos", fpn_channels=channels)


@pytest.mark.parametrize("family", ["retinanet", "fcos"])
def test_the_detections_kept_are_as_many_as_asked(family):
    model = build(family, detections_per_image=7, score_threshold=0.0).eval()
    nn.init.constant_(model.detector.head.regression_head.bbox_reg.bias, 0.5)  # boxes with an area
    assert [len(scores) for _, scores, _ in model.predict(torch.rand(2, 1, SIDE, SIDE))] == [7, 7]
