"""Mean and standard deviation of a data set's grey values."""

import math
from collections.abc import Iterable
from pathlib import Path

import numpy as np

from siimdet.core.types import ImageRecord
from siimdet.errors import DatasetError
from siimdet.imaging.png import read_grey


def grey_statistics(root: Path, records: Iterable[ImageRecord], bit_depth: int) -> tuple[float, float]:
    """Mean and standard deviation of grey in [0, 1] over all pixels of the records' stored images.

    Every pixel counts once, whatever the size of its image. Exact: levels are counted, and their
    sums are integers.
    Raises: DatasetError for a file of another bit depth, or if all pixels are of one level.
    """
    levels = 2**bit_depth
    counts = np.zeros(levels, np.int64)
    for record in records:
        pixels = read_grey(root / record.path)
        if pixels.itemsize * 8 != bit_depth:
            found = f"{pixels.itemsize * 8} bits"
            raise DatasetError(root / record.path, "bit depth", found=found, expected=f"{bit_depth} bits")
        counts += np.bincount(pixels.ravel(), minlength=levels)
    if np.count_nonzero(counts) < 2:
        found = f"{np.count_nonzero(counts)} in the training images"
        raise DatasetError(root, "grey levels", found=found, expected="2 or more, to tell their mean and deviation")
    # Python's integers: sums of squares of 16 bits outgrow int64, and float64 rounds them.
    number, total, squares = (sum(n * level**power for level, n in enumerate(counts.tolist())) for power in (0, 1, 2))
    white = levels - 1
    return total / (number * white), math.sqrt(number * squares - total**2) / (number * white)
