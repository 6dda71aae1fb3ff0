"""Test-time augmentation of detectors: an image at several sizes and mirrored, the boxes of all versions fused."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import torch
from torch import Tensor

from siimdet.core.types import Detections, ImageRecord
from siimdet.data.cache import ImageCache
from siimdet.data.dataset import Dataset
from siimdet.data.placement import Resize
from siimdet.errors import UserError
from siimdet.inference.fusion import fuse
from siimdet.inference.predict import Detector, detect_own, of_all

STEP = 32
"""Sides of scaled inputs are multiples of this, px, unless the detector is Strided."""
LEAST, MOST = 0.1, 8.0
"""Bounds of a scale."""


@dataclass(frozen=True, slots=True)
class Versions:
    """The versions of an image that a model sees. Raises: UserError for a scale outside its bounds."""

    flip: bool = False
    """Also the mirror image, at every scale."""
    scales: tuple[float, ...] = (1.0,)
    """Sides of the input, as shares of the run's own."""

    def __post_init__(self) -> None:
        broken = [scale for scale in self.scales if not (math.isfinite(scale) and LEAST <= scale <= MOST)]
        if broken or not self.scales:
            expected = f"numbers from {LEAST:g} to {MOST:g}"
            raise UserError("--scales", "scale", found=broken[0] if broken else "none", expected=expected)

    def sides(self, side: int, step: int = STEP) -> tuple[int, ...]:
        """Sides of the inputs, px: multiples of `step` but for scale 1, each once."""
        scaled = (side if scale == 1 else max(step, step * round(side * scale / step)) for scale in self.scales)
        return tuple(dict.fromkeys(scaled))


PLAIN = Versions()
"""Each image as it is."""


@runtime_checkable
class Strided(Protocol):
    """A detector that takes no other inputs than those of whole cells of its coarsest map."""

    @property
    def stride(self) -> int:
        """Side of such a cell, px of the input."""
        ...


class Mirrored:
    """A detector that looks at the mirror image, and says what it finds in pixels of the image."""

    def __init__(self, model: Detector) -> None:
        self._model = model

    def predict(self, images: Tensor) -> list[tuple[Tensor, Tensor, Tensor]]:
        """As Detector."""
        side = images.shape[-1]
        found = self._model.predict(images.flip(-1))
        return [(_mirror(boxes, side), scores, class_ids) for boxes, scores, class_ids in found]


def detect_versions(
    model: Detector,
    dataset: Dataset,
    records: Sequence[ImageRecord],
    *,
    versions: Versions,
    side: int,
    resize: Resize,
    device: torch.device,
    batch_size: int = 8,
    workers: int = 0,
    cache: ImageCache | None = None,
    blank_share: float | None = None,
) -> dict[str, Detections]:
    """What `detect` finds in each version of every image, fused by weighted boxes in stored pixels.

    A single version gives what `detect` gives. `batch_size` is that of scale 1: larger inputs come in smaller
    batches, that they fit the same memory. `cache` serves the version of its side, as in `detect`;
    `blank_share` as in `detect_own`.
    Source: Solovyev et al., arXiv:1910.13302.
    """
    models: list[Detector] = [model, Mirrored(model)] if versions.flip else [model]
    own: list[dict[str, Detections]] = []
    for scaled in versions.sides(side, model.stride if isinstance(model, Strided) else STEP):
        own += detect_own(
            models,
            dataset,
            records,
            side=scaled,
            resize=resize,
            device=device,
            batch_size=min(batch_size, max(1, int(batch_size * (side / scaled) ** 2))),
            workers=workers,
            cache=cache,
            blank_share=blank_share,
        )
    return of_all(own[0] if len(own) == 1 else fuse(own), records)


def _mirror(boxes: Tensor, side: int) -> Tensor:
    return torch.stack([side - boxes[:, 2], boxes[:, 1], side - boxes[:, 0], boxes[:, 3]], dim=1)
