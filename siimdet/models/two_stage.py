"""Classes told in two stages: first the group, such as infected, then the class within it.

Legend: B images, S the square input's side in pixels, G groups, K classes.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

from siimdet.models.image_classifier import ImageClassifier, Output


class TwoStage(ImageClassifier):
    """log P(class) = log P(group) + log P(class | group), with a network for each.

    `first` gives G logits; `second` gives K, of which each group takes the softmax over its own classes.
    """

    order: Tensor

    def __init__(
        self, first: ImageClassifier, second: ImageClassifier, groups: Sequence[Sequence[int]], *, flip_tta: bool
    ) -> None:
        """Raises: ValueError unless every class from 0 on is in exactly one group."""
        super().__init__()
        members = [index for group in groups for index in group]
        if sorted(members) != list(range(len(members))) or not all(groups):
            raise ValueError(f"groups hold the classes {members}, expected each class from 0 on once")
        self.first, self.second = first, second
        self.groups = [list(group) for group in groups]
        self.register_buffer("order", torch.tensor(members).argsort(), persistent=False)
        self.activation, self.flip_tta = "log_softmax", flip_tta

    def bodies(self) -> list[nn.Module]:
        """Those of both networks, the first's first."""
        return [*self.first.bodies(), *self.second.bodies()]

    def forward(self, images: Tensor, *, output: Output = "classes") -> Tensor | dict[str, Tensor]:
        """Log-probabilities f32[B, K] of images f32[B, 1, S, S] in [0, 1]; in a dict for `all`."""
        assert output != "embedding", "two networks have no common embedding"
        groups, classes = self.first(images), self.second(images)
        parts = [
            groups[:, index : index + 1] + functional.log_softmax(classes[:, members], dim=1)
            for index, members in enumerate(self.groups)
        ]
        found = torch.cat(parts, dim=1)[:, self.order]
        return {"classes": found} if output == "all" else found
