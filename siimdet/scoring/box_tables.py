"""The boxes of many images as parallel columns: what the scorers read.

Shapes: M true boxes, N predicted ones.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from siimdet.core.types import BoxLabels, Detections


@dataclass(frozen=True, slots=True, eq=False)
class TruthBoxes:
    """The true boxes of many images, as parallel columns.

    Shapes: images i64[M] (image numbers 0, 1, ...; memory grows with the largest), class_ids i64[M],
    xyxy f64[M, 4] in any unit shared with the predictions. Arrays are kept, not copied.
    """

    images: NDArray[np.int64]
    class_ids: NDArray[np.int64]
    xyxy: NDArray[np.float64]

    def __post_init__(self) -> None:
        _normalise(self, "images", np.int64, (-1,))
        _normalise(self, "class_ids", np.int64, (-1,))
        _normalise(self, "xyxy", np.float64, (-1, 4))
        _check_columns(self)

    def __len__(self) -> int:
        return len(self.images)


@dataclass(frozen=True, slots=True, eq=False)
class PredictedBoxes:
    """The predicted boxes of many images, as parallel columns in any order.

    Shapes: as TruthBoxes, and scores f64[N], finite; only their order and their ties matter.
    """

    images: NDArray[np.int64]
    class_ids: NDArray[np.int64]
    xyxy: NDArray[np.float64]
    scores: NDArray[np.float64]

    def __post_init__(self) -> None:
        _normalise(self, "images", np.int64, (-1,))
        _normalise(self, "class_ids", np.int64, (-1,))
        _normalise(self, "xyxy", np.float64, (-1, 4))
        _normalise(self, "scores", np.float64, (-1,))
        _check_columns(self)
        if len(self.scores) != len(self.images) or not np.isfinite(self.scores).all():
            raise ValueError(f"{len(self.scores)} scores for {len(self.images)} boxes, expected a finite one for each")

    def __len__(self) -> int:
        return len(self.images)


def box_tables(
    truth: Mapping[str, BoxLabels], predictions: Mapping[str, Detections]
) -> tuple[TruthBoxes, PredictedBoxes]:
    """The boxes of the images of `truth`, which are numbered in its order.

    An image that `predictions` lacks is one in which nothing was found.
    Raises: ValueError for a prediction of another image, or in another size than the truth's.
    """
    for image_id, found in predictions.items():
        if image_id not in truth:
            raise ValueError(f"prediction for image {image_id}, expected only images of the truth")
        if found.size != truth[image_id].size:
            raise ValueError(f"image {image_id}: boxes in {found.size}, expected the truth's {truth[image_id].size}")
    found = [predictions.get(image_id, Detections.empty(labels.size)) for image_id, labels in truth.items()]
    labels = list(truth.values())
    return (
        TruthBoxes(_numbers(labels), _join(labels, "class_ids"), _join(labels, "xyxy")),
        PredictedBoxes(_numbers(found), _join(found, "class_ids"), _join(found, "xyxy"), _join(found, "scores")),
    )


def _numbers(boxes: list) -> NDArray[np.int64]:
    return np.repeat(np.arange(len(boxes)), [len(b) for b in boxes])


def _join(boxes: list, column: str) -> NDArray:
    return np.concatenate([getattr(b, column) for b in boxes]) if boxes else np.zeros(0)


def _normalise(columns: object, name: str, dtype: type, shape: tuple[int, ...]) -> None:
    array = np.ascontiguousarray(getattr(columns, name), dtype=dtype)
    array = array.reshape(0, *shape[1:]) if array.size == 0 else array
    if array.ndim != len(shape) or array.shape[1:] != shape[1:]:
        raise ValueError(f"{name} of shape {array.shape}, expected {shape} with -1 for any length")
    object.__setattr__(columns, name, array)


def _check_columns(columns: TruthBoxes | PredictedBoxes) -> None:
    xyxy, n = columns.xyxy, len(columns.images)
    if not n == len(columns.class_ids) == len(xyxy):
        raise ValueError(f"{n} images, {len(columns.class_ids)} class ids and {len(xyxy)} boxes, expected as many")
    if n and min(columns.images.min(), columns.class_ids.min()) < 0:
        raise ValueError("negative image number or class id, expected 0 or more")
    if not np.isfinite(xyxy).all() or not (xyxy[:, 2:] >= xyxy[:, :2]).all():
        raise ValueError("box inverted or with NaN or infinite coordinates, expected x1 <= x2 and y1 <= y2")
