"""Pyramids: strides and channels of their levels, names of their tensors, bodies that they stand on or refuse."""

import pytest
import torch
from torch import nn
from torchvision.ops import FrozenBatchNorm2d

from siimdet.errors import RunError
from siimdet.models.anchors import Anchors
from siimdet.models.bodies import build_body
from siimdet.models.pyramid import build_pyramid, freeze_norms, level_strides, stage_maps

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.mark.parametrize(
    ("body", "channels"),
    [
        ("resnext101_32x8d", [256, 512, 1024, 2048]),
        ("resnext14_32x4d", [256, 512, 1024, 2048]),
        ("resnet18", [64, 128, 256, 512]),
        ("efficientnet_lite0", [24, 40, 112, 320]),
        ("resnet10t", [64, 128, 256, 512]),
        ("convnext_atto", [40, 80, 160, 320]),
    ],
)
def test_stages_have_their_channels_and_strides(body, channels):
    with torch.device("meta"):
        pyramid = build_pyramid(body, finest_stage=1, channels=8, coarser="pooled", freeze_batch_norm=False)
        maps = stage_maps(pyramid.body, torch.zeros(2, 3, 64, 96))
    assert [values.shape[1] for values in maps] == channels
    assert [tuple(values.shape[2:]) for values in maps] == [(16, 24), (8, 12), (4, 6), (2, 3)]


@pytest.mark.parametrize("coarser", ["pooled", "convolved"])
@pytest.mark.parametrize("finest", [1, 2, 3, 4])
@pytest.mark.parametrize("body", ["resnet18", "efficientnet_lite0"])
def test_levels_have_the_strides_that_anchors_are_told(body, finest, coarser):
    with torch.device("meta"):
        pyramid = build_pyramid(body, finest_stage=finest, channels=8, coarser=coarser, freeze_batch_norm=True)
        maps = list(pyramid(torch.zeros(2, 3, 256, 256)).values())
    assert [values.shape[1] for values in maps] == [8] * len(maps)
    assert tuple(256 // values.shape[2] for values in maps) == level_strides(finest, coarser)


@pytest.mark.parametrize("body", ["resnet18", "efficientnet_lite0", "convnext_atto"])
def test_tensors_of_the_trunk_have_the_bodys_names(body):
    with torch.device("meta"):
        whole = build_body(body).state_dict()
        trunk = build_pyramid(body, finest_stage=2, channels=8, coarser="pooled", freeze_batch_norm=False)
    own = trunk.body.state_dict()
    assert {key: value.shape for key, value in own.items()}.items() <= {k: v.shape for k, v in whole.items()}.items()
    behind = {key.partition(".")[0] for key in whole.keys() - own.keys()}
    assert behind == {"resnet18": set(), "efficientnet_lite0": {"conv_head", "bn2"}, "convnext_atto": {"head"}}[body]


@pytest.mark.parametrize(
    ("body", "found"),
    [
        ("densenet121", "densenet121, DenseNet"),
        ("vgg16", "vgg16, VGG"),
        ("slice_fcn", "slice_fcn, PlainBody"),
        ("inception_v3", r"inception_v3, maps of \[\(28, 28\)"),
        ("maxvit_pico_rw_256", r"maxvit_pico_rw_256, height \(4\) must be divisible by window \(8\)"),
        ("vit_tiny_patch16_224", "vit_tiny_patch16_224, a transformer"),
    ],
)
def test_a_body_without_such_stages_is_refused_in_one_line(body, found):
    with pytest.raises(RunError, match=rf"^model: body: found {found}.*, expected a [^\n]*$"):
        build_pyramid(body, finest_stage=1, channels=8, coarser="pooled", freeze_batch_norm=False)


@pytest.mark.parametrize("body", ["resnet18", "efficientnet_lite0"])
def test_frozen_norms_compute_what_the_living_ones_do(body):
    torch.manual_seed(0)
    living = build_body(body)
    with torch.no_grad():
        for name, value in living.state_dict().items():
            if name.endswith(("running_mean", "running_var", "bias", "weight")) and value.ndim == 1:
                value.uniform_(0.5, 1.5)
    frozen = build_body(body)
    freeze_norms(frozen)
    frozen.load_state_dict(living.state_dict(), strict=False)
    norms = [module for module in living.modules() if isinstance(module, nn.BatchNorm2d)]
    assert len([m for m in frozen.modules() if isinstance(m, FrozenBatchNorm2d)]) == len(norms)
    assert not any(isinstance(m, nn.BatchNorm2d) for m in frozen.modules())
    images = torch.rand(1, 3, 64, 64)
    with torch.no_grad():
        for one, other in zip(stage_maps(living.eval(), images), stage_maps(frozen.train(), images), strict=True):
            assert torch.allclose(one, other, rtol=1e-3, atol=1e-3)


class Images:
    """What anchors ask of a batch."""

    def __init__(self, count: int, side: int) -> None:
        self.image_sizes = [(side, side)] * count


def test_anchors_stand_at_the_places_whatever_the_side():
    anchors = Anchors(((8.0,), (16.0,)), (1.0,), (64, 128))
    maps = [torch.zeros(1, 8, 5, 5), torch.zeros(1, 8, 3, 3)]  # of 320 px: 2.5 places of stride 128
    first, second = anchors(Images(2, 320), maps)
    assert torch.equal(first, second)
    centres = (first[:, :2] + first[:, 2:]) / 2
    assert centres[[0, 1, 5, 24]].tolist() == [[0, 0], [64, 0], [0, 64], [256, 256]]
    assert centres[25:, 0].tolist() == [0, 128, 256] * 3
    assert (first[25:, 2] - first[25:, 0]).tolist() == [16] * 9


def test_anchors_are_exact_under_autocast():
    anchors = Anchors(((9.0,),), (1.0,), (8,))
    (found,) = anchors(Images(1, 1024), [torch.zeros(1, 8, 128, 128, dtype=torch.bfloat16)])
    assert found.dtype == torch.float32
    assert found[-1].tolist() == pytest.approx([1016 - 4.5, 1016 - 4.5, 1016 + 4.5, 1016 + 4.5], abs=0.5)
