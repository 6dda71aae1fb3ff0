"""Feature pyramids on the stages of a body.

Legend: B images, S the square input's side in pixels, C channels of the pyramid. A stage's stride is its
input's side over its map's; stages 1 to 4 have the strides 4, 8, 16 and 32.
Source: Lin et al., arXiv:1612.03144; Lin et al., arXiv:1708.02002, section 4 for the convolved levels.
"""

from collections import OrderedDict
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional
from torchvision.models.resnet import ResNet
from torchvision.ops import FrozenBatchNorm2d
from torchvision.ops.feature_pyramid_network import FeaturePyramidNetwork, LastLevelMaxPool, LastLevelP6P7

from siimdet.errors import RunError
from siimdet.models.bodies import build_body

Coarser = Literal["pooled", "convolved"]
"""What stands above the last stage: one level that leaves out every other place, or two of learnt convolutions."""

STAGE_STRIDES = (4, 8, 16, 32)
_PROBE_SIDE = 128


class Pyramid(nn.Module):
    """A body and its pyramid: images f32[B, 3, S, S] in, the maps f32[B, C, h, w] of all levels out, finest first.

    `body` keeps the tensors' names that build_body's network has.
    """

    def __init__(self, body: nn.Module, fpn: FeaturePyramidNetwork, *, finest_stage: int, out_channels: int) -> None:
        super().__init__()
        self.body, self.fpn = body, fpn
        self.finest_stage, self.out_channels = finest_stage, out_channels

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        """Maps by the numbers of their levels from `0`; those above the last stage have torchvision's names."""
        maps = stage_maps(self.body, images)[self.finest_stage - 1 :]
        return self.fpn(OrderedDict((str(level), values) for level, values in enumerate(maps)))


def build_pyramid(body: str, *, finest_stage: int, channels: int, coarser: Coarser, freeze_batch_norm: bool) -> Pyramid:
    """Build a pyramid with random weights on the stages of a body from `finest_stage` on.

    Convolved levels start from the pyramid's last level, as those of FCOS (arXiv:1904.01355) and of torchvision's
    RetinaNet do. The paper of RetinaNet starts from the body's last map, which has 2048 channels in a ResNet-50:
    eight times the weights.
    Frozen batch norm keeps the statistics of the pretrained body: batches of full-size images are too small
    to estimate them. Raises: RunError for a body without such stages.
    """
    widths = _stage_channels(body)[finest_stage - 1 :]
    trunk = _trunk(body)
    if freeze_batch_norm:
        freeze_norms(trunk)
    above = LastLevelMaxPool() if coarser == "pooled" else LastLevelP6P7(channels, channels)
    fpn = FeaturePyramidNetwork(widths, channels, above)
    return Pyramid(trunk, fpn, finest_stage=finest_stage, out_channels=channels)


def level_strides(finest_stage: int, coarser: Coarser) -> tuple[int, ...]:
    """Strides of a pyramid's levels, px of the input."""
    return STAGE_STRIDES[finest_stage - 1 :] + ((64,) if coarser == "pooled" else (64, 128))


def stage_maps(body: Any, images: Tensor) -> list[Tensor]:
    """Maps of the four stages of a trunk for its normalised images."""
    if not isinstance(body, ResNet):
        return body.forward_intermediates(images, indices=_timm_stages(body), intermediates_only=True)
    maps = [body.layer1(body.maxpool(body.relu(body.bn1(body.conv1(images)))))]
    for stage in (body.layer2, body.layer3, body.layer4):
        maps.append(stage(maps[-1]))
    return maps


def freeze_norms(module: nn.Module) -> None:
    """Replace every batch norm below `module` by a frozen one, in place; their statistics are to be loaded."""
    for name, child in module.named_children():
        if isinstance(child, nn.BatchNorm2d):
            setattr(module, name, _frozen(child))
        else:
            freeze_norms(child)


class _FrozenNorm(FrozenBatchNorm2d):
    """torchvision's multiplies by float32 buffers: under autocast every map behind it would be float32 again."""

    weight: Tensor
    bias: Tensor
    running_mean: Tensor
    running_var: Tensor

    def forward(self, x: Tensor) -> Tensor:
        return functional.batch_norm(x, self.running_mean, self.running_var, self.weight, self.bias, eps=self.eps)


class _FrozenNormAct(_FrozenNorm):
    """Frozen in place of timm's norms that hold the activation behind them."""

    def __init__(self, norm: Any) -> None:
        super().__init__(norm.num_features, norm.eps)
        self.drop, self.act = norm.drop, norm.act

    def forward(self, x: Tensor) -> Tensor:
        return self.act(self.drop(super().forward(x)))


def _frozen(norm: nn.BatchNorm2d) -> FrozenBatchNorm2d:
    return _FrozenNormAct(norm) if hasattr(norm, "act") else _FrozenNorm(norm.num_features, norm.eps)


def _trunk(name: str) -> nn.Module:
    """A body without what stands behind its last stage: DDP refuses weights that never get a gradient."""
    body: Any = build_body(name)
    if not isinstance(body, ResNet):
        body.prune_intermediate_layers(_timm_stages(body), prune_norm=True, prune_head=True)
    return body


def _timm_stages(body: Any) -> list[int]:
    reductions = [info["reduction"] for info in body.feature_info]
    return [max(index for index, found in enumerate(reductions) if found == stride) for stride in STAGE_STRIDES]


def _stage_channels(name: str) -> list[int]:
    """Channels of a body's stages, by a dry run: strides that a library names need not be those of its maps."""
    with torch.device("meta"):
        body = build_body(name)
        if not isinstance(body, ResNet) and not _names_stages(body):
            raise _refusal(name, type(body).__name__)
        try:
            maps = stage_maps(body, torch.zeros(2, 3, _PROBE_SIDE, _PROBE_SIDE))
        except (AssertionError, RuntimeError) as error:  # timm's attention over windows, for example
            raise _refusal(name, str(error).partition("\n")[0]) from None
    sides = [tuple(values.shape[2:]) for values in maps]
    if sides != [(_PROBE_SIDE // stride,) * 2 for stride in STAGE_STRIDES]:
        raise _refusal(name, f"maps of {sides} for {_PROBE_SIDE} px")
    return [values.shape[1] for values in maps]


def _names_stages(body: Any) -> bool:
    strides = {info["reduction"] for info in getattr(body, "feature_info", ())}
    return strides.issuperset(STAGE_STRIDES) and hasattr(body, "prune_intermediate_layers")


def _refusal(name: str, found: str) -> RunError:
    expected = "a ResNet or ResNeXt of torchvision, or a network of timm, with stages of the strides 4, 8, 16 and 32"
    return RunError("model", "body", found=f"{name}, {found}", expected=expected)
