"""A batch of model inputs: bytes until the device of the model turns them into floats.

Legend: B images, S the input's side in pixels, K labels of the data set.
"""

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from siimdet.data.placement import Placement


@dataclass(frozen=True, slots=True, eq=False)
class Batch:
    """A batch of model inputs.

    Shapes: images u8[B, 1, S, S], or f32 in [0, 1] where they had 16 bits, labels f32[B, K] with NaN for
    unknown; per image boxes f32[N, 4] xyxy px of the input, class_ids i64[N], its placement and its id.
    """

    images: Tensor
    labels: Tensor
    boxes: list[Tensor]
    class_ids: list[Tensor]
    placements: list[Placement]
    ids: list[str]
    dropped_boxes: int = 0
    """Boxes of the images that are not here: out of view, or slivers of what they were."""

    def greys(self, device: torch.device) -> Tensor:
        """The images f32[B, 1, S, S] in [0, 1] on a device, to which bytes travel as bytes."""
        return as_greys(self.images.to(device, non_blocking=True))

    def targets(self, device: torch.device) -> tuple[list[Tensor], list[Tensor]]:
        """Boxes and class ids of every image on a device, by one copy each: CUDA goes on computing meanwhile."""
        counts = [len(boxes) for boxes in self.boxes]
        joined = torch.cat(self.boxes), torch.cat(self.class_ids)
        if device.type == "cuda":  # which waits for its work before it copies from other memory
            joined = [values.pin_memory() for values in joined]
        boxes, class_ids = (values.to(device, non_blocking=True).split(counts) for values in joined)
        return list(boxes), list(class_ids)

    def pin_memory(self) -> "Batch":
        """The batch in memory that CUDA copies from while the device computes."""
        return replace(self, images=self.images.pin_memory(), labels=self.labels.pin_memory())


def as_greys(images: Tensor) -> Tensor:
    """Images u8 or f32 in [0, 1] as f32 in [0, 1], on the device that they are on."""
    if images.dtype != torch.uint8:
        return images
    # Not by the number 255: CUDA would multiply by its inverse, and some greys would be others than on the CPU.
    return images.float().div_(torch.full((), 255.0, device=images.device))


def collate(items: list[tuple]) -> Batch:
    """A batch of items of Samples."""
    images, labels, boxes, class_ids, placements, ids, dropped = zip(*items, strict=True)
    if len({image.dtype for image in images}) > 1:
        images = [as_greys(image) for image in images]
    return Batch(
        images=torch.stack(images),
        labels=torch.stack(labels),
        boxes=list(boxes),
        class_ids=list(class_ids),
        placements=list(placements),
        ids=list(ids),
        dropped_boxes=sum(dropped),
    )
