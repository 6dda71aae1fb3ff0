"""Any COCO detection set: annotations.json and images/.

Boxes are in the pixels of the sizes that annotations.json gives. Of the image entries' further keys
`split`, `patient_id` and `study_id` are used where they are there, as `siimdet write` puts them;
segmentations are not.
Source: https://cocodataset.org/#format-data
"""

import os
from collections import Counter, defaultdict
from collections.abc import Mapping
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np

from converters.cells import box_array
from converters.labels import present
from converters.lists import check_below, is_plain
from converters.names import image_ids, mended, mendings, renamings
from converters.repair import Repair
from converters.source import Item, Source, Tables
from siimdet.core.files import read_json
from siimdet.core.types import SPLITS, ImageSize, LabelSpace
from siimdet.errors import SourceError
from siimdet.imaging.limits import MAX_SIDE

ANNOTATIONS = "annotations.json"
FOLDER = "images"

_Entry = dict[str, Any]
_Box = tuple[list[float], int]


def read_tables(raw: Path) -> Tables:
    """Classes in the order of category ids; labels say which classes have a box; source column `coco_id`.

    Crowd regions are no boxes of one thing: they are left out, as repairs.
    """
    path = raw / ANNOTATIONS
    content = read_json(path, kind=SourceError, what="a COCO detection set")
    if not isinstance(content, dict):
        raise SourceError(path, "content", found=type(content).__name__, expected="a COCO object")
    classes, numbers = _read_categories(path, _entries(path, content, "categories"))
    images = _read_images(path, _entries(path, content, "images"))
    boxes, crowds = _read_boxes(path, _entries(path, content, "annotations"), images, numbers)
    places = {number: _place(raw, entry["file_name"]) for number, entry in images.items()}
    ids = image_ids(set(places.values()))
    if len(ids) < len(places):
        place, _ = Counter(places.values()).most_common(1)[0]
        raise SourceError(path, "images", found=f"{place} under two names", expected="every file once")
    items = [
        _item(path, entry, classes, places[number], ids[places[number]], boxes[number], crowds[number])
        for number, entry in images.items()
    ]
    return Tables(tuple(sorted(items, key=lambda item: item.image_id)), (path,), classes, classes)


def _item(
    path: Path, entry: _Entry, classes: LabelSpace, place: str, image_id: str, boxes: list[_Box], crowds: list[str]
) -> Item:
    class_ids = np.array([class_id for _, class_id in boxes], np.int64)
    study, patient = (_name(path, entry, key) for key in ("study_id", "patient_id"))
    study_id = mended(study) if study else image_id
    patient_id = mended(patient) if patient else study_id
    left_out = (Repair(image_id, f"annotation {number}", "iscrowd 1", "") for number in crowds)
    return Item(
        image_id=image_id,
        study_id=study_id,
        labels=present(classes, class_ids),
        xyxy=box_array([bbox for bbox, _ in boxes]),
        class_ids=class_ids,
        patient_id=patient_id,
        place=place,
        copy_original=ImageSize(entry["width"], entry["height"]),
        official=entry.get("split"),
        columns={"file": place, "coco_id": str(entry["id"])},
        repairs=(
            *renamings(place, image_id),
            *mendings(image_id, "study_id", study or study_id, study_id),
            *mendings(image_id, "patient_id", patient or patient_id, patient_id),
            *left_out,
        ),
    )


def _read_boxes(
    path: Path, entries: list[_Entry], images: Mapping[int, _Entry], numbers: Mapping[int, int]
) -> tuple[Mapping[int, list[_Box]], Mapping[int, list[str]]]:
    """Boxes with their class ids, and the ids of crowd regions, by image."""
    boxes: dict[int, list[_Box]] = defaultdict(list)
    crowds: dict[int, list[str]] = defaultdict(list)
    for position, entry in enumerate(entries):
        where = f"annotations[{position}]"
        image, bbox, category, crowd = (entry.get(key) for key in ("image_id", "bbox", "category_id", "iscrowd"))
        if type(image) is not int or image not in images:
            raise SourceError(path, f"{where}.image_id", found=image, expected="the id of an image")
        if crowd not in (None, 0, 1):
            raise SourceError(path, f"{where}.iscrowd", found=crowd, expected="0 or 1")
        if crowd:
            crowds[image].append(str(entry.get("id")))
            continue
        if type(category) is not int or category not in numbers:
            raise SourceError(path, f"{where}.category_id", found=category, expected="the id of a category")
        if not isinstance(bbox, list) or len(bbox) != 4 or not all(map(_is_number, bbox)):
            raise SourceError(path, f"{where}.bbox", found=bbox, expected="four numbers: x, y, width, height")
        boxes[image].append((bbox, numbers[category]))
    return boxes, crowds


def _is_number(value: Any) -> bool:
    # Python's whole numbers have no end, floats do.
    return type(value) is float or (type(value) is int and abs(value) < 1 << 53)


def _entries(path: Path, content: Mapping[str, Any], key: str) -> list[_Entry]:
    entries = content.get(key)
    if not isinstance(entries, list) or not all(isinstance(entry, dict) for entry in entries):
        raise SourceError(path, key, found=type(entries).__name__, expected="a list of objects")
    return entries


def _read_categories(path: Path, entries: list[_Entry]) -> tuple[LabelSpace, dict[int, int]]:
    """The classes, and class id by category id."""
    names: dict[int, str] = {}
    for position, entry in enumerate(entries):
        number, name = entry.get("id"), entry.get("name")
        if type(number) is not int or not isinstance(name, str) or number in names or name in names.values():
            expected = "an id and a name of its own"
            raise SourceError(path, f"categories[{position}]", found=f"{number} {name!a}", expected=expected)
        names[number] = name
    ordered = sorted(names)
    return LabelSpace("coco", tuple(names[number] for number in ordered)), {n: i for i, n in enumerate(ordered)}


def _read_images(path: Path, entries: list[_Entry]) -> dict[int, _Entry]:
    images: dict[int, _Entry] = {}
    names: set[str] = set()
    for position, entry in enumerate(entries):
        number, name, *size = (entry.get(key) for key in ("id", "file_name", "width", "height"))
        where = f"images[{position}]"
        if type(number) is not int or number in images:
            raise SourceError(path, f"{where}.id", found=number, expected="a whole number of its own")
        if not isinstance(name, str) or not name or name in names:
            raise SourceError(path, f"{where}.file_name", found=name, expected="a name of its own")
        if not all(type(side) is int and 0 < side <= MAX_SIDE for side in size):
            raise SourceError(path, f"{where}.width, height", found=size, expected=f"whole numbers of 1 to {MAX_SIDE}")
        if entry.get("split") not in (None, *SPLITS):
            raise SourceError(path, f"{where}.split", found=entry["split"], expected=" or ".join(SPLITS))
        images[number] = entry
        names.add(name)
    return images


def _name(path: Path, entry: Mapping[str, Any], key: str) -> str:
    """The name of a patient or study, empty where there is none; numbers are names too."""
    value = entry.get(key)
    name = "" if value is None else str(value)
    if type(value) not in (str, int, type(None)) or not is_plain(name):
        raise SourceError(path, f"image {entry['id']}.{key}", found=ascii(value)[:100], expected="text")
    return name


def _place(raw: Path, name: str) -> str:
    """Where an image is: below images/, or below the folder itself where the name says so."""
    place = PurePosixPath(check_below(raw / ANNOTATIONS, "file_name", name.replace("\\", "/")))
    inside = PurePosixPath(FOLDER) / place
    return str(place if os.path.isfile(raw / place) and not os.path.isfile(raw / inside) else inside)


COCO = Source(name="coco", read=read_tables, knows_patients=False)
"""The set's own categories."""
