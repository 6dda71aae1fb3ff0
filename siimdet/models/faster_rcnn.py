"""Faster R-CNN with a feature pyramid on any of our bodies.

torchvision reserves label 0 for the background.
Source: Ren et al., arXiv:1506.01497; Lin et al., arXiv:1612.03144.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torchvision.models.detection.faster_rcnn import FastRCNNPredictor, TwoMLPHead
from torchvision.models.detection.generalized_rcnn import GeneralizedRCNN
from torchvision.models.detection.roi_heads import RoIHeads, fastrcnn_loss
from torchvision.models.detection.rpn import RegionProposalNetwork, RPNHead
from torchvision.ops import MultiScaleRoIAlign

from siimdet.models.anchors import Anchors
from siimdet.models.bodies import GreyInput
from siimdet.models.box_detector import AsTheyAre, BoxDetector
from siimdet.models.box_losses import OVERLAP_LOSSES, BoxLoss
from siimdet.models.pyramid import build_pyramid, level_strides


def build_faster_rcnn(
    body: str,
    *,
    num_classes: int,
    mean: Sequence[float],
    std: Sequence[float],
    finest_stage: int = 1,
    fpn_channels: int = 256,
    box_head_features: int = 1024,
    anchor_sizes: Sequence[int] = (32, 64, 128, 256, 512),
    anchor_ratios: Sequence[float] = (0.5, 1.0, 2.0),
    proposals: int = 1000,
    training_regions: int = 512,
    freeze_batch_norm: bool = True,
    box_loss: BoxLoss = "smooth_l1",
    score_threshold: float = 0.001,
    nms_iou: float = 0.5,
    detections_per_image: int = 100,
) -> BoxDetector:
    """Build the detector with random weights.

    The pyramid has the stages from `finest_stage` (1 to 4; stride 2^(stage + 1)) and one pooled level above;
    `anchor_sizes` (px of the input) holds one size per level. `box_loss` is that of the second stage's boxes:
    the first stage's, which only propose, keep smooth L1.
    Raises: ValueError if the anchors do not fit the levels, RunError for a body without such stages.
    """
    strides = level_strides(finest_stage, "pooled")
    anchors = Anchors(tuple((size,) for size in anchor_sizes), tuple(anchor_ratios), strides)
    pyramid = build_pyramid(
        body, finest_stage=finest_stage, channels=fpn_channels, coarser="pooled", freeze_batch_norm=freeze_batch_norm
    )
    second_stage = RegionHeads(
        _RegionPool([str(level) for level in range(len(strides) - 1)], output_size=7, sampling_ratio=2),
        TwoMLPHead(fpn_channels * 49, box_head_features),
        _RegionPredictor(box_head_features, num_classes + 1),
        fg_iou_thresh=0.5,
        bg_iou_thresh=0.5,
        batch_size_per_image=training_regions,
        positive_fraction=0.25,
        bbox_reg_weights=(10.0, 10.0, 5.0, 5.0),
        score_thresh=score_threshold,
        nms_thresh=nms_iou,
        detections_per_img=detections_per_image,
        box_loss=box_loss,
    )
    first_stage = _first_stage(anchors, _ProposalHead(fpn_channels, len(anchor_ratios)), proposals)
    detector = GeneralizedRCNN(pyramid, first_stage, second_stage, AsTheyAre())
    return BoxDetector(GreyInput(mean, std), detector, first_label=1, detections_per_image=detections_per_image)


def _first_stage(anchors: Anchors, head: RPNHead, proposals: int) -> RegionProposalNetwork:
    count = {"training": 2 * proposals, "testing": proposals}
    return RegionProposalNetwork(
        anchors,
        head,
        fg_iou_thresh=0.7,
        bg_iou_thresh=0.3,
        batch_size_per_image=256,
        positive_fraction=0.5,
        pre_nms_top_n=count,
        post_nms_top_n=count,
        nms_thresh=0.7,
    )


class RegionHeads(RoIHeads):
    """torchvision's second stage, in which smooth L1 is the only loss of boxes, with `box_loss` in its place.

    An overlap's loss is summed over the regions that lie on a box and divided by all sampled ones, as smooth L1 is.
    """

    def __init__(self, *parts: Any, box_loss: BoxLoss, **settings: Any) -> None:
        super().__init__(*parts, **settings)
        self.box_loss: BoxLoss = box_loss

    def forward(
        self,
        features: dict[str, Tensor],
        proposals: list[Tensor],
        image_shapes: list[tuple[int, int]],
        targets: list[dict[str, Tensor]] | None = None,
    ) -> tuple[list[dict[str, Tensor]], dict[str, Tensor]]:
        """Predictions, or in training losses, of the regions that the first stage proposes (xyxy px)."""
        if not self.training or targets is None:
            return super().forward(features, proposals, image_shapes, targets)
        regions, matched, labels, codes = self.select_training_samples(proposals, targets)
        logits, predicted = self.box_predictor(self.box_head(self.box_roi_pool(features, regions, image_shapes)))
        class_loss, box_loss = fastrcnn_loss(logits, predicted, labels, codes)
        if self.box_loss != "smooth_l1":
            truth = [t["boxes"][m[ids > 0]] for t, m, ids in zip(targets, matched, labels, strict=True)]
            box_loss = self._overlap_loss(predicted, regions, labels, truth)
        return [], {"loss_classifier": class_loss, "loss_box_reg": box_loss}

    def _overlap_loss(
        self, predicted: Tensor, regions: list[Tensor], labels: list[Tensor], truth: list[Tensor]
    ) -> Tensor:
        ids = torch.cat(labels)
        on_box = torch.where(ids > 0)[0]
        codes = predicted.reshape(len(ids), -1, 4)[on_box, ids[on_box]]
        boxes = self.box_coder.decode_single(codes, torch.cat(regions)[on_box])
        return OVERLAP_LOSSES[self.box_loss](boxes, torch.cat(truth), reduction="sum") / len(ids)


class _RegionPool(MultiScaleRoIAlign):
    """With torchvision's own kernel always.

    Asked for deterministic kernels on CUDA, it compiles another one, by Triton and a C compiler, that holds every
    sample of every region: a gigabyte for 6,000 of them. The kernel's gradient adds in any order there.
    """

    def forward(self, x: dict[str, Tensor], boxes: list[Tensor], image_shapes: list[tuple[int, int]]) -> Tensor:
        asked, warn_only = (
            torch.are_deterministic_algorithms_enabled(),
            torch.is_deterministic_algorithms_warn_only_enabled(),
        )
        torch.use_deterministic_algorithms(False)
        try:
            return super().forward(x, boxes, image_shapes)
        finally:
            torch.use_deterministic_algorithms(asked, warn_only=warn_only)


class _ProposalHead(RPNHead):
    """Puts out float32 under autocast too: bfloat16 knows every fourth pixel of a proposal alone from 512 on."""

    def forward(self, x: list[Tensor]) -> tuple[list[Tensor], list[Tensor]]:
        objectness, codes = super().forward(x)
        return [values.float() for values in objectness], [values.float() for values in codes]


class _RegionPredictor(FastRCNNPredictor):
    """Puts out float32 under autocast too, for the same reason."""

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        logits, codes = super().forward(x)
        return logits.float(), codes.float()
