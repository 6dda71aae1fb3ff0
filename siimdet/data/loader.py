"""Images from a data set to batches of square model inputs, the same whatever the number of workers.

Legend: B images, S the input's side in pixels, K labels of the data set.
"""

import atexit
import multiprocessing
import signal
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Protocol

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch.utils.data import DataLoader, Dataset

from siimdet.core.boxes import clip_boxes, has_area
from siimdet.core.types import BoxLabels, ImageRecord, ImageSize
from siimdet.data.batch import Batch, collate
from siimdet.data.border import blank_border
from siimdet.data.cache import ImageCache, read_stored
from siimdet.data.placement import Resize, fit_image, place
from siimdet.data.sampling import Key, Part, of_part, training_keys
from siimdet.errors import UserError


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
        cache: ImageCache | None = None,
        blank_share: float | None = None,
    ) -> None:
        assert cache is None or (cache.side, cache.resize, blank_share) == (side, resize, None)
        self.root, self.records, self.truth = root, list(records), boxes
        self.side, self.augmentation, self.seed = side, augmentation, seed
        self.resize: Resize = resize
        self.cache, self.blank_share = cache, blank_share

    def __len__(self) -> int:
        return len(self.records)

    def __getitem__(self, key: Key) -> tuple:
        """The item that an epoch has at an index, augmented; a repeat in the same epoch is augmented anew."""
        seed = int(np.random.SeedSequence((self.seed, *key)).generate_state(1)[0])
        return self.load(key[1], self.augmentation, seed=seed)

    def collate(self, items: list[tuple]) -> Batch:
        """A batch of items."""
        return collate(items)

    def load(self, index: int, augmentation: Augmentation | None, *, seed: int) -> tuple:
        """An image u8 or f32[1, S, S], augmented by the seed, then its part of what a Batch holds, in that order.

        Raises: DatasetError or ImageError for a file that is not the one of the manifest.
        """
        record = self.records[index]
        image, placement = self._image(record), place(record.stored, self.side, self.resize)
        truth = self.truth[record.image_id]
        xyxy, kept = _inside(placement.to_input(truth.xyxy), self.side)
        class_ids = truth.class_ids[kept]
        if augmentation is not None:
            image, xyxy, class_ids = augmentation.boxes(image, xyxy, class_ids, seed=seed)
        # A view of the cache, which is read only, or of an image that was turned round, is copied.
        pixels = torch.from_numpy(np.require(image, requirements=("C", "W")))[None]
        boxes, ids = torch.from_numpy(xyxy), torch.from_numpy(class_ids)
        dropped = len(truth) - len(xyxy)
        return pixels, torch.tensor(record.labels), boxes, ids, placement, record.image_id, dropped

    def _image(self, record: ImageRecord) -> NDArray:
        if self.cache is not None:
            return self.cache[record.image_id]
        stored = read_stored(self.root, record)
        if self.blank_share is not None:
            stored = blank_border(stored, self.blank_share)
        image, _ = fit_image(stored, self.side, self.resize)
        # Augmentation and models work on 8 bits or on floats.
        return image.astype(np.float32) / np.float32(65535) if image.dtype == np.uint16 else image


class Items(Protocol):
    """What batches are made of: Samples, or triplets of them."""

    seed: int

    def __len__(self) -> int: ...

    def __getitem__(self, key: Key) -> tuple:
        """The item of a key."""
        ...

    def collate(self, items: list) -> Batch:
        """A batch of items."""
        ...


def training_batches(
    samples: Items,
    *,
    batch_size: int,
    epoch: int,
    skip: int = 0,
    workers: int = 0,
    part: Part = (0, 1),
    weights: NDArray | None = None,
    pin: bool = False,
) -> Iterator[Batch]:
    """One shuffled epoch, from batch number `skip` on.

    `batch_size` is that of all processes together: of every batch, the process `part` = (rank, world)
    gets each world-th item from its rank on. The last, smaller batch is left out where there is a full
    one. With `weights` f64[N], the chance of each item, N are drawn with replacement. `pin`: into memory
    that CUDA copies from while it computes; for a CUDA device alone.
    Raises: ConfigError if a batch has fewer images than there are processes.
    """
    chunks = training_keys(
        len(samples), batch_size=batch_size, seed=samples.seed, epoch=epoch, weights=weights, part=part
    )
    yield from _load(samples, chunks[skip:], workers, pin)


def steps_per_epoch(samples: Items, batch_size: int) -> int:
    """Number of batches that `training_batches` yields from the start, in every process."""
    return max(1, len(samples) // batch_size)


def ordered_batches(
    samples: Items, *, batch_size: int, workers: int = 0, part: Part = (0, 1), pin: bool = False
) -> Iterator[Batch]:
    """Every image once, in the order of the records; of a part, each world-th from its rank on.

    `batch_size` is that of the process; `pin` as for `training_batches`.
    """
    keys: list[Key] = of_part([(0, index) for index in range(len(samples))], part)
    yield from _load(samples, [keys[i : i + batch_size] for i in range(0, len(keys), batch_size)], workers, pin)


def _load(items: Items, chunks: list[list[Key]], workers: int, pin: bool) -> Iterator[Batch]:
    # A generator of its own: DataLoader draws a seed for its workers from the global one otherwise,
    # and a resumed training would see other random numbers than an unbroken one.
    generator = torch.Generator()
    caught = _Caught(items)
    loader = DataLoader(
        caught,
        batch_sampler=chunks,
        collate_fn=caught.collate,
        num_workers=workers,
        generator=generator,
        worker_init_fn=start_worker,
        pin_memory=pin,
    )
    try:
        for batch in loader:
            if isinstance(batch, UserError):
                raise batch
            yield batch
    except RuntimeError as error:
        if "DataLoader worker" not in str(error):
            raise
        found, expected = "one that died: killed, or out of memory", "them to live: fewer, or workers=0"
        raise UserError("loading", "workers", found=found, expected=expected) from error


class _Caught(Dataset):
    """Items and batches, or the error of the first image that cannot be read.

    torch would turn an error that a worker process raises into a traceback.
    """

    def __init__(self, items: Items) -> None:
        self._items = items

    def __getitem__(self, key: Key) -> tuple | UserError:
        try:
            return self._items[key]
        except UserError as error:
            # Where tblib is installed, as Dask does, a traceback comes along and holds the epoch, with its workers.
            error.__context__ = error.__cause__ = None
            return error.with_traceback(None)

    def collate(self, items: list[tuple | UserError]) -> Batch | UserError:
        for item in items:
            if isinstance(item, UserError):
                return item
        return self._items.collate(items)


def start_worker(worker: int) -> None:
    """Set up a loading process: one thread for OpenCV, and SIGTERM left to the parent, which saves its state."""
    cv2.setNumThreads(0)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)


@atexit.register
def _end_workers() -> None:
    # An epoch that an uncaught error holds in its traceback still has its workers here. multiprocessing sends them
    # SIGTERM, which they ignore, and waits for them; this function was registered after its own, so it runs first.
    if hasattr(signal, "SIGCHLD"):
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)  # torch's handler takes their end for a failure
    for process in multiprocessing.active_children():
        if process.daemon:
            process.kill()


def _inside(xyxy: NDArray[np.float32], side: int) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    clipped = clip_boxes(xyxy, ImageSize(side, side)).astype(np.float32)
    kept = has_area(clipped)
    return clipped[kept], kept
