"""The label tables of SIIM-FISABIO-RSNA COVID-19 Detection 2021, as the competition publishes them.

Source: https://www.kaggle.com/c/siim-covid19-detection/data
"""

import ast
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from siimdet.core.files import check_id
from siimdet.core.labels import STUDY
from siimdet.data.table import Table, read_table
from siimdet.errors import SourceError

IMAGES = "train_image_level.csv"
STUDIES = "train_study_level.csv"
PATIENTS = "train_meta.csv"
STUDY_SUFFIX, IMAGE_SUFFIX = "_study", "_image"
STUDY_COLUMNS = (
    *("Negative for Pneumonia", "Typical Appearance"),
    *("Indeterminate Appearance", "Atypical Appearance"),
)
"""As published, in the order of STUDY."""

_BOX = ("x", "y", "width", "height")


@dataclass(frozen=True, slots=True)
class ListedImage:
    """A row of the image-level table, ids without suffix; xywh are the boxes x, y, width, height in original pixels.

    Numbers are as published: whether a box is one, whoever reads them judges.
    """

    line: int
    study_id: str
    xywh: list[list[float]]


def read_studies(path: Path) -> dict[str, str]:
    """Class of every study, a name in STUDY, from the study-level table.

    Raises: SourceError with file and line for other columns, an id twice, without its suffix or unfit for a file name,
    a row that has not exactly one 1 and three 0.
    """
    table = read_table(path, ("id", *STUDY_COLUMNS), kind=SourceError)
    classes: dict[str, str] = {}
    for line, (cell, *flags) in table.select("id", *STUDY_COLUMNS):
        study_id = _own_id(table, line, cell, STUDY_SUFFIX, classes)
        for name, flag in zip(STUDY_COLUMNS, flags, strict=True):
            if flag not in ("0", "1"):
                raise table.error(line, name, found=repr(flag), expected="0 or 1")
        if flags.count("1") != 1:
            raise table.error(line, "labels", found=" ".join(flags), expected="exactly one 1")
        classes[study_id] = STUDY.names[flags.index("1")]
    return classes


def read_images(path: Path, studies: Collection[str]) -> tuple[Table, dict[str, ListedImage]]:
    """The image-level table and its images by id; `studies` are the ids of the study-level table.

    Raises: SourceError with file and line for other columns, an id twice, without its suffix or unfit for a file name,
    an unknown study, a boxes cell that is no list of boxes.
    """
    table = read_table(path, ("id", "boxes", "StudyInstanceUID"), kind=SourceError)
    images: dict[str, ListedImage] = {}
    for line, (cell, boxes, study_id) in table.select("id", "boxes", "StudyInstanceUID"):
        image_id = _own_id(table, line, cell, IMAGE_SUFFIX, images)
        if study_id not in studies:
            raise table.error(line, "StudyInstanceUID", found=repr(study_id), expected=f"a study of {STUDIES}")
        images[image_id] = ListedImage(line, study_id, _xywh(table, line, boxes))
    return table, images


def _own_id(table: Table, line: int, cell: str, suffix: str, seen: Mapping[str, object]) -> str:
    """An id without the suffix that it must end in, and that no row before has."""
    if not cell.endswith(suffix):
        raise table.error(line, "id", found=repr(cell), expected=f"an id that ends in {suffix!r}")
    row_id = check_id(cell.removesuffix(suffix), file=f"{table.path}:{line}", field="id")
    if row_id in seen:
        raise table.error(line, "id", found=f"{cell} again", expected="an id of its own")
    return row_id


def _xywh(table: Table, line: int, cell: str) -> list[list[float]]:
    """The boxes cell, a Python list of {'x', 'y', 'width', 'height'}, never executed; empty means none."""
    if not cell.strip():
        return []
    try:
        content: Any = ast.literal_eval(cell.strip())
    except (ValueError, SyntaxError, MemoryError, RecursionError):
        content = None
    if not isinstance(content, list):
        raise table.error(line, "boxes", found=repr(cell[:80]), expected="a list of boxes, or nothing")
    for number, box in enumerate(content, start=1):
        named = isinstance(box, dict) and set(box) == set(_BOX)
        if not named or not all(type(box[name]) in (int, float) for name in _BOX):
            expected = "numbers x, y, width and height"
            raise table.error(line, f"boxes, box {number}", found=repr(box)[:80], expected=expected)
    return [[float(box[name]) for name in _BOX] for box in content]


def read_patients(path: Path) -> dict[str, tuple[str, str]]:
    """Patient and study of every image, from a table like train_meta.csv: imageid, studyid, patientid.

    Raises: SourceError with file and line for other columns, an image twice, a study of two patients, a patient's id
    that is unfit for a file name.
    """
    table = read_table(path, ("imageid", "studyid", "patientid"), kind=SourceError)
    patients: dict[str, tuple[str, str]] = {}
    owners: dict[str, str] = {}
    for line, (image_id, study_id, cell) in table.select("imageid", "studyid", "patientid"):
        patient_id = check_id(cell, file=f"{path}:{line}", field="patientid")
        if image_id in patients:
            raise table.error(line, "imageid", found=f"{image_id} again", expected="an id of its own")
        if owners.setdefault(study_id, patient_id) != patient_id:
            raise table.error(line, "patientid", found=patient_id, expected=f"{owners[study_id]} as before")
        patients[image_id] = (patient_id, study_id)
    return patients
