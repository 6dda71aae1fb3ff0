"""Label rows f32[K] where one class of several holds, or nobody knows which."""

import numpy as np
from numpy.typing import NDArray

from siimdet.core.types import LabelSpace

NO_SPACE = LabelSpace("none", ())


def one_hot(space: LabelSpace, name: str | None) -> NDArray[np.float32]:
    """1 for one class and 0 for the others; NaN throughout for None."""
    if name is None:
        return np.full(len(space), np.nan, np.float32)
    return np.eye(len(space), dtype=np.float32)[space.index(name)]


def present(space: LabelSpace, class_ids: NDArray[np.int64]) -> NDArray[np.float32]:
    """1 for every class that has a box, 0 for the others."""
    labels = np.zeros(len(space), np.float32)
    labels[class_ids] = 1
    return labels
