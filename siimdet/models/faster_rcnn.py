"""Faster R-CNN with a feature pyramid on any of our bodies.

Legend: B images, S the square input's side in pixels, K box classes. torchvision reserves label 0
for the background: the shift by one happens here and nowhere else.
Source: Ren et al., arXiv:1506.01497; Lin et al., arXiv:1612.03144.
"""

from collections.abc import Sequence
from typing import Any, cast

import torch
from torch import Tensor, nn
from torchvision.models.detection import FasterRCNN as TorchvisionFasterRCNN
from torchvision.models.detection.anchor_utils import AnchorGenerator
from torchvision.models.detection.backbone_utils import BackboneWithFPN
from torchvision.models.detection.faster_rcnn import FastRCNNPredictor, TwoMLPHead
from torchvision.models.detection.image_list import ImageList
from torchvision.ops import FrozenBatchNorm2d, MultiScaleRoIAlign

from siimdet.models.bodies import STAGES, GreyInput, build_resnet_body, stage_channels


class _AsTheyAre(nn.Module):
    """In place of torchvision's transform, which would resize our squares to 800 px and normalise them again."""

    def forward(
        self, images: list[Tensor], targets: list[dict[str, Tensor]] | None
    ) -> tuple[ImageList, list[dict[str, Tensor]] | None]:
        batch = torch.stack(images)
        return ImageList(batch, [(batch.shape[2], batch.shape[3])] * len(batch)), targets

    def postprocess(self, found: list[dict[str, Tensor]], sizes: object, original: object) -> list[dict[str, Tensor]]:
        return found


class FasterRCNN(nn.Module):
    """Greyscale squares in, losses (training) or boxes in input pixels (evaluation) out."""

    def __init__(self, inputs: GreyInput, detector: TorchvisionFasterRCNN) -> None:
        super().__init__()
        self.inputs = inputs
        self.detector = detector

    def forward(self, images: Tensor, boxes: Sequence[Tensor], class_ids: Sequence[Tensor]) -> dict[str, Tensor]:
        """Losses of a batch: images f32[B, 1, S, S] in [0, 1], boxes f32[N, 4] xyxy px, class_ids i64[N] each."""
        targets = [{"boxes": b, "labels": c + 1} for b, c in zip(boxes, class_ids, strict=True)]
        return self.detector(list(self.inputs(images)), targets)

    @torch.inference_mode()
    def predict(self, images: Tensor) -> list[tuple[Tensor, Tensor, Tensor]]:
        """Boxes f32[N, 4] xyxy px, scores f32[N] and class_ids i64[N] of each image, best first."""
        found = self.detector(list(self.inputs(images)))
        return [(f["boxes"], f["scores"], f["labels"] - 1) for f in found]


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
    score_threshold: float = 0.001,
    nms_iou: float = 0.5,
    detections_per_image: int = 100,
) -> FasterRCNN:
    """Build the detector with random weights.

    The pyramid has the stages from `finest_stage` (1 to 4; stride 2^(stage + 1)) and one pooled level above;
    `anchor_sizes` (px of the input) holds one size per level. Frozen batch norm keeps the statistics of the
    pretrained body: batches of full-size images are too small to estimate them.
    Raises: ValueError if the anchors do not fit the levels, RunError for a body that is no ResNet.
    """
    stages = STAGES[finest_stage - 1 :]
    if len(anchor_sizes) != len(stages) + 1:
        raise ValueError(f"{len(anchor_sizes)} anchor sizes, expected {len(stages) + 1}: one per pyramid level")
    trunk = build_resnet_body(body)
    channels = stage_channels(trunk)[finest_stage - 1 :]
    if freeze_batch_norm:
        freeze_norms(trunk)
    pyramid = BackboneWithFPN(trunk, {stage: str(level) for level, stage in enumerate(stages)}, channels, fpn_channels)
    levels = [str(level) for level in range(len(stages))]
    detector = TorchvisionFasterRCNN(
        cast(Any, pyramid),
        rpn_anchor_generator=AnchorGenerator(
            tuple((size,) for size in anchor_sizes), (tuple(anchor_ratios),) * len(anchor_sizes)
        ),
        box_roi_pool=MultiScaleRoIAlign(levels, output_size=7, sampling_ratio=2),
        box_head=TwoMLPHead(fpn_channels * 49, box_head_features),
        box_predictor=FastRCNNPredictor(box_head_features, num_classes + 1),
        rpn_pre_nms_top_n_train=2 * proposals,
        rpn_post_nms_top_n_train=2 * proposals,
        rpn_pre_nms_top_n_test=proposals,
        rpn_post_nms_top_n_test=proposals,
        box_batch_size_per_image=training_regions,
        box_score_thresh=score_threshold,
        box_nms_thresh=nms_iou,
        box_detections_per_img=detections_per_image,
    )
    detector.transform = cast(Any, _AsTheyAre())
    return FasterRCNN(GreyInput(mean, std), detector)


def freeze_norms(module: nn.Module) -> None:
    """Replace every batch norm below `module` by a frozen one, in place."""
    for name, child in module.named_children():
        if isinstance(child, nn.BatchNorm2d):
            setattr(module, name, FrozenBatchNorm2d(child.num_features))
        else:
            freeze_norms(child)
