"""Run a model over images of a data set: detections in stored pixels, or class probabilities."""

from collections.abc import Sequence
from typing import Protocol, runtime_checkable

import numpy as np
import torch
from torch import Tensor

from siimdet.core.types import Detections, ImageRecord, ImageSize, LabelSpace, Probabilities
from siimdet.data.loader import Placement, Resize, Samples, ordered_batches
from siimdet.data.manifest import Dataset


@runtime_checkable
class Detector(Protocol):
    """A model that finds boxes."""

    def predict(self, images: Tensor) -> list[tuple[Tensor, Tensor, Tensor]]:
        """Images f32[B, 1, S, S] to boxes f32[N, 4] xyxy px of the input, scores f32[N], class ids i64[N] each."""
        ...


@runtime_checkable
class Classifies(Protocol):
    """A model that tells classes."""

    def predict(self, images: Tensor) -> Tensor:
        """Images f32[B, 1, S, S] to probabilities f32[B, K]."""
        ...


def detect(
    model: Detector,
    dataset: Dataset,
    records: Sequence[ImageRecord],
    *,
    side: int,
    resize: Resize,
    device: torch.device,
    batch_size: int = 8,
    workers: int = 0,
) -> dict[str, Detections]:
    """Boxes of every record by image id, in stored pixels, best first; boxes cut at the image's border."""
    samples = Samples(dataset.root, records, dataset.boxes, side=side, resize=resize)
    sizes = {record.image_id: record.stored for record in records}
    found = {}
    for batch in ordered_batches(samples, batch_size=batch_size, workers=workers):
        predictions = model.predict(batch.images.to(device))
        for image_id, placement, prediction in zip(batch.ids, batch.placements, predictions, strict=True):
            found[image_id] = _to_stored(prediction, placement, sizes[image_id])
    return found


def classify(
    model: Classifies,
    dataset: Dataset,
    records: Sequence[ImageRecord],
    classes: LabelSpace,
    *,
    side: int,
    resize: Resize,
    device: torch.device,
    batch_size: int = 32,
    workers: int = 0,
) -> Probabilities:
    """Class probabilities of every record, keyed by image id."""
    samples = Samples(dataset.root, records, dataset.boxes, side=side, resize=resize)
    rows = [
        model.predict(batch.images.to(device)).float().cpu().numpy()
        for batch in ordered_batches(samples, batch_size=batch_size, workers=workers)
    ]
    values = np.concatenate(rows) if rows else np.zeros((0, len(classes)), np.float32)
    return Probabilities(tuple(record.image_id for record in records), values, classes)


def _to_stored(prediction: tuple[Tensor, Tensor, Tensor], placement: Placement, size: ImageSize) -> Detections:
    boxes, scores, class_ids = (values.float().cpu().numpy() for values in prediction)
    xyxy, kept = placement.to_stored(boxes, size)
    order = np.argsort(-scores[kept], kind="stable")
    return Detections(xyxy[kept][order], class_ids[kept][order].astype(np.int64), scores[kept][order], size)
