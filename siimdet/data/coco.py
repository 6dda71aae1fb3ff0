"""COCO files: annotations.json beside the manifest, and the detectors' results.

An image's integer id is its position in sorted image ids, from 1; category_id = class id + 1, since
0 is the background inside torchvision; bbox is (x, y, width, height) in stored pixels.
Source: https://cocodataset.org/#format-data and #format-results.
"""

import json
import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from siimdet.core.boxes import xywh_to_xyxy, xyxy_to_xywh
from siimdet.core.files import atomic_write, read_json
from siimdet.core.types import BoxLabels, Detections, ImageRecord, ImageSize, LabelSpace
from siimdet.data.dataset import Dataset
from siimdet.errors import DatasetError, shown

_MOST_CLASSES = 2**31 - 1
"""Where the data set names none: ids are integers of 64 bits with us, of 32 with others."""
_FURTHEST = 1e38
"""Of a coordinate: two of them still add up to a corner in float32, for the image's size to judge."""


def coco_ids(dataset: Dataset) -> dict[str, int]:
    """Integer id of every image id, as annotations.json numbers them."""
    return _numbered(dataset.records)


def write_annotations(
    path: Path,
    records: Sequence[ImageRecord],
    boxes: Mapping[str, BoxLabels],
    classes: LabelSpace,
    *,
    ids: Mapping[str, int] | None = None,
    further: tuple[str, ...] = (),
) -> None:
    """Write annotations.json, images without boxes included.

    For other readers than ours `ids` may give other integer ids by image id, and `further` name attributes
    of the records to add to the image entries.
    """
    ids = ids or _numbered(records)
    ordered = sorted(records, key=lambda record: record.image_id)
    annotations = []
    for record in ordered:
        truth = boxes[record.image_id]
        for bbox, class_id in zip(xyxy_to_xywh(truth.xyxy).tolist(), truth.class_ids.tolist(), strict=True):
            annotations.append(
                {
                    "id": len(annotations) + 1,
                    "image_id": ids[record.image_id],
                    "category_id": class_id + 1,
                    "bbox": bbox,
                    "area": bbox[2] * bbox[3],
                    "iscrowd": 0,
                }
            )
    images = [
        {"id": ids[r.image_id], "file_name": r.path, "width": r.stored.width, "height": r.stored.height}
        | {name: getattr(r, name) for name in further}
        for r in ordered
    ]
    categories = [{"id": i + 1, "name": name} for i, name in enumerate(classes.names)]
    _write_json(path, {"images": images, "annotations": annotations, "categories": categories})


def read_annotations(path: Path, records: Sequence[ImageRecord], classes: LabelSpace) -> dict[str, BoxLabels]:
    """The boxes of every record, from an annotations.json that must agree with the records.

    Raises: DatasetError for other images, sizes or categories than the manifest's, or a box that is none.
    """
    content = read_json(path, kind=DatasetError, what="a COCO file")
    _expect(isinstance(content, dict), path, "content", type(content).__name__, "a COCO object")
    images, annotations, categories = (_list_of(content, key, path) for key in ("images", "annotations", "categories"))
    expected = [{"id": i + 1, "name": name} for i, name in enumerate(classes.names)]
    _expect(categories == expected, path, "categories", categories, expected)
    by_number = _matched_images(path, images, records)
    grouped: dict[str, list[tuple[list[float], int]]] = defaultdict(list)
    for position, entry in enumerate(annotations):
        image_id, bbox, class_id = _box(path, f"annotations[{position}]", entry, by_number, classes)
        grouped[image_id].append((bbox, class_id))
    empty = {size: BoxLabels.empty(size) for size in {record.stored for record in records}}
    boxes = {record.image_id: empty[record.stored] for record in records}
    for image_id, found in grouped.items():
        xyxy = xywh_to_xyxy([bbox for bbox, _ in found])
        try:
            boxes[image_id] = BoxLabels(xyxy, [class_id for _, class_id in found], boxes[image_id].size)  # type: ignore[arg-type]
        except ValueError as error:
            raise DatasetError(path, f"boxes of {image_id}", found=error, expected="boxes inside the image") from None
    return boxes


def write_detections(path: Path, dataset: Dataset, detections: Mapping[str, Detections]) -> None:
    """Write detections, keyed by image id and in stored pixels, as COCO results sorted by image id."""
    ids = coco_ids(dataset)
    results = []
    for image_id in sorted(detections):
        found = detections[image_id]
        rows = zip(xyxy_to_xywh(found.xyxy).tolist(), found.class_ids.tolist(), found.scores.tolist(), strict=True)
        results += [
            {"image_id": ids[image_id], "category_id": class_id + 1, "bbox": bbox, "score": score}
            for bbox, class_id, score in rows
        ]
    _write_json(path, results)


def read_detections(path: Path | str, dataset: Dataset) -> dict[str, Detections]:
    """Detections by image id, from COCO results; images in which nothing was found have no entry.

    Raises: DatasetError naming the entry with an unknown image or category, a broken box or score.
    """
    path = Path(path)
    results = read_json(path, kind=DatasetError, what="a COCO file")
    _expect(isinstance(results, list), path, "content", type(results).__name__, "a list of COCO results")
    by_number = {number: image_id for image_id, number in coco_ids(dataset).items()}
    grouped: dict[str, list[tuple[list[float], int, float]]] = defaultdict(list)
    for position, entry in enumerate(results):
        image_id, bbox, class_id = _box(path, f"[{position}]", entry, by_number, dataset.classes)
        given = entry.get("score")
        score = _number(given)
        _expect(0 <= score <= 1, path, f"[{position}].score", given, "a number in [0, 1]")
        grouped[image_id].append((bbox, class_id, score))
    sizes = {record.image_id: record.stored for record in dataset.records}
    return {image_id: _detections(path, image_id, rows, sizes[image_id]) for image_id, rows in grouped.items()}


def _detections(path: Path, image_id: str, rows: list[tuple[list[float], int, float]], size: ImageSize) -> Detections:
    bbox, class_ids, scores = zip(*rows, strict=True)
    try:
        return Detections(xywh_to_xyxy(bbox), np.array(class_ids), np.array(scores), size)  # type: ignore[arg-type]
    except ValueError as error:
        raise DatasetError(path, f"boxes of {image_id}", found=error, expected="boxes inside the image") from None


def _numbered(records: Sequence[ImageRecord]) -> dict[str, int]:
    return {image_id: i + 1 for i, image_id in enumerate(sorted(record.image_id for record in records))}


def _matched_images(path: Path, images: list[Any], records: Sequence[ImageRecord]) -> dict[int, str]:
    ids = _numbered(records)
    left = {ids[r.image_id]: (ids[r.image_id], r.path, r.stored.width, r.stored.height) for r in records}
    _expect(len(images) == len(left), path, "images", len(images), f"{len(left)}, as in manifest.csv")
    try:
        found = [(image["id"], image["file_name"], image["width"], image["height"]) for image in images]
    except (TypeError, KeyError) as error:
        raise DatasetError(path, "images", found=f"an entry without {error}", expected="COCO images") from None
    for image in found:
        expected = left.pop(image[0], None) if type(image[0]) is int else None
        if image != expected:
            raise DatasetError(
                path, "images", found=shown(image), expected=f"{expected or 'every id once'}, as in manifest.csv"
            )
    return {number: image_id for image_id, number in ids.items()}


def _box(
    path: Path, field: str, entry: Any, by_number: Mapping[int, str], classes: LabelSpace
) -> tuple[str, list[float], int]:
    _expect(isinstance(entry, dict), path, field, entry, "an object")
    number, category, bbox = (entry.get(key) for key in ("image_id", "category_id", "bbox"))
    _expect(type(number) is int and number in by_number, path, f"{field}.image_id", number, "an id of annotations.json")
    # A data set without labels has no classes of its own: its predictions have the detector's.
    most = len(classes) or _MOST_CLASSES
    known = type(category) is int and 1 <= category <= most
    _expect(known, path, f"{field}.category_id", category, f"1 to {most}")
    numbers = [_number(value) for value in bbox] if isinstance(bbox, list) else []
    four = len(numbers) == 4 and all(abs(value) <= _FURTHEST for value in numbers)
    _expect(four, path, f"{field}.bbox", bbox, "four numbers: x, y, width, height")
    return by_number[number], numbers, category - 1  # type: ignore[index, operator]


def _number(value: Any) -> float:
    """A value of JSON as a float; NaN if it is no number or too large an integer for one."""
    try:
        return float(value) if type(value) in (int, float) else math.nan
    except OverflowError:
        return math.nan


def _list_of(content: dict[str, Any], key: str, path: Path) -> list[Any]:
    value = content.get(key)
    if not isinstance(value, list):
        raise DatasetError(path, key, found=type(value).__name__, expected="a list")
    return value


def _expect(holds: bool, path: Path, field: str, found: object, expected: object) -> None:
    if not holds:
        raise DatasetError(path, field, found=shown(found), expected=expected)


def _write_json(path: Path, content: Any) -> None:
    with atomic_write(path) as stream:
        stream.write(json.dumps(content, separators=(",", ":")) + "\n")
