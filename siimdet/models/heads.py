"""What classifiers put on a body.

Legend: B images, F features, C channels of the body's last maps on h x w places, K classes.
"""

from collections.abc import Sequence

from torch import Tensor, nn
from torch.nn import functional

from siimdet.errors import RunError

MASK_CHANNELS = 64
"""Width of the mask head."""


def build_head(
    features: int,
    *,
    num_classes: int,
    hidden: Sequence[int] = (),
    dropout: float = 0.0,
    input_dropout: float = 0.0,
    input_norm: bool = False,
) -> nn.Module:
    """Build a head from features f32[B, F] to logits f32[B, K]: one linear layer, or more.

    In this order: dropout and batch norm of the features, then for each of `hidden` a linear layer, ReLU and
    dropout, then the linear layer to the classes. With hidden layers, weights are Xavier's and biases zero.
    """
    layers: list[nn.Module] = []
    if input_dropout:
        layers.append(nn.Dropout(input_dropout))
    if input_norm:
        layers.append(nn.BatchNorm1d(features))
    width = features
    for wider in hidden:
        layers += [_xavier(nn.Linear(width, wider)), nn.ReLU(), nn.Dropout(dropout)]
        width = wider
    last = nn.Linear(width, num_classes)
    if not layers:
        return last
    return nn.Sequential(*layers, _xavier(last) if hidden else last)


def _xavier(layer: nn.Linear) -> nn.Linear:
    nn.init.xavier_uniform_(layer.weight)
    nn.init.zeros_(layer.bias)
    return layer


class ConvolutionHead(nn.Module):
    """A convolution from the last maps f32[B, C, h, w] to the classes, and the mean over its places: f32[B, K]."""

    def __init__(self, channels: int, *, num_classes: int, kernel: int) -> None:
        super().__init__()
        self.convolution = nn.Conv2d(channels, num_classes, kernel)

    def forward(self, maps: Tensor) -> Tensor:
        """Logits. Raises: RunError if the maps are smaller than the kernel."""
        kernel, side = self.convolution.kernel_size[0], min(maps.shape[2:])
        if side < kernel:
            expected = f"{kernel} or more for the head's kernel: a larger image_size"
            raise RunError("model", "places of the last maps", found=side, expected=expected)
        return self.convolution(maps).mean(dim=(2, 3))


class Embedding(nn.Module):
    """Linear layers with ReLU between, from features f32[B, F] to rows of norm 1, f32[B, size]."""

    def __init__(self, features: int, *, hidden: Sequence[int], size: int) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        width = features
        for wider in hidden:
            layers += [nn.Linear(width, wider), nn.ReLU()]
            width = wider
        self.layers = nn.Sequential(*layers, nn.Linear(width, size))

    def forward(self, features: Tensor) -> Tensor:
        """Rows of norm 1; divided in float32, as half precision would miss 1 by a thousandth."""
        return functional.normalize(self.layers(features).float(), dim=1)


class OpacityHead(nn.Module):
    """One logit f32[B] from features f32[B, F]: the image has a box."""

    def __init__(self, features: int) -> None:
        super().__init__()
        self.linear = nn.Linear(features, 1)

    def forward(self, features: Tensor) -> Tensor:
        """Logits."""
        return self.linear(features).squeeze(1)


class MaskHead(nn.Module):
    """One logit f32[B, h, w] for every place of the last maps f32[B, C, h, w]: it lies in a box."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Conv2d(channels, MASK_CHANNELS, 3, padding=1), nn.ReLU(), nn.Conv2d(MASK_CHANNELS, 1, 1)
        )

    def forward(self, maps: Tensor) -> Tensor:
        """Logits."""
        return self.layers(maps).squeeze(1)
