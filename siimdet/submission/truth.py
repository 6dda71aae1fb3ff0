"""The truth that a submission is scored against, from the competition's tables or from our own data.

An image without boxes is true for `none`; a study is true for exactly one of the four study
classes. Both are the unit box 0 0 1 1, so one metric serves all six classes.
"""

import csv
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import ArrayLike, NDArray

from siimdet.core.labels import STUDY
from siimdet.errors import SourceError
from siimdet.scoring.voc import TruthBoxes
from siimdet.submission.table import CLASSES, IMAGE_SUFFIX, OPACITY_ID, STUDY_SUFFIX

STUDY_COLUMNS = dict(
    zip(
        ("Negative for Pneumonia", "Typical Appearance", "Indeterminate Appearance", "Atypical Appearance"),
        STUDY.names,
        strict=True,
    )
)
"""Columns of train_study_level.csv and the class that each stands for."""

_NUMBER = re.compile(r"-?\d+(?:\.\d*)?(?:[eE][-+]?\d+)?")
_BOX = r"\{" + ", *".join(rf"'{key}': *{_NUMBER.pattern}" for key in ("x", "y", "width", "height")) + r"\}"
_BOXES = re.compile(rf"\[{_BOX}(?:, *{_BOX})*\]", re.ASCII)


@dataclass(frozen=True, slots=True, eq=False)
class Truth:
    """What is true of every study and image.

    `ids` are row ids with their suffix, studies first; `boxes.images` are indices into them,
    `boxes.class_ids` are in CLASSES, `boxes.xyxy` in original pixels (0 0 1 1 but for opacity).
    """

    ids: tuple[str, ...]
    boxes: TruthBoxes


def make_truth(study_of: Mapping[str, str], boxes: Mapping[str, ArrayLike], labels: Mapping[str, str]) -> Truth:
    """Truth from plain mappings.

    Shapes: study_of image id → study id, boxes image id → [N, 4] xyxy in original pixels (N = 0: none),
    labels study id → name in STUDY; ids without suffix.
    Raises: ValueError for an image without boxes entry, a study without label, or a name not in STUDY.
    """
    if study_of.keys() != boxes.keys():
        odd = sorted(study_of.keys() ^ boxes.keys())[0]
        raise ValueError(f"image {odd} has a study or boxes but not both, expected an entry in each")
    for image, study in study_of.items():
        if study not in labels:
            raise ValueError(f"image {image}: study {study} has no label")
    found = [np.asarray(corners, np.float64).reshape(-1, 4) for corners in boxes.values()]
    counts = np.array([len(corners) for corners in found], np.int64)
    image_classes = np.where(counts > 0, OPACITY_ID, CLASSES.index("none"))
    row_counts = np.concatenate([np.ones(len(labels), np.int64), np.maximum(counts, 1)])
    row_classes = np.concatenate([[STUDY.index(name) for name in labels.values()], image_classes])
    xyxy = np.concatenate([_unit_boxes(len(labels)), *(c if len(c) else _unit_boxes(1) for c in found)])
    ids = (*(study + STUDY_SUFFIX for study in labels), *(image + IMAGE_SUFFIX for image in boxes))
    return Truth(ids, TruthBoxes(np.repeat(np.arange(len(ids)), row_counts), np.repeat(row_classes, row_counts), xyxy))


def read_truth(image_level: Path | str, study_level: Path | str) -> Truth:
    """Truth from train_image_level.csv and train_study_level.csv, boxes as published (not clipped).

    Raises: SourceError with file and line for anything the competition's tables do not hold.
    """
    labels = _read_studies(Path(study_level))
    study_of: dict[str, str] = {}
    boxes: dict[str, NDArray[np.float64]] = {}
    path = Path(image_level)
    for line, row in _rows(path, ("id", "boxes", "StudyInstanceUID")):
        image = _strip(row["id"], IMAGE_SUFFIX, study_of, path, line)
        study_of[image] = row["StudyInstanceUID"]
        if study_of[image] not in labels:
            raise SourceError(
                path,
                f"line {line}, StudyInstanceUID",
                found=repr(study_of[image]),
                expected=f"a study of {study_level}",
            )
        try:
            boxes[image] = parse_boxes(row["boxes"])
        except ValueError as error:
            raise SourceError(path, f"line {line}, boxes", found=repr(row["boxes"]), expected=error) from error
    return make_truth(study_of, boxes, labels)


def parse_boxes(cell: str) -> NDArray[np.float64]:
    """Corners f64[N, 4] xyxy of a `boxes` cell: a Python literal, empty for none, never evaluated.

    Raises: ValueError that says what was expected.
    """
    if not cell:
        return np.zeros((0, 4))
    if not _BOXES.fullmatch(cell):
        raise ValueError("[{'x': 1, 'y': 2, 'width': 3, 'height': 4}, ...] or nothing")
    xywh = np.array([float(number) for number in _NUMBER.findall(cell)]).reshape(-1, 4)
    if not np.isfinite(xywh).all() or not (xywh[:, 2:] > 0).all():
        raise ValueError("finite boxes of width and height above 0")
    return np.concatenate([xywh[:, :2], xywh[:, :2] + xywh[:, 2:]], axis=1)


def _read_studies(path: Path) -> dict[str, str]:
    labels: dict[str, str] = {}
    for line, row in _rows(path, ("id", *STUDY_COLUMNS)):
        study = _strip(row["id"], STUDY_SUFFIX, labels, path, line)
        cells = [row[column] for column in STUDY_COLUMNS]
        if sorted(cells) != ["0", "0", "0", "1"]:
            raise SourceError(path, f"line {line}, {row['id']}", found=cells, expected="one 1 and three 0")
        labels[study] = STUDY.names[cells.index("1")]
    return labels


def _rows(path: Path, columns: tuple[str, ...]) -> Iterator[tuple[int, dict[str, str]]]:
    """Line number and cells of every row, once the header has the columns."""
    try:
        with open(path, encoding="utf-8-sig", newline="") as stream:
            reader = csv.DictReader(stream, strict=True)
            header = reader.fieldnames or []
            if not set(columns) <= set(header):
                raise SourceError(path, "line 1", found=",".join(header), expected=f"columns {','.join(columns)}")
            for row in reader:
                if None in row or None in row.values():
                    raise SourceError(
                        path,
                        f"line {reader.line_num}",
                        found="another number of cells",
                        expected=f"{len(header)} cells",
                    )
                yield reader.line_num, row
    except FileNotFoundError as error:
        raise SourceError(path, "file", found="no such file", expected="a table of the competition") from error
    except (UnicodeDecodeError, csv.Error) as error:
        raise SourceError(path, "table", found=error, expected="a UTF-8 CSV table") from error


def _strip(row_id: str, suffix: str, seen: Mapping[str, object], path: Path, line: int) -> str:
    name = row_id.removesuffix(suffix)
    if name == row_id or not name:
        raise SourceError(path, f"line {line}, id", found=repr(row_id), expected=f"an id that ends in {suffix}")
    if name in seen:
        raise SourceError(path, f"line {line}, id", found=f"{row_id} a second time", expected="every id once")
    return name


def _unit_boxes(count: int) -> NDArray[np.float64]:
    return np.tile([0.0, 0.0, 1.0, 1.0], (count, 1))
