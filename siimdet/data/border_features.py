"""What the border of an image tells: its grey in a few cells, without anything of the inside."""

import functools
import itertools
from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from siimdet.core.ahead import computed_ahead
from siimdet.data.border import border_pixels
from siimdet.imaging.png import read_grey

CELLS = 4
"""Cells of a side, between its two corners, which are cells too."""
SHARE = 0.1


def border_features(paths: Sequence[Path], *, share: float = SHARE) -> NDArray[np.float32]:
    """Mean and deviation of grey in [0, 1] of every cell of the border, f32[N, 2 x (4 + 4 CELLS)].

    The border is what `blank_border` sets to black for that share, one pixel at least, at the file's own resolution:
    a smaller copy would mix it with the inside. White is 1 at 8 and at 16 bits. Images are read by threads.
    Raises: ValueError for a share outside (0, .5); ImageError for a file that cannot be read.
    """
    if not 0 < share < 0.5:
        raise ValueError(f"share {share}, expected a number above 0 and below 0.5")
    rows = list(computed_ahead(functools.partial(_of_file, share=share), paths))
    return np.array(rows, np.float32).reshape(-1, 2 * (4 + 4 * CELLS))


def _of_file(path: Path, *, share: float) -> list[float]:
    return _of_image(read_grey(path), share)


def _of_image(image: NDArray[np.unsignedinteger], share: float) -> list[float]:
    white = np.iinfo(image.dtype).max
    found = []
    for cell in _cells(image, share):
        mean, deviation = cv2.meanStdDev(cell)
        found += [mean.item() / white, deviation.item() / white]
    return found


def _cells(image: NDArray[np.unsignedinteger], share: float) -> list[NDArray[np.unsignedinteger]]:
    """The cells of the border, row by row; in images of few pixels cells share some."""
    ys, xs = (_cuts(length, share) for length in image.shape)
    ends = (0, CELLS + 1)
    return [image[y, x] for i, y in enumerate(ys) for j, x in enumerate(xs) if i in ends or j in ends]


def _cuts(length: int, share: float) -> list[slice]:
    """A side's first corner, its cells, and its last corner."""
    corner = max(1, border_pixels(length, share))
    starts = [min(corner + k * max(length - 2 * corner, 0) // CELLS, length - 1) for k in range(CELLS + 1)]
    cells = [slice(start, max(end, start + 1)) for start, end in itertools.pairwise(starts)]
    return [slice(0, corner), *cells, slice(length - corner, length)]
