"""Losses of predicted boxes by their overlap with the true ones."""

from collections.abc import Callable
from typing import Literal

from torch import Tensor
from torchvision.ops import complete_box_iou_loss, distance_box_iou_loss, generalized_box_iou_loss

BoxLoss = Literal["smooth_l1", "giou", "diou", "ciou"]
"""Smooth L1 between codes of boxes, or 1 minus an overlap of the boxes."""

SMOOTH_L1_BETA = 1 / 9
"""Where smooth L1 turns from a square to a line; torchvision's Faster R-CNN and Detectron's RetinaNet."""

OVERLAP_LOSSES: dict[BoxLoss, Callable[..., Tensor]] = {
    "giou": generalized_box_iou_loss,
    "diou": distance_box_iou_loss,
    "ciou": complete_box_iou_loss,
}
"""Rezatofighi et al., arXiv:1902.09630; Zheng et al., arXiv:1911.08287."""
