"""Boxes in one CSV file, as Kaggle's challenges ship them and as `siimdet write --format csv` writes them.

A row per box: image_id, class_name, x_min, y_min, x_max, y_max; an image without boxes has one row with
empty coordinates, whatever its class_name says. Used where they are there: class_id, width and height
(of the image that the boxes are about), split, patient_id, study_id, and classes.csv (class_id, class_name).
VinBigData's train.csv is of this form.
"""

import re
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from converters.cells import id_cell, read_labels
from converters.labels import present
from converters.source import Item, Source, Tables
from siimdet.core.types import SPLITS, ImageSize, LabelSpace, Split
from siimdet.data.table import Table
from siimdet.errors import SourceError
from siimdet.imaging.limits import MAX_SIDE

TABLES = ("boxes.csv", "train.csv")
CLASSES = "classes.csv"

_CORNERS = ("x_min", "y_min", "x_max", "y_max")
_OPTIONAL = ("class_id", "width", "height", "split", "patient_id", "study_id")


_NO_NUMBER = -1
_NUMBER = re.compile("[0-9]{1,9}")


@dataclass(slots=True)
class _Image:
    line: int
    shared: tuple[str, ...]
    """width, height, split, patient_id and study_id, equal in all rows of the image."""
    boxes: list[tuple[list[float], str]] = field(default_factory=list)


def read_tables(raw: Path) -> Tables:
    """Images by their id as the file's stem; classes by class_id where there is one, else by name."""
    path = next((raw / name for name in TABLES if (raw / name).exists()), raw / TABLES[0])
    table = read_labels(path, "image_id", "class_name", *_CORNERS)
    images, numbers = _read_rows(table)
    known = raw / CLASSES
    ordered = tuple(sorted(numbers, key=lambda label: (numbers[label], label)))
    classes = _read_classes(known) if known.exists() else LabelSpace("csv", ordered)
    for label, number in numbers.items():
        if label not in classes.names:
            raise SourceError(path, "class_name", found=label, expected=f"a class of {CLASSES}")
        if known.exists() and number not in (_NO_NUMBER, classes.index(label)):
            expected = f"{classes.index(label)} as in {CLASSES}"
            raise SourceError(path, "class_id", found=f"{number} of {label}", expected=expected)
    items = [_item(table, image_id, images[image_id], classes) for image_id in sorted(images)]
    return Tables(tuple(items), tuple(file for file in (path, known) if file.exists()), classes, classes)


def _read_rows(table: Table) -> tuple[dict[str, _Image], dict[str, int]]:
    """Images with their boxes, and the classes with their numbers, or _NO_NUMBER."""
    here = [name for name in _OPTIONAL if name in table.header]
    images: dict[str, _Image] = {}
    numbers: dict[str, int] = {}
    for line, (cell, label, *cells) in table.select("image_id", "class_name", *_CORNERS, *here):
        image_id = id_cell(table, line, "image_id", cell)
        further = dict(zip(here, cells[4:], strict=True))
        shared = tuple(further.get(name, "") for name in _OPTIONAL[1:])
        image = images.setdefault(image_id, _Image(line, shared))
        if image.shared != shared:
            expected = f"{' '.join(image.shared)} as in line {image.line}"
            raise table.error(line, ", ".join(_OPTIONAL[1:]), found=" ".join(shared), expected=expected)
        if not any(cells[:4]):
            continue
        if not label:
            raise table.error(line, "class_name", found="nothing", expected="the class of the box")
        if "class_id" in further:
            _check_number(table, line, label, further["class_id"], numbers)
        else:
            numbers[label] = _NO_NUMBER
        box = [table.number(line, name, value) for name, value in zip(_CORNERS, cells, strict=False)]
        image.boxes.append((box, label))
    return images, numbers


def _check_number(table: Table, line: int, label: str, cell: str, numbers: dict[str, int]) -> None:
    """Enter the number of a class; a class has one, and no other class has it."""
    if not _NUMBER.fullmatch(cell):
        raise table.error(line, "class_id", found=repr(cell), expected="a number from 0")
    number = int(cell)
    owner = next((name for name, known in numbers.items() if known == number), label)
    if owner != label or numbers.setdefault(label, number) != number:
        expected = f"{owner!r} as before" if owner != label else f"{numbers[label]} as before"
        raise table.error(line, "class_id", found=f"{number} of {label!r}", expected=expected)


def _item(table: Table, image_id: str, image: _Image, classes: LabelSpace) -> Item:
    width, height, split, patient_id, study_id = image.shared
    class_ids = np.array([classes.index(label) for _, label in image.boxes], np.int64)
    study_id = id_cell(table, image.line, "study_id", study_id) if study_id else image_id
    return Item(
        image_id=image_id,
        study_id=study_id,
        labels=present(classes, class_ids),
        xyxy=np.array([box for box, _ in image.boxes], np.float64).reshape(-1, 4),
        class_ids=class_ids,
        patient_id=id_cell(table, image.line, "patient_id", patient_id) if patient_id else study_id,
        copy_original=_size(table, image.line, width, height) if width or height else None,
        official=_split(table, image.line, split) if split else None,
    )


def _size(table: Table, line: int, width: str, height: str) -> ImageSize:
    try:
        size = ImageSize(int(width), int(height))
    except ValueError:
        size = None
    if size is None or max(size.width, size.height) > MAX_SIDE:
        expected = f"whole numbers of 1 to {MAX_SIDE}"
        raise table.error(line, "width, height", found=f"{width} {height}", expected=expected)
    return size


def _split(table: Table, line: int, cell: str) -> Split:
    if cell not in SPLITS:
        raise table.error(line, "split", found=repr(cell), expected=" or ".join(SPLITS))
    return cell


def _read_classes(path: Path) -> LabelSpace:
    table = read_labels(path, "class_id", "class_name")
    names: list[str] = []
    for line, (number, name) in table.select("class_id", "class_name"):
        if number != str(len(names)) or not name or name in names:
            raise table.error(line, "class", found=f"{number} {name}", expected=f"{len(names)} and a name of its own")
        names.append(name)
    return LabelSpace("csv", tuple(names))


CSV = Source(name="csv", read=read_tables, knows_patients=False)
"""The table's own classes."""
