"""Distributions of a data set as plain JSON values: what the pictures of `inspect` are drawn from."""

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from siimdet.core.boxes import scale_boxes
from siimdet.core.types import SPLITS, ImageRecord, ImageSize, LabelSpace
from siimdet.data.dataset import Dataset, by_split

GRID = 32
"""Rows and columns of the map of box positions."""

COMMON_SIZES = 10
"""As many image sizes are listed, the most frequent ones."""

UNKNOWN = "unknown"
NONE = "none"

_QUANTILES = {"least": 0, "lower_quartile": 0.25, "median": 0.5, "upper_quartile": 0.75, "most": 1}
_UNIT = ImageSize(1, 1)


@dataclass(frozen=True, slots=True, eq=False)
class _Boxes:
    """All boxes: xyxy f64[N, 4] as fractions of the image, class_ids i64[N], positions of their images i64[N]."""

    xyxy: NDArray[np.float64]
    class_ids: NDArray[np.int64]
    images: NDArray[np.int64]

    def of_class(self, class_id: int) -> "_Boxes":
        kept = self.class_ids == class_id
        return _Boxes(self.xyxy[kept], self.class_ids[kept], self.images[kept])


def distributions(dataset: Dataset) -> dict[str, Any]:
    """How labels, boxes and images are distributed.

    By split: `labels` (images), `study_labels` (studies, and of all splits; None where every image is a study of
    its own), `classes` (boxes).
    `boxes_per_image` holds images by their number of boxes; `box_sizes` quartiles of width, height and area as
    fractions of the image, None without a box; `box_positions` the boxes that overlap each cell of the image cut
    into GRID x GRID, rows downwards. These three come for all boxes and by class.
    `image_sizes`, `bits` and `photometric` hold images; bits and photometric are the raw file's, by the source
    columns of these names: `unknown` where a data set lacks them, photometric `none` for a copy that has none.
    """
    boxes = _gather(dataset)
    parts = [("all", boxes)]
    parts += [(name, boxes.of_class(class_id)) for class_id, name in enumerate(dataset.classes.names)]
    images = len(dataset.records)
    return {
        "labels": _by_split(dataset, lambda records: count_labels(records, dataset.labels)),
        "study_labels": _labels_of_studies(dataset),
        "classes": _by_split(dataset, lambda records: _count_classes(dataset, records)),
        "boxes_per_image": _all_and_classes(parts, lambda part: _per_image(part, images)),
        "box_sizes": _all_and_classes(parts, _box_sizes),
        "box_positions": {"columns": GRID, "rows": GRID}
        | _all_and_classes(parts, lambda part: box_positions(part.xyxy).tolist()),
        "image_sizes": {
            "stored": _image_sizes(record.stored for record in dataset.records),
            "original": _image_sizes(record.original for record in dataset.records),
        },
        "bits": _bits(dataset.records),
        "photometric": _counted(record.source.get("photometric", UNKNOWN) or NONE for record in dataset.records),
    }


def count_labels(records: Sequence[ImageRecord], space: LabelSpace) -> dict[str, dict[str, int]]:
    """The images in which a label is positive, negative and unknown, for every label."""
    return _count_values(_labels(records, space), space)


def count_study_labels(records: Sequence[ImageRecord], space: LabelSpace) -> dict[str, dict[str, int]]:
    """The same of studies: positive if one of its images is, else unknown if one is unknown, else negative."""
    studies, places = np.unique([record.study_id for record in records], return_inverse=True)
    ranks = np.nan_to_num(_labels(records, space) * 2, nan=1).astype(np.int64)
    highest = np.zeros((len(studies), len(space)), np.int64)
    np.maximum.at(highest, places, ranks)
    return _count_values(np.array([0, np.nan, 1], np.float32)[highest], space)


def box_positions(xyxy: NDArray[np.float64]) -> NDArray[np.int64]:
    """i64[GRID, GRID]: how many boxes f64[N, 4], fractions of their image, overlap each cell; row 0 is the top."""
    first = np.clip(np.floor(xyxy[:, :2] * GRID), 0, GRID - 1).astype(np.int64)
    behind = np.clip(np.ceil(xyxy[:, 2:] * GRID), 1, GRID).astype(np.int64)
    # Corners of differences, whose sums over rows and columns are the counts: one step per box, not per cell.
    corners = np.zeros((GRID + 1, GRID + 1), np.int64)
    np.add.at(corners, (first[:, 1], first[:, 0]), 1)
    np.add.at(corners, (first[:, 1], behind[:, 0]), -1)
    np.add.at(corners, (behind[:, 1], first[:, 0]), -1)
    np.add.at(corners, (behind[:, 1], behind[:, 0]), 1)
    return corners.cumsum(axis=0).cumsum(axis=1)[:GRID, :GRID]


def _gather(dataset: Dataset) -> _Boxes:
    found = [(i, dataset.boxes[record.image_id]) for i, record in enumerate(dataset.records)]
    found = [(i, truth) for i, truth in found if len(truth)]
    if not found:
        return _Boxes(np.zeros((0, 4)), np.zeros(0, np.int64), np.zeros(0, np.int64))
    return _Boxes(
        np.concatenate([scale_boxes(truth.xyxy, truth.size, _UNIT) for _, truth in found]),
        np.concatenate([truth.class_ids for _, truth in found]),
        np.concatenate([np.full(len(truth), i) for i, truth in found]),
    )


def _all_and_classes(parts: Sequence[tuple[str, _Boxes]], measure: Callable[[_Boxes], Any]) -> dict[str, Any]:
    (_, everything), *classes = parts
    return {"all": measure(everything), "classes": {name: measure(part) for name, part in classes}}


def _by_split(dataset: Dataset, count: Callable[[Sequence[ImageRecord]], Any]) -> dict[str, Any]:
    return {split: count(by_split(dataset, split)) for split in SPLITS}


def _labels_of_studies(dataset: Dataset) -> dict[str, Any] | None:
    if len({record.study_id for record in dataset.records}) == len(dataset.records):
        return None
    splits = _by_split(dataset, lambda records: count_study_labels(records, dataset.labels))
    return {"all": count_study_labels(dataset.records, dataset.labels)} | splits


def _labels(records: Sequence[ImageRecord], space: LabelSpace) -> NDArray[np.float32]:
    return np.array([record.labels for record in records], np.float32).reshape(len(records), len(space))


def _count_values(values: NDArray[np.float32], space: LabelSpace) -> dict[str, dict[str, int]]:
    counts = ((values == 1).sum(axis=0), (values == 0).sum(axis=0), np.isnan(values).sum(axis=0))
    rows = np.stack(counts, axis=1).tolist()
    return {
        name: dict(zip(("positive", "negative", "unknown"), row, strict=True))
        for name, row in zip(space.names, rows, strict=True)
    }


def _count_classes(dataset: Dataset, records: Sequence[ImageRecord]) -> dict[str, int]:
    counts = Counter(i for record in records for i in dataset.boxes[record.image_id].class_ids.tolist())
    return {name: counts[i] for i, name in enumerate(dataset.classes.names)}


def _per_image(boxes: _Boxes, images: int) -> dict[str, int]:
    numbers, counts = np.unique(np.bincount(boxes.images, minlength=images), return_counts=True)
    return {str(number): count for number, count in zip(numbers.tolist(), counts.tolist(), strict=True)}


def _box_sizes(boxes: _Boxes) -> dict[str, dict[str, float]] | None:
    if not len(boxes.xyxy):
        return None
    extents = boxes.xyxy[:, 2:] - boxes.xyxy[:, :2]
    measures = {"width": extents[:, 0], "height": extents[:, 1], "area": extents.prod(axis=1)}
    return {
        measure: {name: round(float(np.quantile(values, at)), 6) for name, at in _QUANTILES.items()}
        for measure, values in measures.items()
    }


def _image_sizes(sizes: Iterable[ImageSize]) -> dict[str, Any]:
    counts = Counter(sizes)
    common = sorted(counts.items(), key=lambda item: (-item[1], item[0]))[:COMMON_SIZES]
    return {
        "different": len(counts),
        "common": [{"width": size.width, "height": size.height, "images": count} for size, count in common],
    }


def _bits(records: Sequence[ImageRecord]) -> dict[str, int]:
    counts = _counted(record.source.get("bits", "") or UNKNOWN for record in records)
    numbers = sorted((name for name in counts if name.isdecimal()), key=int)
    return {name: counts[name] for name in [*numbers, *(name for name in counts if not name.isdecimal())]}


def _counted(values: Iterable[str]) -> dict[str, int]:
    return dict(sorted(Counter(values).items()))
