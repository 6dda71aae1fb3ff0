"""Anchors of all levels of a pyramid."""

from typing import Any

import torch
from torch import Tensor
from torchvision.models.detection.anchor_utils import AnchorGenerator
from torchvision.models.detection.image_list import ImageList


class Anchors(AnchorGenerator):
    """torchvision's anchors, always in float32 and at the true strides of their levels.

    torchvision takes a level's stride as the image's side over the map's: 106 px for the 3 x 3 places of stride 128
    on 320 px, 42 px from the last place. Under autocast its anchors have the maps' type: bfloat16 knows
    every fourth pixel alone from 512 on.
    """

    def __init__(
        self, sizes: tuple[tuple[float, ...], ...], ratios: tuple[float, ...], strides: tuple[int, ...]
    ) -> None:
        """Take the sizes (px) of each level, the ratios of height to width, and the levels' strides (px).

        Raises: ValueError if there are not as many sizes as strides.
        """
        if len(sizes) != len(strides):
            raise ValueError(f"{len(sizes)} anchor sizes, expected {len(strides)}: one per pyramid level")
        super().__init__(sizes, (ratios,) * len(sizes))
        self.strides = strides

    def forward(self, image_list: ImageList, feature_maps: list[Tensor]) -> list[Tensor]:
        """Anchors f32[A, 4] xyxy px of each image, level by level, place by place."""
        device = feature_maps[0].device
        self.set_cell_anchors(torch.float32, device)
        strides: Any = [[stride, stride] for stride in self.strides]  # numbers do, and need no copy to a GPU
        levels = self.grid_anchors([list(maps.shape[-2:]) for maps in feature_maps], strides)
        return [torch.cat(levels)] * len(image_list.image_sizes)
