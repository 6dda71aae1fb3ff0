"""Images from a data set to batches of square model inputs, the same whatever the number of workers.

Legend: B images, S the input's side in pixels, K labels of the data set.
"""

import signal
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Protocol

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from siimdet.core.boxes import clip_boxes, has_area
from siimdet.core.types import BoxLabels, ImageRecord, ImageSize
from siimdet.errors import DatasetError, UserError
from siimdet.imaging.png import read_grey

Resize = Literal["stretch", "letterbox", "shorter"]
SHORTER_MARGIN = 8 / 7
"""`shorter` fits the shorter side to this many times the input's side: 256 for a centre of 224."""


@dataclass(frozen=True, slots=True)
class Placement:
    """Where a stored image lies in the model's square: input px = stored px x scale + offset."""

    scale: tuple[float, float]
    offset: tuple[float, float]

    def to_input(self, xyxy: NDArray) -> NDArray[np.float32]:
        """Boxes [N, 4] of the stored image in input pixels; they may reach outside the square."""
        return (np.asarray(xyxy, np.float64) * np.tile(self.scale, 2) + np.tile(self.offset, 2)).astype(np.float32)

    def to_stored(self, xyxy: NDArray, size: ImageSize) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
        """Boxes [N, 4] of the input in stored pixels, clipped; and bool[N], which of them have an area."""
        boxes = (np.asarray(xyxy, np.float64) - np.tile(self.offset, 2)) / np.tile(self.scale, 2)
        clipped = clip_boxes(boxes, size).astype(np.float32)
        return clipped, has_area(clipped)


def fit_image(image: NDArray, side: int, resize: Resize) -> tuple[NDArray, Placement]:
    """Fit [H, W] into a square of `side` px: distorted, padded with black, or cut out of the centre."""
    height, width = image.shape
    if resize == "stretch":
        new = (side, side)
    else:
        fitted = side / max(height, width) if resize == "letterbox" else side * SHORTER_MARGIN / min(height, width)
        new = (max(1, round(width * fitted)), max(1, round(height * fitted)))
    shrinks = new[0] < width or new[1] < height
    scaled = cv2.resize(image, new, interpolation=cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR)
    left, top = (side - new[0]) // 2, (side - new[1]) // 2
    square = np.zeros((side, side), image.dtype)
    x1, y1, x2, y2 = max(left, 0), max(top, 0), min(left + new[0], side), min(top + new[1], side)
    square[y1:y2, x1:x2] = scaled[y1 - top : y2 - top, x1 - left : x2 - left]
    return square, Placement((new[0] / width, new[1] / height), (float(left), float(top)))


@dataclass(frozen=True, slots=True, eq=False)
class Batch:
    """A batch of model inputs.

    Shapes: images f32[B, 1, S, S] in [0, 1], labels f32[B, K] with NaN for unknown; per image boxes
    f32[N, 4] xyxy px of the input, class_ids i64[N], its placement and its id.
    """

    images: Tensor
    labels: Tensor
    boxes: list[Tensor]
    class_ids: list[Tensor]
    placements: list[Placement]
    ids: list[str]


class Augmentation(Protocol):
    """What the loader asks of an augmenter."""

    def boxes(
        self, image: NDArray, xyxy: NDArray[np.float32], class_ids: NDArray[np.int64], *, seed: int
    ) -> tuple[NDArray, NDArray[np.float32], NDArray[np.int64]]:
        """Augment an image [H, W] with its boxes."""
        ...


class Samples(Dataset):
    """Images of a data set as model inputs; item (epoch, index) is always the same."""

    def __init__(
        self,
        root: Path,
        records: Sequence[ImageRecord],
        boxes: Mapping[str, BoxLabels],
        *,
        side: int,
        resize: Resize,
        augmentation: Augmentation | None = None,
        seed: int = 0,
    ) -> None:
        self.root, self.records, self.truth = root, list(records), boxes
        self.side, self.augmentation, self.seed = side, augmentation, seed
        self.resize: Resize = resize

    def __len__(self) -> int:
        return len(self.records)

    def __getitem__(self, key: tuple[int, int]) -> tuple | UserError:
        """(image f32[1, S, S], labels, boxes, class_ids, placement, id) of (epoch, index).

        An image that cannot be read comes back as its error: torch would turn one that a worker process
        raises into a traceback.
        """
        try:
            return self._sample(*key)
        except UserError as error:
            return error

    def _sample(self, epoch: int, index: int) -> tuple:
        record = self.records[index]
        stored = read_grey(self.root / record.path)
        if stored.shape != (record.stored.height, record.stored.width):
            found = f"{stored.shape[1]}x{stored.shape[0]}"
            expected = f"{record.stored.width}x{record.stored.height} as in the manifest (convert again)"
            raise DatasetError(self.root / record.path, "size", found=found, expected=expected)
        image, placement = fit_image(stored, self.side, self.resize)
        if image.dtype == np.uint16:  # augmentation and models work on 8 bits or on floats
            image = image.astype(np.float32) / np.float32(65535)
        truth = self.truth[record.image_id]
        xyxy, kept = _inside(placement.to_input(truth.xyxy), self.side)
        class_ids = truth.class_ids[kept]
        if self.augmentation is not None:
            seed = int(np.random.SeedSequence((self.seed, epoch, index)).generate_state(1)[0])
            image, xyxy, class_ids = self.augmentation.boxes(image, xyxy, class_ids, seed=seed)
        pixels = torch.from_numpy(np.ascontiguousarray(image, dtype=np.float32))[None]
        if image.dtype == np.uint8:
            pixels = pixels / 255
        labels = torch.tensor(record.labels)
        return pixels, labels, torch.tensor(xyxy), torch.tensor(class_ids), placement, record.image_id


def training_batches(
    samples: Samples, *, batch_size: int, epoch: int, skip: int = 0, workers: int = 0
) -> Iterator[Batch]:
    """One shuffled epoch, from batch number `skip` on.

    The last, smaller batch is left out where there is a full one: its batch-norm statistics would be noise.
    """
    order = np.random.default_rng((samples.seed, epoch)).permutation(len(samples))
    full = len(order) - len(order) % batch_size if len(order) >= batch_size else len(order)
    keys = [(epoch, int(index)) for index in order[:full]]
    chunks = [keys[i : i + batch_size] for i in range(0, full, batch_size)]
    yield from _load(samples, chunks[skip:], workers)


def steps_per_epoch(samples: Samples, batch_size: int) -> int:
    """Number of batches that `training_batches` yields from the start."""
    return max(1, len(samples) // batch_size)


def ordered_batches(samples: Samples, *, batch_size: int, workers: int = 0) -> Iterator[Batch]:
    """Every image once, in the order of the records."""
    keys = [(0, index) for index in range(len(samples))]
    yield from _load(samples, [keys[i : i + batch_size] for i in range(0, len(keys), batch_size)], workers)


def _load(samples: Samples, chunks: list[list[tuple[int, int]]], workers: int) -> Iterator[Batch]:
    # A generator of its own: DataLoader draws a seed for its workers from the global one otherwise,
    # and a resumed training would see other random numbers than an unbroken one.
    generator = torch.Generator()
    loader = DataLoader(
        samples,
        batch_sampler=chunks,
        collate_fn=_collate,
        num_workers=workers,
        generator=generator,
        worker_init_fn=start_worker,
    )
    for batch in loader:
        if isinstance(batch, UserError):
            raise batch
        yield batch


def start_worker(worker: int) -> None:
    """Set up a loading process: one thread for OpenCV, and SIGTERM left to the parent, which saves its state."""
    cv2.setNumThreads(0)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)


def _collate(items: list[tuple | UserError]) -> Batch | UserError:
    for item in items:
        if isinstance(item, UserError):
            return item
    images, labels, boxes, class_ids, placements, ids = zip(*items, strict=True)
    return Batch(torch.stack(images), torch.stack(labels), list(boxes), list(class_ids), list(placements), list(ids))


def _inside(xyxy: NDArray[np.float32], side: int) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    clipped = clip_boxes(xyxy, ImageSize(side, side)).astype(np.float32)
    kept = has_area(clipped)
    return clipped[kept], kept
