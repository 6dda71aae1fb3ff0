"""Faster R-CNN: its size, its losses beside torchvision's own and by hand, its input and its boxes."""

import math
from typing import Any

import pytest
import torch
import torchvision
from torch import nn
from torchvision.models.detection.anchor_utils import AnchorGenerator
from torchvision.models.detection.backbone_utils import BackboneWithFPN
from torchvision.models.detection.faster_rcnn import FastRCNNPredictor, TwoMLPHead
from torchvision.ops import FrozenBatchNorm2d, MultiScaleRoIAlign

from siimdet.models.box_detector import BoxDetector
from siimdet.models.faster_rcnn import build_faster_rcnn

GREY = {"mean": (0.45, 0.45, 0.45), "std": (0.2, 0.2, 0.2)}
SIDE = 64


def build(**changes) -> BoxDetector:
    torch.manual_seed(0)
    small = {
        "num_classes": 1,
        "finest_stage": 2,
        "fpn_channels": 32,
        "box_head_features": 32,
        "anchor_sizes": (8, 16, 32, 48),
        "proposals": 50,
        "training_regions": 32,
        "freeze_batch_norm": False,
    }
    return build_faster_rcnn("resnet18", **(small | GREY | changes))


@pytest.fixture(scope="module", autouse=True)
def one_thread():
    """Threads of small convolutions wait for each other longer than they work, most of all on busy cores."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def model() -> BoxDetector:
    return build()


def parameters(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


def losses(model: BoxDetector, boxes: list[list[list[float]]]) -> dict[str, torch.Tensor]:
    torch.manual_seed(1)
    images = torch.rand(len(boxes), 1, SIDE, SIDE)
    tensors = [torch.tensor(b, dtype=torch.float32).reshape(-1, 4) for b in boxes]
    return model.train()(images, tensors, [torch.zeros(len(b), dtype=torch.int64) for b in boxes])


def test_parameters_of_the_small_detector_by_hand(model):
    body = parameters(model.detector.backbone.body)
    channels, out = (128, 256, 512), 32
    pyramid = sum(c * out + out for c in channels) + 3 * (9 * out * out + out)
    proposals = (9 * out * out + out) + (out * 3 + 3) + (out * 12 + 12)
    head = (49 * out * 32 + 32) + (32 * 32 + 32) + (32 * 2 + 2) + (32 * 8 + 8)
    assert body == 11_689_512 - 513_000  # torchvision's published number less its 1,000-class layer
    assert parameters(model) == body + pyramid + proposals + head


def test_the_full_detector_has_torchvisions_number_of_parameters():
    # Published for fasterrcnn_resnet50_fpn with 91 classes, background included.
    published = torchvision.models.detection.FasterRCNN_ResNet50_FPN_Weights.COCO_V1.meta["num_params"]
    with torch.device("meta"):
        theirs = torchvision.models.detection.fasterrcnn_resnet50_fpn(weights=None, weights_backbone=None)
        ours = build_faster_rcnn("resnet50", num_classes=90, freeze_batch_norm=False, **GREY)
    assert parameters(ours) == parameters(theirs)
    norms = sum(parameters(m) for m in ours.modules() if isinstance(m, nn.BatchNorm2d))
    assert parameters(ours) - norms in (published, published - norms)


def test_first_losses_are_those_of_an_untrained_guess(model):
    found = losses(model, [[[10, 10, 40, 40]], [[20, 5, 60, 50]]])
    assert float(found["loss_objectness"].detach()) == pytest.approx(math.log(2), abs=0.05)
    assert float(found["loss_classifier"].detach()) == pytest.approx(math.log(2), abs=0.35)


def test_predictions_are_in_input_pixels_best_first_and_zero_based(model):
    images = torch.rand(3, 1, SIDE, SIDE)
    model.eval()
    found = model.predict(images)
    assert len(found) == 3
    for boxes, scores, class_ids in found:
        assert boxes.shape == (len(scores), 4)
        assert (boxes >= 0).all()
        assert (boxes <= SIDE).all()
        assert (scores.diff() <= 0).all()
        assert set(class_ids.tolist()) <= {0}
    alone = model.predict(images[1:2])[0]
    assert torch.allclose(alone[1][:5], found[1][1][:5], atol=1e-4)


def test_the_input_is_neither_resized_nor_normalised_twice(model):
    seen = []
    hook = model.detector.backbone.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    images = torch.rand(2, 1, SIDE, SIDE)
    model.eval().predict(images)
    hook.remove()
    assert torch.allclose(seen[0], ((images - 0.45) / 0.2).expand(2, 3, SIDE, SIDE))


def test_frozen_norms_keep_their_statistics_and_take_no_gradient():
    frozen = build(freeze_batch_norm=True)
    norms = [m for m in frozen.modules() if isinstance(m, FrozenBatchNorm2d)]
    assert len(norms) == 20
    assert not any(isinstance(m, nn.BatchNorm2d) for m in frozen.modules())
    before = [m.running_mean.clone() for m in norms]
    torch.stack(list(losses(frozen, [[[10, 10, 40, 40]]]).values())).sum().backward()
    assert all(torch.equal(old, m.running_mean) for old, m in zip(before, norms, strict=True))
    assert not any(isinstance(m, nn.BatchNorm2d) or list(m.parameters()) for m in norms)


def test_free_norms_learn_their_statistics():
    free = build()
    norm = next(m for m in free.modules() if isinstance(m, nn.BatchNorm2d))
    before = norm.running_mean.clone()
    losses(free, [[[10, 10, 40, 40]]])
    assert not torch.equal(before, norm.running_mean)


def test_anchors_must_fit_the_levels():
    with pytest.raises(ValueError, match="3 anchor sizes, expected 4: one per pyramid level"):
        build(anchor_sizes=(8, 16, 32))


def torchvisions() -> torchvision.models.detection.FasterRCNN:
    """The same network, built by torchvision alone."""
    body = torchvision.models.resnet18(weights=None)
    names = {"layer2": "0", "layer3": "1", "layer4": "2"}
    pyramid: Any = BackboneWithFPN(body, names, [128, 256, 512], 32)
    return torchvision.models.detection.FasterRCNN(
        pyramid,
        rpn_anchor_generator=AnchorGenerator(((8,), (16,), (32,), (48,)), ((0.5, 1.0, 2.0),) * 4),
        box_roi_pool=MultiScaleRoIAlign(["0", "1", "2"], output_size=7, sampling_ratio=2),
        box_head=TwoMLPHead(32 * 49, 32),
        box_predictor=FastRCNNPredictor(32, 2),
        rpn_pre_nms_top_n_train=100,
        rpn_post_nms_top_n_train=100,
        rpn_pre_nms_top_n_test=50,
        rpn_post_nms_top_n_test=50,
        box_batch_size_per_image=32,
        box_score_thresh=0.001,
    )


def test_smooth_l1_is_torchvisions_own_to_the_bit():
    ours, theirs = build(), torchvisions()
    theirs.load_state_dict(ours.detector.state_dict())
    theirs.transform = ours.detector.transform  # theirs draws a size of the image, and so other regions after it
    found = losses(ours, [[[10, 10, 40, 40]], []])
    torch.manual_seed(1)
    images = list(ours.inputs(torch.rand(2, 1, SIDE, SIDE)))
    truth = [torch.tensor([[10.0, 10, 40, 40]]), torch.zeros(0, 4)]
    expected = theirs.train()(images, [{"boxes": b, "labels": torch.ones(len(b), dtype=torch.int64)} for b in truth])
    assert {name: value.item() for name, value in found.items()} == {k: v.item() for k, v in expected.items()}


IOU, DISTANCE = 400 / 600, 5**2 / (30**2 + 20**2)  # of 30 x 20 px and 20 x 20 px with a corner in common
ASPECT = 4 / math.pi**2 * (math.atan(1) - math.atan(1.5)) ** 2


@pytest.mark.parametrize(
    ("loss", "expected"),
    [
        ("giou", 1 - IOU),  # the smallest box around both is their union
        ("diou", 1 - IOU + DISTANCE),
        ("ciou", 1 - IOU + DISTANCE + ASPECT**2 / (1 - IOU + ASPECT)),
    ],
)
def test_overlaps_of_regions_are_summed_over_the_sampled_regions(loss, expected):
    model = build(box_loss=loss)
    heads = model.detector.roi_heads.train()
    for parameter in heads.box_predictor.bbox_pred.parameters():
        nn.init.zeros_(parameter)  # boxes stay the regions that they come from
    features = {str(level): torch.rand(2, 32, 8 >> level, 8 >> level) for level in range(3)}
    proposals = [torch.tensor([[0.0, 0, 30, 20]]), torch.tensor([[9.0, 9, 19, 19], [40, 0, 50, 9]])]
    targets = [
        {"boxes": torch.tensor([[0.0, 0, 20, 20]]), "labels": torch.ones(1, dtype=torch.int64)},
        {"boxes": torch.zeros(0, 4), "labels": torch.zeros(0, dtype=torch.int64)},
    ]
    _, found = heads(features, proposals, [(SIDE, SIDE)] * 2, targets)
    # Sampled are the proposal and the box itself (loss 0) of the first image, and the second image's two.
    assert found["loss_box_reg"].item() == pytest.approx(expected / 4, rel=1e-5)


def test_an_overlap_changes_the_second_stages_boxes_alone():
    smooth, overlap = (losses(build(box_loss=loss), [[[10, 10, 40, 40]], []]) for loss in ("smooth_l1", "giou"))
    assert {name for name in smooth if not torch.equal(smooth[name], overlap[name])} == {"loss_box_reg"}
