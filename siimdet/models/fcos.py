"""FCOS on any of our bodies.

torchvision's heads count classes from 0. Its loss of boxes is GIoU.
Source: Tian et al., arXiv:1904.01355 and arXiv:2006.09214.
"""

from collections.abc import Sequence

import torch
from torch import Tensor
from torchvision.models.detection.fcos import FCOS, FCOSHead

from siimdet.core.distributed import summed, world
from siimdet.models.anchors import Anchors
from siimdet.models.bodies import GreyInput
from siimdet.models.box_detector import AsTheyAre, BoxDetector
from siimdet.models.pyramid import build_pyramid, level_strides


def build_fcos(
    body: str,
    *,
    num_classes: int,
    mean: Sequence[float],
    std: Sequence[float],
    finest_stage: int = 2,
    fpn_channels: int = 256,
    freeze_batch_norm: bool = True,
    score_threshold: float = 0.001,
    nms_iou: float = 0.6,
    detections_per_image: int = 100,
    candidates: int = 1000,
) -> BoxDetector:
    """Build the detector with random weights.

    The pyramid has the stages from `finest_stage` (1 to 4; stride 2^(stage + 1)) and two convolved levels above.
    A level learns the boxes whose farthest side is 4 to 8 strides from the place, the finest and the coarsest
    those beyond as well. `fpn_channels` is a multiple of 32, from 64 on: the heads normalise 32 groups of them, and
    the coarsest map may be a single place. `candidates` of each level go into the non-maximum suppression.
    Raises: ValueError for other channels, RunError for a body without such stages.
    """
    if fpn_channels % 32 or fpn_channels < 64:
        raise ValueError(f"{fpn_channels} channels of the pyramid, expected a multiple of 32 from 64 on")
    strides = level_strides(finest_stage, "convolved")
    pyramid = build_pyramid(
        body, finest_stage=finest_stage, channels=fpn_channels, coarser="convolved", freeze_batch_norm=freeze_batch_norm
    )
    detector = FCOS(
        pyramid,
        num_classes,
        anchor_generator=Anchors(tuple((stride,) for stride in strides), (1.0,), strides),
        head=_Head(fpn_channels, 1, num_classes),
        score_thresh=score_threshold,
        nms_thresh=nms_iou,
        detections_per_img=len(strides) * candidates,  # BoxDetector keeps the best that have an area
        topk_candidates=candidates,
    )
    detector.transform = AsTheyAre()  # type: ignore[assignment]
    return BoxDetector(GreyInput(mean, std), detector, first_label=0, detections_per_image=detections_per_image)


class _Head(FCOSHead):
    """Puts out float32 under autocast too: float16 has no sums of 50,000 focal losses."""

    def forward(self, x: list[Tensor]) -> dict[str, Tensor]:
        return {name: values.float() for name, values in super().forward(x).items()}

    def compute_loss(
        self,
        targets: list[dict[str, Tensor]],
        head_outputs: dict[str, Tensor],
        anchors: list[Tensor],
        matched_idxs: list[Tensor],
    ) -> dict[str, Tensor]:
        """Losses over the places that hold a box, as many as a process has on average.

        torchvision divides by those of its own process: the mean over processes would then weigh a place by the
        company that it is in.
        """
        own = int(torch.stack([(matched >= 0).sum() for matched in matched_idxs]).sum())  # one wait for the device
        average = max(1, summed([own])[0]) / world()
        losses = super().compute_loss(targets, head_outputs, anchors, matched_idxs)
        return {name: loss * (max(1, own) / average) for name, loss in losses.items()}
