"""Convolutional bodies by name, and the greyscale input that they all share."""

from collections.abc import Callable, Sequence
from typing import cast

import torch
import torchvision
from torch import Tensor, nn
from torchvision.models.resnet import Bottleneck, ResNet

from siimdet.errors import RunError

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)


def _resnext26_32x4d() -> ResNet:
    return ResNet(Bottleneck, [2, 2, 2, 2], groups=32, width_per_group=4)


def _resnext14_32x4d() -> ResNet:
    return ResNet(Bottleneck, [1, 1, 1, 1], groups=32, width_per_group=4)


BODIES: dict[str, Callable[[], ResNet]] = {
    "resnext101_32x8d": torchvision.models.resnext101_32x8d,
    "resnext50_32x4d": torchvision.models.resnext50_32x4d,
    "resnext26_32x4d": _resnext26_32x4d,  # for a CPU: half the blocks of resnext50_32x4d
    "resnext14_32x4d": _resnext14_32x4d,  # for a CPU: one block a stage
    "resnet18": torchvision.models.resnet18,
    "resnet50": torchvision.models.resnet50,
}
"""ResNet-shaped bodies without weights; Xie et al., CVPR 2017 for ResNeXt."""

STAGES = ("layer1", "layer2", "layer3", "layer4")
"""Stages with output strides 4, 8, 16 and 32."""


def build_body(name: str) -> ResNet:
    """Build a body with random weights and without its classifier. Raises: RunError for a name not in BODIES."""
    if name not in BODIES:
        raise RunError("model", "body", found=name, expected=" or ".join(BODIES))
    body = BODIES[name]()
    body.fc = cast(nn.Linear, nn.Identity())
    return body


def stage_channels(body: ResNet) -> list[int]:
    """Channels that each of STAGES puts out."""
    widest = body.inplanes
    return [widest // 8, widest // 4, widest // 2, widest]


class GreyInput(nn.Module):
    """Greyscale to the three normalised channels that ImageNet bodies take.

    Shapes: f32[B, 1, H, W] in [0, 1] to f32[B, 3, H, W].
    """

    mean: Tensor
    std: Tensor

    def __init__(self, mean: Sequence[float], std: Sequence[float]) -> None:
        super().__init__()
        self.register_buffer("mean", torch.tensor(mean).view(1, 3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(std).view(1, 3, 1, 1), persistent=False)

    def forward(self, images: Tensor) -> Tensor:
        """Repeat the one channel and normalise each copy."""
        return (images - self.mean) / self.std
