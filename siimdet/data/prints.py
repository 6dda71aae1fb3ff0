"""What the leak audit keeps of every image of a data set: a small print, its codes and a hash."""

import hashlib
import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from siimdet.core.types import ImageRecord
from siimdet.data.image_print import CODE_LENGTH, SIDE, WINDOWS, codes_of, print_of
from siimdet.errors import ImageError
from siimdet.imaging.png import read_grey


@dataclass(frozen=True, slots=True, eq=False)
class Prints:
    """What is kept of N images, in the order of their records; see siimdet.data.image_print.

    Shapes: ranks u8[N, 64, 64], codes f16[N, WINDOWS, CODE_LENGTH]: of half precision, for memory. `hashes` are
    SHA-256 of size and pixels, None for an image of one grey.
    """

    records: tuple[ImageRecord, ...]
    ranks: NDArray[np.uint8]
    codes: NDArray[np.float16]
    hashes: tuple[bytes | None, ...]


def read_prints(root: Path, records: Sequence[ImageRecord], *, read: Callable[[], None] | None = None) -> Prints:
    """Read the images of a data set, in threads, and keep their prints; `read` is called after each.

    Raises: ImageError for an image that cannot be read or is not of the size in its record.
    """
    ranks = np.zeros((len(records), SIDE, SIDE), np.uint8)
    codes = np.zeros((len(records), WINDOWS, CODE_LENGTH), np.float16)
    hashes: list[bytes | None] = []

    def digest(index: int) -> bytes | None:
        image = _read(root, records[index])
        ranks[index] = print_of(image)
        codes[index] = codes_of(ranks[index])
        if image.min() == image.max():
            return None
        return hashlib.sha256(f"{image.dtype}{image.shape}".encode() + image.tobytes()).digest()

    with ThreadPoolExecutor(os.cpu_count()) as pool:
        for key in pool.map(digest, range(len(records))):
            hashes.append(key)
            if read is not None:
                read()
    return Prints(tuple(records), ranks, codes, tuple(hashes))


def _read(root: Path, record: ImageRecord) -> NDArray[np.unsignedinteger]:
    image = read_grey(root / record.path)
    height, width = image.shape
    if (width, height) != (record.stored.width, record.stored.height):
        expected = f"{record.stored.height} rows of {record.stored.width}, as in the manifest"
        raise ImageError(root / record.path, "size", found=f"{height} rows of {width} pixels", expected=expected)
    return image
