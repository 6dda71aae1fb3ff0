"""The types that every layer shares: frozen, validated when built, NumPy arrays inside.

Shapes: N boxes or images, K classes. Boxes are xyxy in pixels, continuous coordinates (a box that
covers the whole image is [0, 0, width, height]). Truth (`BoxLabels`) and prediction
(`Detections`) are different types on purpose.
"""

from dataclasses import dataclass, field
from typing import Literal

import numpy as np
from numpy.typing import NDArray

Split = Literal["train", "val", "test"]
SPLITS: tuple[Split, ...] = ("train", "val", "test")


@dataclass(frozen=True, slots=True, order=True)
class ImageSize:
    """Width and height of an image, in pixels."""

    width: int
    height: int

    def __post_init__(self) -> None:
        if self.width < 1 or self.height < 1:
            raise ValueError(f"image size is {self.width}x{self.height}, expected at least 1x1")


@dataclass(frozen=True, slots=True)
class LabelSpace:
    """An ordered, named list of classes; a class id is the 0-based index."""

    name: str
    names: tuple[str, ...]

    def __post_init__(self) -> None:
        if len(set(self.names)) != len(self.names):
            raise ValueError(f"label space {self.name} has a class twice: {self.names}")

    def __len__(self) -> int:
        return len(self.names)

    def index(self, name: str) -> int:
        """Class id of a name; raises ValueError that lists the names there are."""
        if name not in self.names:
            raise ValueError(f"{self.name} has no class {name!r}, expected one of {', '.join(self.names)}")
        return self.names.index(name)


@dataclass(frozen=True, slots=True, eq=False)
class BoxLabels:
    """The true boxes of one image.

    Shapes: xyxy f32[N, 4] px with x1 < x2 and y1 < y2 inside the image, class_ids i64[N].
    """

    xyxy: NDArray[np.float32]
    class_ids: NDArray[np.int64]
    size: ImageSize

    def __post_init__(self) -> None:
        object.__setattr__(self, "xyxy", _array(self.xyxy, np.float32, (-1, 4)))
        object.__setattr__(self, "class_ids", _array(self.class_ids, np.int64, (-1,)))
        check_boxes(self.xyxy, self.size)
        if len(self.class_ids) != len(self.xyxy):
            raise ValueError(f"{len(self.class_ids)} class ids for {len(self.xyxy)} boxes, expected as many")
        _check_class_ids(self.class_ids)

    def __len__(self) -> int:
        return len(self.xyxy)

    @classmethod
    def empty(cls, size: ImageSize) -> "BoxLabels":
        """An image without boxes."""
        return cls(np.zeros((0, 4), np.float32), np.zeros(0, np.int64), size)


@dataclass(frozen=True, slots=True, eq=False)
class Detections:
    """The predicted boxes of one image.

    Shapes: as BoxLabels, and scores f32[N] in [0, 1].
    """

    xyxy: NDArray[np.float32]
    class_ids: NDArray[np.int64]
    scores: NDArray[np.float32]
    size: ImageSize

    def __post_init__(self) -> None:
        object.__setattr__(self, "xyxy", _array(self.xyxy, np.float32, (-1, 4)))
        object.__setattr__(self, "class_ids", _array(self.class_ids, np.int64, (-1,)))
        object.__setattr__(self, "scores", _array(self.scores, np.float32, (-1,)))
        check_boxes(self.xyxy, self.size)
        if not len(self.xyxy) == len(self.class_ids) == len(self.scores):
            raise ValueError(
                f"{len(self.xyxy)} boxes, {len(self.class_ids)} class ids and {len(self.scores)} scores, "
                "expected as many of each"
            )
        _check_class_ids(self.class_ids)
        if not ((self.scores >= 0) & (self.scores <= 1)).all():
            raise ValueError(f"score outside [0, 1]: {self.scores[~((self.scores >= 0) & (self.scores <= 1))][0]}")

    def __len__(self) -> int:
        return len(self.xyxy)

    @classmethod
    def empty(cls, size: ImageSize) -> "Detections":
        """An image in which nothing was found."""
        return cls(np.zeros((0, 4), np.float32), np.zeros(0, np.int64), np.zeros(0, np.float32), size)


@dataclass(frozen=True, slots=True, eq=False)
class Probabilities:
    """Class probabilities per image or study.

    Shapes: keys N ids, values f32[N, K] in [0, 1], K = len(space).
    """

    keys: tuple[str, ...]
    values: NDArray[np.float32]
    space: LabelSpace

    def __post_init__(self) -> None:
        object.__setattr__(self, "values", _array(self.values, np.float32, (-1, len(self.space))))
        if len(self.keys) != len(self.values):
            raise ValueError(f"{len(self.values)} rows for {len(self.keys)} keys, expected as many")
        if not ((self.values >= 0) & (self.values <= 1)).all():
            raise ValueError("probability outside [0, 1]")


@dataclass(frozen=True, slots=True, eq=False)
class ImageRecord:
    """One row of manifest.csv.

    Shapes: labels f32[K] in the data set's label space, 1, 0 or NaN for unknown. `path` is
    relative to the data set; `stored` is the size of the file there, `original` the size in whose
    pixels the source publishes its boxes. `fold` is None outside cross-validation.
    """

    image_id: str
    study_id: str
    patient_id: str
    path: str
    stored: ImageSize
    original: ImageSize
    labels: NDArray[np.float32]
    split: Split
    fold: int | None = None
    source: dict[str, str] = field(default_factory=dict)
    """Further columns of the source's own table, as text."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "labels", _array(self.labels, np.float32, (-1,)))
        # One expression instead of np.isin: reading all of NIH builds 112,120 records.
        if not ((self.labels == 0) | (self.labels == 1) | np.isnan(self.labels)).all():
            raise ValueError(f"image {self.image_id}: labels {self.labels}, expected 1, 0 or NaN for unknown")
        if self.split not in SPLITS:
            raise ValueError(f"image {self.image_id}: split {self.split!r}, expected one of {', '.join(SPLITS)}")


def check_boxes(xyxy: NDArray[np.float32], size: ImageSize) -> None:
    """Raise ValueError unless every box has an area and lies inside the image."""
    if not np.isfinite(xyxy).all():
        raise ValueError("box with NaN or infinite coordinates")
    if len(xyxy) == 0:
        return
    if not (xyxy[:, 2:] > xyxy[:, :2]).all():
        bad = xyxy[~(xyxy[:, 2:] > xyxy[:, :2]).all(1)][0].tolist()
        raise ValueError(f"box {bad} has no area, expected x1 < x2 and y1 < y2")
    if xyxy.min() < 0 or xyxy[:, 2].max() > size.width or xyxy[:, 3].max() > size.height:
        inside = (xyxy >= 0).all(1) & (xyxy[:, 2] <= size.width) & (xyxy[:, 3] <= size.height)
        raise ValueError(f"box {xyxy[~inside][0].tolist()} is outside its {size.width}x{size.height} image")


def _check_class_ids(class_ids: NDArray[np.int64]) -> None:
    if len(class_ids) and class_ids.min() < 0:
        raise ValueError(f"class id {class_ids.min()}, expected 0 or more")


def _array(value: object, dtype: type, shape: tuple[int, ...]) -> NDArray:
    array = np.array(value, dtype=dtype, copy=True)
    if array.ndim != len(shape) and array.size == 0:
        array = array.reshape([0 if n == -1 else n for n in shape])
    if array.ndim != len(shape) or any(n not in (-1, m) for n, m in zip(shape, array.shape, strict=True)):
        raise ValueError(f"array of shape {array.shape}, expected {shape} with -1 for any length")
    array.setflags(write=False)
    return array
