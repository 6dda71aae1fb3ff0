"""The losses of an anchor-free YOLO, with a choice of overlap for the boxes.

Legend: B images, A grid points, P points that were assigned a true box.
"""

from types import SimpleNamespace
from typing import Any

from torch import Tensor

from siimdet.models.yolo import open_ultralytics
from siimdet.models.yolo_settings import Overlap, YoloSettings

open_ultralytics()

from ultralytics.utils.loss import BboxLoss  # noqa: E402  (only after the door)
from ultralytics.utils.metrics import bbox_iou  # noqa: E402

_FLAGS = {"giou": "GIoU", "diou": "DIoU", "ciou": "CIoU"}


class OverlapBoxLoss(BboxLoss):
    """ultralytics' box loss, whose forward is tied to CIoU, with GIoU, DIoU or CIoU.

    Source: Rezatofighi et al., arXiv:1902.09630 (GIoU); Zheng et al., arXiv:1911.08287 (DIoU, CIoU).
    """

    def __init__(self, reg_max: int, overlap: Overlap) -> None:
        super().__init__(reg_max)
        self.overlap = {_FLAGS[overlap]: True}

    def forward(
        self,
        pred_dist: Tensor,
        pred_bboxes: Tensor,
        anchor_points: Tensor,
        target_bboxes: Tensor,
        target_scores: Tensor,
        target_scores_sum: Tensor,
        fg_mask: Tensor,
        imgsz: Tensor,
        stride: Tensor,
    ) -> tuple[Tensor, Tensor]:
        """Box and distribution loss, each the sum over the P points weighted by score / target_scores_sum.

        Shapes: boxes f32[B, A, 4] xyxy in strides, target_scores f32[B, A, K], fg_mask bool[B, A].
        """
        _, distribution = super().forward(
            pred_dist,
            pred_bboxes,
            anchor_points,
            target_bboxes,
            target_scores,
            target_scores_sum,
            fg_mask,
            imgsz,
            stride,
        )
        weight = target_scores[fg_mask].sum(-1, keepdim=True)
        overlap = bbox_iou(pred_bboxes[fg_mask], target_bboxes[fg_mask], xywh=False, **self.overlap)
        return ((1 - overlap) * weight).sum() / target_scores_sum, distribution


def build_criterion(model: Any, settings: YoloSettings) -> Any:
    """The model's own criterion with our weights and overlap.

    Called with the raw predictions and a batch it gives the losses f32[3] summed over the images (box,
    class, distribution) and the same per image by name. End-to-end models have one part per head.
    """
    model.args = SimpleNamespace(
        box=settings.box_weight, cls=settings.class_weight, dfl=settings.distribution_weight, epochs=settings.epochs
    )
    criterion = model.init_criterion()
    for part in (criterion.one2many, criterion.one2one) if hasattr(criterion, "one2many") else (criterion,):
        part.bbox_loss = OverlapBoxLoss(part.reg_max, settings.overlap).to(part.device)
    return criterion
