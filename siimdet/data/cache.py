"""The images of a data set as a model takes them, in one file that is mapped into memory.

A cache is a folder: pixels.u8, the placed images u8[S, S] one after the other, cache.json, which says what they
are of, and the file that its builder locks. Its name follows from the data set's tables, from how its images were
converted, and from the names, sizes and times of change of its image files: a data set that has changed has
another cache, and so has a copy that did not keep the times. Epochs then read no PNG and resize nothing.
"""

import contextlib
import functools
import hashlib
import json
import logging
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from siimdet.core.ahead import computed_ahead
from siimdet.core.distributed import by_first, local_rank, together
from siimdet.core.files import atomic_write, locked_file, read_versioned_json
from siimdet.core.types import ImageRecord, ImageSize
from siimdet.data.dataset import HEADER, Dataset
from siimdet.data.placement import Resize, fit_image
from siimdet.errors import DatasetError, ImageError, UserError
from siimdet.imaging.png import read_grey

log = logging.getLogger(__name__)

FORMAT_VERSION = 1
PIXELS = "pixels.u8"
DESCRIPTION = "cache.json"
LOCK = "lock"
_PAUSE = 0.2
"""Seconds between two looks at a cache that another process builds."""


class ImageCache:
    """Placed images by image id, read only: `cache[image_id]` is u8[S, S], a view of the file."""

    def __init__(self, folder: Path, dataset: Dataset, *, side: int, resize: Resize) -> None:
        self.folder, self.side = folder, side
        self.resize: Resize = resize
        self._root = dataset.root
        self._places = {r.image_id: (row, r.stored, r.path) for row, r in enumerate(dataset.records)}
        self._pixels = self._mapped()

    def __getitem__(self, image_id: str) -> NDArray[np.uint8]:
        return self._pixels[self._places[image_id][0]]

    def stored_size(self, image_id: str) -> ImageSize:
        """Size of the image's own file."""
        return self._places[image_id][1]

    def ids_of(self, files: Iterable[Path]) -> list[str]:
        """Image ids of files of the data set, by whatever way their folders are reached."""
        folder = functools.cache(Path.resolve)
        known = {}
        for image_id, (_, _, path) in self._places.items():
            file = self._root / path
            known[folder(file.parent) / file.name] = image_id
        return [known[folder(file.parent) / file.name] for file in files]

    def __getstate__(self) -> dict[str, Any]:
        # A mapping pickles as all of its pixels, to every loading process that is not forked.
        return {**self.__dict__, "_pixels": None}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._pixels = self._mapped()

    def _mapped(self) -> NDArray[np.uint8]:
        shape = (len(self._places), self.side, self.side)
        return np.asarray(np.memmap(self.folder / PIXELS, np.uint8, "r", shape=shape))


def open_cache(folder: Path, dataset: Dataset, *, side: int, resize: Resize) -> ImageCache:
    """The cache of all images of a data set below `folder`, built first where it is not there or not whole.

    Whoever builds it, it is built once: other processes wait, and go on where the builder was killed. Under
    torchrun the first process builds, then one of each other machine that does not see the same folder, and what
    fails there fails everywhere.
    Raises: DatasetError for a data set of 16 bits, ImageError for an image that cannot be read, UserError if the
    folder cannot be written or read.
    """
    if dataset.bit_depth != 8:
        expected = "8, which is what a cache holds (or train without one)"
        raise DatasetError(dataset.root / HEADER, "bit_depth", found=dataset.bit_depth, expected=expected)

    place = together(lambda: folder / f"{_key(dataset)}-{side}-{resize}")

    def build() -> None:
        with _told(place, "a place to write to"):
            _build_once(place, dataset, side, resize)

    def mapped() -> ImageCache:
        with _told(place, "a cache to read"):
            return ImageCache(place, dataset, side=side, resize=resize)

    # In two rounds, for network file systems that know no locks, or keep them within a machine.
    by_first(build)
    together(lambda: build() if local_rank() == 0 else None)
    return together(mapped)


def read_stored(root: Path, record: ImageRecord) -> NDArray[np.unsignedinteger]:
    """The image of a record, u8 or u16[H, W]. Raises: DatasetError if it is not of the manifest's size; ImageError."""
    stored = read_grey(root / record.path)
    if stored.shape != (record.stored.height, record.stored.width):
        found = f"{stored.shape[1]}x{stored.shape[0]}"
        expected = f"{record.stored.width}x{record.stored.height} as in the manifest (convert again)"
        raise DatasetError(root / record.path, "size", found=found, expected=expected)
    return stored


def _key(dataset: Dataset) -> str:
    conversion = json.dumps(dataset.details.get("preprocessing"), sort_keys=True)
    digest = hashlib.sha256(f"{dataset.fingerprint}\n{conversion}\n".encode())
    for record in dataset.records:
        path = dataset.root / record.path
        try:
            file = path.stat()
        except OSError as error:
            raise ImageError(path, "file", found=error.strerror, expected="a readable file") from None
        digest.update(f"{record.image_id}\t{record.path}\t{file.st_size}\t{file.st_mtime_ns}\n".encode())
    return digest.hexdigest()[:16]


@contextlib.contextmanager
def _told(place: Path, expected: str) -> Iterator[None]:
    """Tell the user of what the file system refuses, in one line, and by `together` in every process."""
    try:
        yield
    except OSError as error:
        raise UserError(place, "folder", found=error.strerror or error, expected=expected) from error


def _build_once(place: Path, dataset: Dataset, side: int, resize: Resize) -> None:
    description = {
        "format": FORMAT_VERSION,
        "fingerprint": dataset.fingerprint,
        "images": len(dataset.records),
        "side": side,
        "resize": resize,
    }
    place.mkdir(parents=True, exist_ok=True)
    while not _whole(place, description):
        with locked_file(place / LOCK) as ours:
            if ours is not False and not _whole(place, description):
                _build(place, dataset, description, alone=ours is True)
        if ours is False:
            time.sleep(_PAUSE)


def _whole(place: Path, description: dict[str, Any]) -> bool:
    pixels, size = place / PIXELS, description["images"] * description["side"] ** 2
    if not (place / DESCRIPTION).is_file() or not pixels.is_file() or pixels.stat().st_size != size:
        return False
    found = read_versioned_json(place / DESCRIPTION, FORMAT_VERSION, kind=UserError, what="an image cache")
    return found == description


def _build(place: Path, dataset: Dataset, description: dict[str, Any], *, alone: bool) -> None:
    (place / DESCRIPTION).unlink(missing_ok=True)
    if alone:  # or another one may be writing what looks left over
        for left in place.glob(f".{PIXELS}.*"):  # by a builder that was killed
            left.unlink(missing_ok=True)
    log.info("caching %d images in %s", len(dataset.records), place)
    with atomic_write(place / PIXELS, "wb") as stream:
        for image in _placed_images(dataset, description["side"], description["resize"]):
            stream.write(image)
    with atomic_write(place / DESCRIPTION) as stream:
        stream.write(json.dumps(description, indent=2) + "\n")


def _placed_images(dataset: Dataset, side: int, resize: Resize) -> Iterator[NDArray[np.uint8]]:
    one = functools.partial(_placed, dataset.root, side=side, resize=resize)
    yield from computed_ahead(one, dataset.records)  # OpenCV computes without the interpreter's lock


def _placed(root: Path, record: ImageRecord, *, side: int, resize: Resize) -> NDArray[np.uint8]:
    stored = read_stored(root, record)
    if stored.dtype != np.uint8:
        raise DatasetError(root / record.path, "bit depth", found=stored.dtype, expected="8 bits, as dataset.json says")
    return fit_image(stored, side, resize)[0]
