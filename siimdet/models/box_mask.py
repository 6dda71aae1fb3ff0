"""Boxes as the mask that a segmentation head learns."""

from collections.abc import Sequence

import torch
from torch import Tensor


def box_mask(boxes: Sequence[Tensor], *, side: int, cells: int) -> Tensor:
    """Covered part of every cell of a grid over the square input; of two boxes the one that covers more counts.

    Shapes: per image boxes f32[N, 4] xyxy px of an input of `side` px, to f32[B, cells, cells] in [0, 1].
    """
    edges = torch.linspace(0, side, cells + 1)
    low, high = edges[:-1], edges[1:]
    masks = []
    for xyxy in boxes:
        x, y = (
            (torch.minimum(high, xyxy[:, i + 2, None]) - torch.maximum(low, xyxy[:, i, None])).clamp(min=0)
            / (side / cells)
            for i in (0, 1)
        )
        covered = y[:, :, None] * x[:, None, :]
        masks.append(covered.amax(0) if len(xyxy) else torch.zeros(cells, cells))
    return torch.stack(masks)
