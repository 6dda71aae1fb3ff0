"""RetinaNet on any of our bodies.

Legend: B images, A anchors of all levels of an image. torchvision's heads count classes from 0.
Source: Lin et al., arXiv:1708.02002.
"""

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional
from torchvision.models.detection.retinanet import RetinaNet, RetinaNetHead, RetinaNetRegressionHead

from siimdet.models.anchors import Anchors
from siimdet.models.bodies import GreyInput
from siimdet.models.box_detector import AsTheyAre, BoxDetector
from siimdet.models.box_losses import OVERLAP_LOSSES, SMOOTH_L1_BETA, BoxLoss
from siimdet.models.pyramid import build_pyramid, level_strides


def build_retinanet(
    body: str,
    *,
    num_classes: int,
    mean: Sequence[float],
    std: Sequence[float],
    finest_stage: int = 2,
    fpn_channels: int = 256,
    anchor_sizes: Sequence[int] = (32, 64, 128, 256, 512),
    anchor_octaves: int = 3,
    anchor_ratios: Sequence[float] = (0.5, 1.0, 2.0),
    freeze_batch_norm: bool = True,
    box_loss: BoxLoss = "smooth_l1",
    score_threshold: float = 0.001,
    nms_iou: float = 0.5,
    detections_per_image: int = 100,
    candidates: int = 1000,
) -> BoxDetector:
    """Build the detector with random weights.

    The pyramid has the stages from `finest_stage` (1 to 4; stride 2^(stage + 1)) and two convolved levels above;
    `anchor_sizes` (px of the input) holds the smallest of each level, which `anchor_octaves` steps take to twice
    its size, the last excluded. `candidates` of each level go into the non-maximum suppression.
    Raises: ValueError if the anchors do not fit the levels, RunError for a body without such stages.
    """
    strides = level_strides(finest_stage, "convolved")
    scales = [2 ** (step / anchor_octaves) for step in range(anchor_octaves)]
    sizes = tuple(tuple(size * scale for scale in scales) for size in anchor_sizes)
    anchors = Anchors(sizes, tuple(anchor_ratios), strides)
    pyramid = build_pyramid(
        body, finest_stage=finest_stage, channels=fpn_channels, coarser="convolved", freeze_batch_norm=freeze_batch_norm
    )
    detector = RetinaNet(
        pyramid,
        num_classes,
        anchor_generator=anchors,
        head=_Head(fpn_channels, anchor_octaves * len(anchor_ratios), num_classes, box_loss),
        score_thresh=score_threshold,
        nms_thresh=nms_iou,
        detections_per_img=len(strides) * candidates,  # BoxDetector keeps the best that have an area
        topk_candidates=candidates,
    )
    detector.transform = AsTheyAre()  # type: ignore[assignment]
    return BoxDetector(GreyInput(mean, std), detector, first_label=0, detections_per_image=detections_per_image)


class _Head(RetinaNetHead):
    """Puts out float32 under autocast too: float16 has no sums of 50,000 focal losses."""

    def __init__(self, in_channels: int, num_anchors: int, num_classes: int, box_loss: BoxLoss) -> None:
        super().__init__(in_channels, num_anchors, num_classes)
        self.regression_head = _BoxHead(in_channels, num_anchors, box_loss)

    def forward(self, x: list[Tensor]) -> dict[str, Tensor]:
        return {name: values.float() for name, values in super().forward(x).items()}


class _BoxHead(RetinaNetRegressionHead):
    """With the smooth L1 of Detectron, which torchvision lacks: its own turns to a line at 1 alone."""

    def __init__(self, in_channels: int, num_anchors: int, box_loss: BoxLoss) -> None:
        super().__init__(in_channels, num_anchors)
        self.box_loss: BoxLoss = box_loss

    def compute_loss(
        self,
        targets: list[dict[str, Tensor]],
        head_outputs: dict[str, Tensor],
        anchors: list[Tensor],
        matched_idxs: list[Tensor],
    ) -> Tensor:
        """Mean over the images of the mean over the anchors on a box: codes f32[B, A, 4], matched_idxs i64[A] each."""
        losses = []
        for target, codes, places, matched in zip(
            targets, head_outputs["bbox_regression"], anchors, matched_idxs, strict=True
        ):
            on_box = torch.where(matched >= 0)[0]
            truth = target["boxes"][matched[on_box]]
            losses.append(self._loss(codes[on_box], places[on_box], truth) / max(1, len(on_box)))
        return torch.stack(losses).mean()

    def _loss(self, codes: Tensor, anchors: Tensor, truth: Tensor) -> Tensor:
        if self.box_loss == "smooth_l1":
            expected = self.box_coder.encode_single(truth, anchors)
            return functional.smooth_l1_loss(codes, expected, beta=SMOOTH_L1_BETA, reduction="sum")
        boxes = self.box_coder.decode_single(codes, anchors)
        return OVERLAP_LOSSES[self.box_loss](boxes, truth, reduction="sum")
