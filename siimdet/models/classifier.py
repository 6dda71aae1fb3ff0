"""Image classifiers: a body, its global average and a head.

Legend: B images, S the square input's side in pixels, K classes.
"""

from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor, nn
from torchvision.models.resnet import ResNet

from siimdet.models.bodies import GreyInput, build_body
from siimdet.models.heads import linear_head, study_head

Activation = Literal["sigmoid", "softmax"]


class Classifier(nn.Module):
    """Greyscale squares in, logits out."""

    def __init__(self, inputs: GreyInput, body: ResNet, head: nn.Module, activation: Activation) -> None:
        super().__init__()
        self.inputs = inputs
        self.body = body
        self.head = head
        self.activation = activation

    def forward(self, images: Tensor) -> Tensor:
        """Logits f32[B, K] of images f32[B, 1, S, S] in [0, 1]."""
        return self.head(self.body(self.inputs(images)))

    @torch.inference_mode()
    def predict(self, images: Tensor) -> Tensor:
        """Probabilities f32[B, K]: independent with sigmoid, of sum 1 with softmax."""
        logits = self(images).float()
        return logits.sigmoid() if self.activation == "sigmoid" else logits.softmax(dim=1)


def build_classifier(
    body: str,
    *,
    num_classes: int,
    activation: Activation,
    mean: Sequence[float],
    std: Sequence[float],
    hidden: int | None = None,
    dropout: float = 0.0,
) -> Classifier:
    """Build a classifier with random weights; without `hidden` its head is one linear layer."""
    trunk = build_body(body)
    if hidden is None:
        head = linear_head(trunk.inplanes, num_classes=num_classes)
    else:
        head = study_head(trunk.inplanes, num_classes=num_classes, hidden=hidden, dropout=dropout)
    return Classifier(GreyInput(mean, std), trunk, head, activation)
