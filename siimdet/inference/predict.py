"""Run a model over images of a data set: detections in stored pixels, or class probabilities.

Under torchrun every process predicts a part of the images and gets the predictions of all.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol, TypeVar, runtime_checkable

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from siimdet.core.distributed import gathered, interleaved, rank, together, world
from siimdet.core.labels import OPACITY
from siimdet.core.types import Detections, ImageRecord, ImageSize, LabelSpace, Probabilities
from siimdet.data.batch import Batch
from siimdet.data.cache import ImageCache
from siimdet.data.loader import Samples, ordered_batches
from siimdet.data.manifest import Dataset
from siimdet.data.placement import Placement, Resize
from siimdet.errors import RunError, UserError

Row = TypeVar("Row")


@runtime_checkable
class Detector(Protocol):
    """A model that finds boxes."""

    def predict(self, images: Tensor) -> list[tuple[Tensor, Tensor, Tensor]]:
        """Images f32[B, 1, S, S] to boxes f32[N, 4] xyxy px of the input, scores f32[N], class ids i64[N] each."""
        ...


@runtime_checkable
class Classifies(Protocol):
    """A model that tells classes."""

    def predict_all(self, images: Tensor) -> dict[str, Tensor]:
        """Images f32[B, 1, S, S] to probabilities: classes f32[B, K], and opacity f32[B] where it tells that."""
        ...


@dataclass(frozen=True, slots=True, eq=False)
class ClassPredictions:
    """What a classifier says of images.

    Shapes: classes f32[N, K] and opacity f32[N, 1], both keyed by image id; opacity is the probability that
    the image has a box, None of a model that does not tell it.
    """

    classes: Probabilities
    opacity: Probabilities | None = None

    def table(self) -> tuple[tuple[str, ...], list[tuple[object, ...]]]:
        """Header and rows of a classifier's CSV: image_id, a column per class, then opacity where it is told."""
        parts = [self.classes, *([self.opacity] if self.opacity is not None else [])]
        names = [name for part in parts for name in part.space.names]
        values = np.concatenate([part.values for part in parts], axis=1)
        rows: list[tuple[object, ...]] = [
            (key, *row) for key, row in zip(self.classes.keys, values.tolist(), strict=True)
        ]
        return ("image_id", *names), rows


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
    cache: ImageCache | None = None,
) -> dict[str, Detections]:
    """Boxes of every record by image id, in stored pixels, best first; boxes cut at the image's border.

    `cache` of the data set spares reading the images where it is of this side and resize, as in `classify` and
    `embed`. Raises: UserError if the device has too little memory.
    """
    (own,) = detect_own(
        [model],
        dataset,
        records,
        side=side,
        resize=resize,
        device=device,
        batch_size=batch_size,
        workers=workers,
        cache=cache,
    )
    return of_all(own, records)


def detect_own(
    models: Sequence[Detector],
    dataset: Dataset,
    records: Sequence[ImageRecord],
    *,
    side: int,
    resize: Resize,
    device: torch.device,
    batch_size: int = 8,
    workers: int = 0,
    cache: ImageCache | None = None,
    blank_share: float | None = None,
) -> list[dict[str, Detections]]:
    """What `detect` finds with each of several models in this process's part of the images, each read once for all.

    With `blank_share`, here and in `classify`, the models see every image as `blank_border` leaves it, and no cache
    is used.
    """
    samples = _samples(dataset, records, side, resize, cache, blank_share)
    sizes = {record.image_id: record.stored for record in records}

    def of_batch(batch: Batch) -> Iterator[tuple[str, list[Detections]]]:
        images = batch.greys(device)
        by_image = zip(*(model.predict(images) for model in models), strict=True)
        for image_id, placement, predictions in zip(batch.ids, batch.placements, by_image, strict=True):
            yield image_id, [_to_stored(prediction, placement, sizes[image_id]) for prediction in predictions]

    rows = _own_rows(samples, of_batch, device=device, batch_size=batch_size, workers=workers)
    return [{image_id: found[index] for image_id, found in rows} for index in range(len(models))]


def of_all(own: Mapping[str, Detections], records: Sequence[ImageRecord]) -> dict[str, Detections]:
    """The detections of all processes by image id, in the order of the records, from those of this one."""
    found = {image_id: boxes for part in gathered(own) for image_id, boxes in part.items()}
    return {record.image_id: found[record.image_id] for record in records}


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
    cache: ImageCache | None = None,
    blank_share: float | None = None,
) -> ClassPredictions:
    """Class probabilities of every record, keyed by image id."""
    samples = _samples(dataset, records, side, resize, cache, blank_share)

    def of_batch(batch: Batch) -> Iterator[tuple[NDArray, NDArray | None]]:
        found = {name: values.cpu().numpy() for name, values in model.predict_all(batch.greys(device)).items()}
        opacity = found.get("opacity", [None] * len(batch.ids))
        yield from zip(found["classes"], opacity, strict=True)

    rows = _all_rows(samples, of_batch, device=device, batch_size=batch_size, workers=workers)
    keys = tuple(record.image_id for record in records)
    values = np.array([row for row, _ in rows], np.float32).reshape(-1, len(classes))
    opacity = np.array([value for _, value in rows if value is not None], np.float32).reshape(-1, 1)
    _check_finite(keys, values)
    told = Probabilities(keys, opacity, OPACITY) if len(opacity) else None
    return ClassPredictions(Probabilities(keys, values, classes), told)


def embed(
    model: Callable[..., Tensor],
    dataset: Dataset,
    records: Sequence[ImageRecord],
    *,
    side: int,
    resize: Resize,
    device: torch.device,
    batch_size: int = 32,
    workers: int = 0,
    cache: ImageCache | None = None,
) -> NDArray[np.float32]:
    """Embeddings f32[N, D] of every record, rows of norm 1."""
    samples = _samples(dataset, records, side, resize, cache)

    @torch.inference_mode()
    def of_batch(batch: Batch) -> Iterator[NDArray]:
        yield from model(batch.greys(device), output="embedding").float().cpu().numpy()

    rows = _all_rows(samples, of_batch, device=device, batch_size=batch_size, workers=workers)
    values = np.array(rows, np.float32)
    _check_finite([record.image_id for record in records], values)
    return values


def _samples(
    dataset: Dataset,
    records: Sequence[ImageRecord],
    side: int,
    resize: Resize,
    cache: ImageCache | None,
    blank_share: float | None = None,
) -> Samples:
    fits = cache is not None and (cache.side, cache.resize, blank_share) == (side, resize, None)
    served = cache if fits else None
    return Samples(
        dataset.root, records, dataset.boxes, side=side, resize=resize, cache=served, blank_share=blank_share
    )


def _all_rows(
    samples: Samples,
    of_batch: Callable[[Batch], Iterator[Row]],
    *,
    device: torch.device,
    batch_size: int,
    workers: int,
) -> list[Row]:
    """A row for every image in the samples' order, each image read by one process."""
    own = _own_rows(samples, of_batch, device=device, batch_size=batch_size, workers=workers)
    return interleaved(gathered(own))


def _own_rows(
    samples: Samples,
    of_batch: Callable[[Batch], Iterator[Row]],
    *,
    device: torch.device,
    batch_size: int,
    workers: int,
) -> list[Row]:
    """A row for every image of this process's part; what fails in one process fails in all of them."""

    def own() -> list[Row]:
        batches = ordered_batches(
            samples, batch_size=batch_size, workers=workers, part=(rank(), world()), pin=device.type == "cuda"
        )
        try:
            return [row for batch in batches for row in of_batch(batch)]
        except torch.OutOfMemoryError as error:
            found = f"too little for {batch_size} inputs of {samples.side} px at a time"
            fewer = "fewer at a time (batch_size in the run's model.json, validation_batch_size in a training)"
            expected = f"{fewer}, or smaller ones (--scales)"
            raise UserError(f"prediction on {device}", "memory", found=found, expected=expected) from error

    return together(own)


def _check_finite(keys: Sequence[str], values: NDArray[np.float32]) -> None:
    broken = ~np.isfinite(values).all(axis=1)
    if broken.any():
        found = f"nan or infinity for {broken.sum()} images, the first {keys[int(broken.argmax())]}"
        raise RunError("model", "output", found=found, expected="numbers (its training went astray: a lower rate?)")


def _to_stored(prediction: tuple[Tensor, Tensor, Tensor], placement: Placement, size: ImageSize) -> Detections:
    boxes, scores, class_ids = (values.float().cpu().numpy() for values in prediction)
    xyxy, kept = placement.to_stored(boxes, size)
    order = np.argsort(-scores[kept], kind="stable")
    return Detections(xyxy[kept][order], class_ids[kept][order].astype(np.int64), scores[kept][order], size)
