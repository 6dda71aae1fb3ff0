"""What every classifier can do: logits, probabilities, and the mean over an image and its mirror image.

Legend: B images, S the square input's side in pixels, K classes.
"""

from typing import Any, Literal

import torch
from torch import Tensor, nn

Activation = Literal["sigmoid", "softmax", "log_softmax"]
Output = Literal["classes", "embedding", "all"]


class ImageClassifier(nn.Module):
    """Greyscale squares in; `forward` gives what losses take, `predict` gives probabilities.

    forward(images f32[B, 1, S, S] in [0, 1], output="classes") returns, in float32,

    - classes: logits [B, K]; log-probabilities where `activation` is log_softmax
    - embedding: rows of norm 1, [B, D]
    - all: a dict with `classes` and, where there are such heads, `opacity` [B] and `mask` [B, h, w], logits
    """

    activation: Activation
    flip_tta: bool

    def bodies(self) -> list[nn.Module]:
        """The bodies that may start from given weights."""
        raise NotImplementedError

    @torch.inference_mode()
    def predict(self, images: Tensor) -> Tensor:
        """Probabilities f32[B, K]: independent with sigmoid, otherwise of sum 1."""
        return self.predict_all(images)["classes"]

    @torch.inference_mode()
    def predict_all(self, images: Tensor) -> dict[str, Tensor]:
        """Probabilities: `classes` f32[B, K] and, where there is such a head, `opacity` f32[B]."""
        found = self._probabilities(images)
        if not self.flip_tta:
            return found
        mirrored = self._probabilities(images.flip(-1))
        return {name: (values + mirrored[name]) / 2 for name, values in found.items()}

    def _probabilities(self, images: Tensor) -> dict[str, Tensor]:
        found: dict[str, Any] = self(images, output="all")
        classes = found["classes"]
        if self.activation == "sigmoid":
            probabilities = {"classes": classes.sigmoid()}
        elif self.activation == "softmax":
            probabilities = {"classes": classes.softmax(dim=1)}
        else:
            probabilities = {"classes": classes.exp()}
        if "opacity" in found:
            probabilities["opacity"] = found["opacity"].sigmoid()
        return probabilities
