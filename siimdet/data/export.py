"""The way out: a data set as COCO, as YOLO or as a Kaggle-style CSV, each with its images.

`siimdet convert coco`, `yolo` and `csv` read them back: image ids, classes, boxes and parts are kept,
and by COCO and CSV the patients and studies too, for which YOLO has no place.
"""

import json
import os
import re
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

from siimdet.core.files import atomic_write
from siimdet.data.coco import write_annotations
from siimdet.data.dataset import ANNOTATIONS, HEADER, Dataset
from siimdet.data.table import write_table
from siimdet.data.yolo import check_depth, write_yolo
from siimdet.errors import DatasetError

BOXES, CLASSES = "boxes.csv", "classes.csv"
MARK = ".siimdet-export"
"""Marks a folder as an export, with the format and the fingerprint of what is in it."""

_INTEGER = re.compile("-?[0-9]{1,18}")

_COLUMNS = (
    *("image_id", "class_name", "class_id", "x_min", "y_min", "x_max", "y_max"),
    *("width", "height", "split", "patient_id", "study_id"),
)


def export(dataset: Dataset, format_name: str, out: Path) -> None:
    """Write a data set's boxes in a format of FORMATS into `out`, beside copies of its images.

    A second run writes over the first one.
    Raises: DatasetError for a folder that holds anything else, for a data set without classes of boxes,
    and for YOLO at 16 bits.
    """
    if not dataset.classes.names:
        expected = "classes of boxes; image labels are in its manifest.csv"
        raise DatasetError(dataset.root / HEADER, "classes", found="none", expected=expected)
    if format_name == "yolo":
        check_depth(dataset)
    _claim(dataset, format_name, out)
    FORMATS[format_name](dataset, out)
    for record in dataset.records:
        _copy(dataset.root / record.path, out / record.path)


def _claim(dataset: Dataset, format_name: str, out: Path) -> None:
    """Mark an empty folder as this export; refuse one that is anything else."""
    mark = json.dumps({"format": format_name, "fingerprint": dataset.fingerprint}) + "\n"
    path = out / MARK
    if out.exists() and (not out.is_dir() or os.listdir(out)):
        known = path.is_file() and path.read_text(encoding="utf-8", errors="replace") == mark
        if not known:
            expected = "a new folder, or one that this very data set was written to in this format"
            raise DatasetError(out, "--out", found="other files", expected=expected)
    with atomic_write(path) as stream:
        stream.write(mark)


def _write_coco(dataset: Dataset, out: Path) -> None:
    """annotations.json with the split, patient and study of every image; ids of a COCO source come back."""
    further = ("split", "patient_id", "study_id")
    path, ids = out / ANNOTATIONS, _source_ids(dataset)
    write_annotations(path, dataset.records, dataset.boxes, dataset.classes, ids=ids, further=further)


def _source_ids(dataset: Dataset) -> dict[str, int] | None:
    """The source's own integer ids; None unless every image has one."""
    cells = {record.image_id: record.source.get("coco_id", "") for record in dataset.records}
    if not all(map(_INTEGER.fullmatch, cells.values())) or len(set(cells.values())) < len(cells):
        return None
    return {image_id: int(cell) for image_id, cell in cells.items()}


def _write_csv(dataset: Dataset, out: Path) -> None:
    """A row per box in pixels of the written image; an image without boxes has one without coordinates."""
    write_table(out / BOXES, _COLUMNS, _rows(dataset))
    write_table(out / CLASSES, ("class_id", "class_name"), enumerate(dataset.classes.names))


def _rows(dataset: Dataset) -> Iterator[list[Any]]:
    for record in dataset.records:
        size = (record.stored.width, record.stored.height)
        shared = [*size, record.split, record.patient_id, record.study_id]
        truth = dataset.boxes[record.image_id]
        for class_id, box in zip(truth.class_ids.tolist(), truth.xyxy.tolist(), strict=True):
            yield [record.image_id, dataset.classes.names[class_id], class_id, *box, *shared]
        if not len(truth):
            yield [record.image_id, *[""] * 6, *shared]


def _write_yolo(dataset: Dataset, out: Path) -> None:
    write_yolo(replace(dataset, root=out))


FORMATS: dict[str, Callable[[Dataset, Path], None]] = {"coco": _write_coco, "yolo": _write_yolo, "csv": _write_csv}
"""Writers of labels by the name of their format."""


def _copy(source: Path, target: Path) -> None:
    try:
        content = source.read_bytes()
    except OSError as error:
        raise DatasetError(source, "image", found=error.strerror, expected="the image of the manifest") from None
    if target.is_file() and target.read_bytes() == content:
        return
    with atomic_write(target, "wb") as stream:
        stream.write(content)
