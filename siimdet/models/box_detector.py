"""What all of torchvision's detectors have in common here.

Legend: B images, S the square input's side in pixels, N boxes of an image.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torchvision.models.detection.image_list import ImageList
from torchvision.ops import remove_small_boxes

from siimdet.models.bodies import GreyInput

_SMALLEST_SIDE = 1e-2
"""Sides of boxes that torchvision's Faster R-CNN drops, px; its other detectors keep boxes without any area."""


class AsTheyAre(nn.Module):
    """In place of torchvision's transform, which would resize our squares to 800 px and normalise them again."""

    def forward(
        self, images: list[Tensor], targets: list[dict[str, Tensor]] | None
    ) -> tuple[ImageList, list[dict[str, Tensor]] | None]:
        """The images as a batch; their targets as they are."""
        batch = torch.stack(images)
        return ImageList(batch, [(batch.shape[2], batch.shape[3])] * len(batch)), targets

    def postprocess(self, found: list[dict[str, Tensor]], sizes: object, original: object) -> list[dict[str, Tensor]]:
        """The predictions as they are."""
        return found


class BoxDetector(nn.Module):
    """Greyscale squares in, losses (training) or boxes in input pixels (evaluation) out.

    `first_label` is what `detector` calls class 0: 1 where label 0 is its background. `detections_per_image` are kept.
    """

    def __init__(self, inputs: GreyInput, detector: nn.Module, *, first_label: int, detections_per_image: int) -> None:
        super().__init__()
        self.inputs = inputs
        self.detector = detector
        self.first_label, self.detections_per_image = first_label, detections_per_image

    def forward(self, images: Tensor, boxes: Sequence[Tensor], class_ids: Sequence[Tensor]) -> dict[str, Tensor]:
        """Losses of a batch: images f32[B, 1, S, S] in [0, 1], boxes f32[N, 4] xyxy px, class_ids i64[N] each."""
        pairs = zip(boxes, class_ids, strict=True)
        return self.detector(
            list(self.inputs(images)), [{"boxes": b, "labels": c + self.first_label} for b, c in pairs]
        )

    @torch.inference_mode()
    def predict(self, images: Tensor) -> list[tuple[Tensor, Tensor, Tensor]]:
        """Boxes f32[N, 4] xyxy px, scores f32[N] and class_ids i64[N] of each image, best first."""
        return [self._kept(**found) for found in self.detector(list(self.inputs(images)))]

    def _kept(self, boxes: Tensor, scores: Tensor, labels: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        kept = remove_small_boxes(boxes, _SMALLEST_SIDE)[: self.detections_per_image]
        return boxes[kept], scores[kept], labels[kept] - self.first_label
