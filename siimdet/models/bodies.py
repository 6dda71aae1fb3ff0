"""Convolutional bodies by name, taken apart alike, and the greyscale input that they all share.

A body is its library's own module whose last linear layer became the identity, so its tensors keep the
names that published weights have.
Legend: B images, C channels of the last maps on h x w places, F features.
"""

import difflib
from collections.abc import Callable, Sequence
from typing import Any

import torch
import torchvision
from torch import Tensor, nn
from torch.nn import functional
from torchvision.models import AlexNet, ConvNeXt, DenseNet, EfficientNet, MobileNetV3
from torchvision.models.resnet import Bottleneck, ResNet
from torchvision.models.vgg import VGG

from siimdet.errors import RunError
from siimdet.models.plain_bodies import PlainBody, simple_cnn, slice_fcn, vgg_150

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)


def _resnext26_32x4d() -> ResNet:
    return ResNet(Bottleneck, [2, 2, 2, 2], groups=32, width_per_group=4)


def _resnext14_32x4d() -> ResNet:
    return ResNet(Bottleneck, [1, 1, 1, 1], groups=32, width_per_group=4)


GREY_BODIES: dict[str, Callable[[], nn.Module]] = {
    "vgg_150": vgg_150,
    "slice_fcn": slice_fcn,
    "simple_cnn": simple_cnn,
}
"""Our own, of one grey channel."""

OWN_BODIES: dict[str, Callable[[], nn.Module]] = GREY_BODIES | {
    "resnext26_32x4d": _resnext26_32x4d,  # for a CPU: half the blocks of resnext50_32x4d
    "resnext14_32x4d": _resnext14_32x4d,  # for a CPU: one block a stage
}
"""Those that no library has, without weights; Xie et al., CVPR 2017 for ResNeXt."""

_FAMILIES = ("alexnet", "convnext", "densenet", "efficientnet", "mobilenetv3", "resnet", "vgg")
_PARTED = (AlexNet, ConvNeXt, EfficientNet, MobileNetV3, VGG, PlainBody)
"""Bodies that are `features`, `avgpool` and `classifier`."""


def build_body(name: str) -> nn.Module:
    """Build a body with random weights and without its classifier: ours, else torchvision's, else timm's.

    Called with images f32[B, C, H, W] it returns features f32[B, F].
    Raises: RunError for a name that is none of theirs, or no convolutional network.
    """
    if name in OWN_BODIES:
        body: Any = OWN_BODIES[name]()
    elif name in torchvision_bodies():
        body = torchvision.models.get_model(name, weights=None)
    else:
        return _timm_body(name)
    if isinstance(body, ResNet):
        body.fc = nn.Identity()  # type: ignore[assignment]
    elif isinstance(body, DenseNet):
        body.classifier = nn.Identity()  # type: ignore[assignment]
    elif not isinstance(body, PlainBody):
        body.classifier[-1] = nn.Identity()
    return body


def torchvision_bodies() -> list[str]:
    """Names of torchvision's classifiers that we take apart."""
    models = torchvision.models
    names = models.list_models(module=models)
    return [name for name in names if models.get_model_builder(name).__module__.rpartition(".")[2] in _FAMILIES]


def timm_name(name: str) -> str:
    """What timm calls a body: the EfficientNet-Lites are its `tf_` ones.

    Their published weights are TensorFlow's, with its padding and the epsilon 1e-3 of batch norms. In timm's own
    variants of these networks they lose a fifth of their norm: bus.jpg is a minibus at .79 instead of .91.
    """
    return f"tf_{name}" if name.startswith("efficientnet_lite") else name


def _timm_body(name: str) -> nn.Module:
    import timm  # takes 2 s, which the other bodies need not wait for

    given, name = name, timm_name(name)
    if not timm.is_model(name):
        known = dict.fromkeys([*OWN_BODIES, *torchvision_bodies(), *timm.list_models()])
        near = " or ".join(difflib.get_close_matches(given, known))
        raise RunError("model", "body", found=given, expected=near or "a network of torchvision or timm")
    try:
        body = timm.create_model(name, pretrained=False, num_classes=0)
    except RuntimeError as error:  # a tag after the dot that timm does not know
        raise RunError("model", "body", found=error, expected="a network of timm") from None
    if hasattr(body, "patch_embed"):
        raise RunError("model", "body", found=f"{name}, a transformer", expected="a convolutional network")
    return body


def input_channels(name: str) -> int:
    """Channels that a body takes: 1 for our own grey ones, otherwise 3."""
    return 1 if name in GREY_BODIES else 3


def feature_maps(body: Any, images: Tensor) -> Tensor:
    """The last maps f32[B, C, h, w] of a body for its normalised images."""
    if isinstance(body, ResNet):
        maps = body.maxpool(body.relu(body.bn1(body.conv1(images))))
        return body.layer4(body.layer3(body.layer2(body.layer1(maps))))
    if isinstance(body, DenseNet):
        return functional.relu(body.features(images))
    if isinstance(body, _PARTED):
        return body.features(images)
    return body.forward_features(images)


def pool_features(body: Any, maps: Tensor) -> Tensor:
    """Features f32[B, F] of the last maps; `body(images)` is `pool_features(body, feature_maps(body, images))`."""
    if isinstance(body, ResNet):
        return body.avgpool(maps).flatten(1)
    if isinstance(body, DenseNet):
        return functional.adaptive_avg_pool2d(maps, 1).flatten(1)
    if isinstance(body, ConvNeXt):  # its norm stands before the flattening
        return body.classifier(body.avgpool(maps))
    if isinstance(body, _PARTED):
        return body.classifier(body.avgpool(maps).flatten(1))
    return body.forward_head(maps)


def map_channels(body: Any) -> int:
    """C, the channels of a body's last maps."""
    if isinstance(body, ResNet):
        return body.inplanes
    if isinstance(body, DenseNet):
        return body.features.norm5.num_features  # type: ignore[return-value]
    if isinstance(body, _PARTED):
        return [module for module in body.features.modules() if isinstance(module, nn.Conv2d)][-1].out_channels
    return body.num_features


def feature_count(body: Any) -> int:
    """F, the features that a body returns."""
    if isinstance(body, _PARTED):
        connected = [module for module in body.classifier.modules() if isinstance(module, nn.Linear)]
        return connected[-1].out_features if connected else map_channels(body)
    if isinstance(body, (ResNet, DenseNet)):
        return map_channels(body)
    return body.head_hidden_size


class GreyInput(nn.Module):
    """Greyscale to the normalised channels that a body takes: one, or three from the same grey.

    Shapes: f32[B, 1, H, W] in [0, 1] to f32[B, len(mean), H, W].
    """

    mean: Tensor
    std: Tensor

    def __init__(self, mean: Sequence[float], std: Sequence[float]) -> None:
        super().__init__()
        self.register_buffer("mean", torch.tensor(mean).view(1, -1, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(std).view(1, -1, 1, 1), persistent=False)

    def forward(self, images: Tensor) -> Tensor:
        """Repeat the grey for each channel and normalise every copy."""
        return (images - self.mean) / self.std


def last_map_module(body: nn.Module, images: Tensor) -> nn.Module:
    """The module that puts out the body's last maps for its normalised images; of a DenseNet those before its ReLU."""
    ran: list[nn.Module] = []
    hooks = [module.register_forward_hook(lambda module, *_: ran.append(module)) for module in body.modules()]
    try:
        feature_maps(body, images)
    finally:
        for hook in hooks:
            hook.remove()
    return ran[-1]  # an outer module ends after those within
