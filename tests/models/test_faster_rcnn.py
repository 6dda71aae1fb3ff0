"""Faster R-CNN: its size, its losses on awkward batches, its input and its boxes."""

import math

import pytest
import torch
import torchvision
from torch import nn
from torchvision.ops import FrozenBatchNorm2d

from siimdet.models.faster_rcnn import FasterRCNN, build_faster_rcnn

GREY = {"mean": (0.45, 0.45, 0.45), "std": (0.2, 0.2, 0.2)}
SIDE = 64


def build(**changes) -> FasterRCNN:
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
def model() -> FasterRCNN:
    return build()


def parameters(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


def losses(model: FasterRCNN, boxes: list[list[list[float]]]) -> dict[str, torch.Tensor]:
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


@pytest.mark.parametrize(
    "boxes",
    [
        [[[10, 10, 40, 40]], []],
        [[], []],
        [[[5, 5, 30, 50]]],
        [[]],
        [[[0, 0, 64, 64], [0, 0, 8, 8], [56, 56, 64, 64], [0, 60, 64, 64]]],
        [[[20, 20, 21, 21], [20.25, 20.5, 60.75, 22.5]]],
    ],
    ids=["one-empty", "all-empty", "one-image", "one-empty-image", "border", "tiny"],
)
def test_losses_and_gradients_are_finite(model, boxes):
    model.zero_grad()
    found = losses(model, boxes)
    assert set(found) == {"loss_classifier", "loss_box_reg", "loss_objectness", "loss_rpn_box_reg"}
    total = torch.stack(list(found.values())).sum()
    assert total.isfinite()
    total.backward()
    gradients = [p.grad for p in model.parameters() if p.grad is not None]
    assert gradients
    assert all(gradient.isfinite().all() for gradient in gradients)
    if not any(boxes):
        assert found["loss_box_reg"] == 0
        assert found["loss_rpn_box_reg"] == 0


def test_first_losses_are_those_of_an_untrained_guess(model):
    found = losses(model, [[[10, 10, 40, 40]], [[20, 5, 60, 50]]])
    assert float(found["loss_objectness"].detach()) == pytest.approx(math.log(2), abs=0.05)
    assert float(found["loss_classifier"].detach()) == pytest.approx(math.log(2), abs=0.35)


def test_a_few_steps_on_one_square_lower_the_loss():
    model = build(training_regions=64)
    image = torch.full((1, 1, SIDE, SIDE), 0.3)
    box = [12.0, 20, 44, 50]
    image[:, :, 20:50, 12:44] = 0.9
    optimiser = torch.optim.AdamW(model.parameters(), lr=2e-3)
    totals = []
    torch.manual_seed(0)
    for _ in range(12):
        found = model.train()(
            image.repeat(2, 1, 1, 1), [torch.tensor([box])] * 2, [torch.zeros(1, dtype=torch.int64)] * 2
        )
        total = torch.stack(list(found.values())).sum()
        optimiser.zero_grad()
        total.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 10.0)
        optimiser.step()
        totals.append(float(total.detach()))
    assert sum(totals[-3:]) < 0.7 * sum(totals[:3])


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
