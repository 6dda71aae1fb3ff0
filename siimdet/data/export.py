"""The way out: a data set as COCO, as YOLO or as a Kaggle-style CSV, each with its images.

`siimdet convert coco`, `yolo` and `csv` read them back: image ids, classes, boxes and parts are kept,
and by COCO and CSV the patients and studies too, for which YOLO has no place.
"""

import json
import re
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

from siimdet.core.files import atomic_write, read_json
from siimdet.core.types import SPLITS
from siimdet.data.coco import write_annotations
from siimdet.data.dataset import ANNOTATIONS, HEADER, Dataset
from siimdet.data.table import write_table
from siimdet.data.yolo import DATA_YAML, label_path, write_yolo
from siimdet.errors import DatasetError

BOXES, CLASSES = "boxes.csv", "classes.csv"

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
    _check_out(dataset, out)
    FORMATS[format_name](dataset, out)
    for record in dataset.records:
        _copy(dataset.root / record.path, out / record.path)


def _check_out(dataset: Dataset, out: Path) -> None:
    """Refuse to write over, or beside, other people's labels and images."""
    if (out / HEADER).exists() or out.resolve() == dataset.root.resolve():
        raise DatasetError(out, "--out", found="a data set of siimdet", expected="another folder")
    ours = {out / name for name in (ANNOTATIONS, BOXES, CLASSES, DATA_YAML, *(f"{split}.txt" for split in SPLITS))}
    for record in dataset.records:
        ours |= {out / record.path, label_path(out, record)}
    for path in sorted(out.rglob("*")):
        if path.is_file() and path not in ours and path.name[0] != ".":
            expected = "an empty folder, or one that this data set was written to"
            raise DatasetError(out, "--out", found=path.relative_to(out), expected=expected)


def _write_coco(dataset: Dataset, out: Path) -> None:
    """annotations.json with the split, patient and study of every image; ids of a COCO source come back."""
    path = out / ANNOTATIONS
    write_annotations(path, dataset.records, dataset.boxes, dataset.classes)
    content = read_json(path, kind=DatasetError, what="a COCO file")
    numbers = _source_numbers(dataset)
    for entry, record in zip(content["images"], dataset.records, strict=True):
        entry |= {"split": record.split, "patient_id": record.patient_id, "study_id": record.study_id}
        entry["id"] = numbers.get(entry["id"], entry["id"])
    for entry in content["annotations"]:
        entry["image_id"] = numbers.get(entry["image_id"], entry["image_id"])
    with atomic_write(path) as stream:
        stream.write(json.dumps(content, separators=(",", ":")) + "\n")


def _source_numbers(dataset: Dataset) -> dict[int, int]:
    """The source's own integer id by ours; empty unless every image has one."""
    cells = [record.source.get("coco_id", "") for record in dataset.records]
    if not all(_INTEGER.fullmatch(cell) for cell in cells) or len(set(cells)) < len(cells):
        return {}
    return {number: int(cell) for number, cell in enumerate(cells, start=1)}


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
