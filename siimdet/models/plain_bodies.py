"""Our own small convolutional bodies, which take one grey channel and are trained from scratch."""

from collections.abc import Sequence

from torch import Tensor, nn


class PlainBody(nn.Module):
    """Convolutions, pooling, fully connected layers: the three parts of torchvision's VGG, under its names."""

    def __init__(self, features: nn.Module, avgpool: nn.Module, classifier: nn.Module) -> None:
        super().__init__()
        self.features, self.avgpool, self.classifier = features, avgpool, classifier
        for module in self.features.modules():
            if isinstance(module, nn.Conv2d) and module.bias is not None:
                # torch's own start keeps 1/6 of a signal's variance per layer: without norms the last maps are flat.
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
                nn.init.zeros_(module.bias)

    def forward(self, images: Tensor) -> Tensor:
        """Features f32[B, F] of normalised images f32[B, 1, H, W]."""
        return self.classifier(self.avgpool(self.features(images)).flatten(1))


def vgg_150() -> PlainBody:
    """Build VGG-16 with batch norm for grey squares of 150 px, whose last maps are 4 x 4.

    Maps of another size are averaged to 4 x 4. With a linear head for 3 classes: 65,090,499 parameters.
    Source: Simonyan and Zisserman, arXiv:1409.1556, configuration D; the report's adds batch norm (SYSTEMS S4).
    """
    layers = [
        *(nn.Linear(4 * 4 * 512, 4096), nn.BatchNorm1d(4096), nn.ReLU(inplace=True)),
        *(nn.Linear(4096, 4096), nn.BatchNorm1d(4096), nn.ReLU(inplace=True)),
    ]
    features = _convolutions([64, 128, 256, 512, 512], depths=[2, 2, 3, 3, 3], norm=True)
    return PlainBody(features, nn.AdaptiveAvgPool2d(4), nn.Sequential(*layers))


def slice_fcn() -> PlainBody:
    """Build five convolutions from 64 to 512 channels, each halved by max-pooling, for CT slices (SYSTEMS S3).

    The report's classifier is a 2 x 2 convolution over the last maps: a head with kernel 2.
    """
    features = _convolutions([64, 128, 256, 512, 512], depths=[1] * 5, norm=False)
    return PlainBody(features, nn.AdaptiveAvgPool2d(1), nn.Identity())


def simple_cnn() -> PlainBody:
    """Build three convolutions of 32, 64 and 128 channels, each halved by max-pooling.

    The `simple CNN` that SYSTEMS S5 is compared with; its report gives no layers, these are our choice.
    """
    features = _convolutions([32, 64, 128], depths=[1] * 3, norm=False)
    return PlainBody(features, nn.AdaptiveAvgPool2d(1), nn.Identity())


def _convolutions(widths: Sequence[int], *, depths: Sequence[int], norm: bool) -> nn.Sequential:
    """Blocks of 3 x 3 convolutions with ReLU, each ending in a max-pooling that halves the side."""
    layers: list[nn.Module] = []
    channels = 1
    for width, depth in zip(widths, depths, strict=True):
        for _ in range(depth):
            layers.append(nn.Conv2d(channels, width, 3, padding=1))
            layers += [nn.BatchNorm2d(width)] * norm
            layers.append(nn.ReLU(inplace=True))
            channels = width
        layers.append(nn.MaxPool2d(2))
    return nn.Sequential(*layers)
