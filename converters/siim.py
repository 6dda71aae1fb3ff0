"""SIIM-FISABIO-RSNA COVID-19 Detection 2021: the labelled training part, and the test part to predict.

Boxes are in the pixels of the DICOM file (Rows x Columns); a reduced copy needs train_sizes.csv.
Source: https://www.kaggle.com/c/siim-covid19-detection/data
"""

import ast
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from converters.cells import box_array, flag_cell, id_cell, read_labels
from converters.raw_files import SUFFIXES
from converters.source import Item, Source, Tables
from siimdet.core.files import check_id
from siimdet.core.labels import OPACITY, STUDY
from siimdet.core.types import ImageSize
from siimdet.data.splits import Official
from siimdet.data.table import Table

IMAGES = "train_image_level.csv"
STUDIES = "train_study_level.csv"
PATIENTS = "train_meta.csv"
SIZES = "train_sizes.csv"
SAMPLE = "sample_submission.csv"
STUDY_COLUMNS = (
    *("Negative for Pneumonia", "Typical Appearance"),
    *("Indeterminate Appearance", "Atypical Appearance"),
)
"""As published, in the order of STUDY."""

_BOX = ("x", "y", "width", "height")


def read_tables(raw: Path) -> Tables:
    """The label tables: a study's four labels on each of its images, and the images' boxes.

    The files of test/STUDY/SERIES/ become images of the test split with unknown labels; where there
    are any, the labelled images are train and val only, and sample_submission.csv, where it is there,
    says which images the test has. train_meta.csv (patients) and train_sizes.csv (original sizes) are
    used where they are there.
    """
    studies = _read_studies(raw / STUDIES)
    patients = _read_patients(raw / PATIENTS) if (raw / PATIENTS).exists() else {}
    sizes = _read_sizes(raw / SIZES) if (raw / SIZES).exists() else {}
    table = read_labels(raw / IMAGES, "id", "boxes", "StudyInstanceUID")
    items = _read_test(raw)
    official: Official | None = "train_val" if items else None
    for line, (cell, boxes, study_id) in table.select("id", "boxes", "StudyInstanceUID"):
        image_id = id_cell(table, line, "id", cell, suffix="_image")
        if image_id in items:
            raise table.error(line, "id", found=f"{cell} again", expected="an id of its own")
        if study_id not in studies:
            raise table.error(line, "StudyInstanceUID", found=repr(study_id), expected=f"a study of {STUDIES}")
        patient_id, listed = patients.get(image_id, (None, study_id))
        if listed != study_id:
            raise table.error(line, "StudyInstanceUID", found=study_id, expected=f"{listed} as in {PATIENTS}")
        found = parse_boxes(table, line, boxes)
        items[image_id] = Item(
            image_id=image_id,
            study_id=study_id,
            patient_id=patient_id,
            labels=studies[study_id],
            xyxy=box_array(found),
            class_ids=np.zeros(len(found), np.int64),
            copy_original=sizes.get(image_id),
            official=official,
        )
    files = tuple(raw / name for name in (IMAGES, STUDIES, PATIENTS, SIZES) if (raw / name).exists())
    return Tables(tuple(items[image_id] for image_id in sorted(items)), files, STUDY, OPACITY)


def _read_test(raw: Path) -> dict[str, Item]:
    studies: dict[str, str] = {}
    for path in sorted((raw / "test").glob("*/*/*")):
        if path.suffix.lower() in SUFFIXES and path.name[0] != ".":
            image_id = check_id(path.stem, file=path, field="file name")
            studies[image_id] = check_id(path.parts[-3], file=path, field="study folder")
    if studies and (raw / SAMPLE).exists():
        # An image of the sample that is not here is a failure like every labelled image without a file.
        studies = {image_id: studies.get(image_id, image_id) for image_id in _read_sample(raw / SAMPLE)}
    return {
        image_id: Item(
            image_id=image_id,
            study_id=study,
            labels=np.full(len(STUDY), np.nan, np.float32),
            official="test",
        )
        for image_id, study in studies.items()
    }


def _read_sample(path: Path) -> list[str]:
    """Image ids of sample_submission.csv; its study rows follow from them."""
    table = read_labels(path, "id")
    rows = [(line, cell) for line, cell in table.select("id") if not cell.endswith("_study")]
    return [id_cell(table, line, "id", cell, suffix="_image") for line, cell in rows]


def parse_boxes(table: Table, line: int, cell: str) -> list[list[float]]:
    """The boxes cell, a Python list of {'x', 'y', 'width', 'height'}; empty means none."""
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


def _read_studies(path: Path) -> dict[str, NDArray[np.float32]]:
    table = read_labels(path, "id", *STUDY_COLUMNS)
    studies: dict[str, NDArray[np.float32]] = {}
    for line, (cell, *flags) in table.select("id", *STUDY_COLUMNS):
        study_id = id_cell(table, line, "id", cell, suffix="_study")
        if study_id in studies:
            raise table.error(line, "id", found=f"{cell} again", expected="an id of its own")
        values = [flag_cell(table, line, name, flag) for name, flag in zip(STUDY_COLUMNS, flags, strict=True)]
        if sum(values) != 1:
            raise table.error(line, "labels", found=" ".join(flags), expected="exactly one 1")
        studies[study_id] = np.array(values, np.float32)
    return studies


def _read_patients(path: Path) -> dict[str, tuple[str, str]]:
    table = read_labels(path, "patientid", "studyid", "imageid")
    patients: dict[str, tuple[str, str]] = {}
    owners: dict[str, str] = {}
    for line, (patient, study_id, image_id) in table.select("patientid", "studyid", "imageid"):
        patient_id = id_cell(table, line, "patientid", patient)
        if image_id in patients:
            raise table.error(line, "imageid", found=f"{image_id} again", expected="an id of its own")
        if owners.setdefault(study_id, patient_id) != patient_id:
            raise table.error(line, "patientid", found=patient_id, expected=f"{owners[study_id]} as before")
        patients[image_id] = (patient_id, study_id)
    return patients


def _read_sizes(path: Path) -> dict[str, ImageSize]:
    table = read_labels(path, "image_id", "width", "height")
    sizes: dict[str, ImageSize] = {}
    for line, (image_id, width, height) in table.select("image_id", "width", "height"):
        if image_id in sizes:
            raise table.error(line, "image_id", found=f"{image_id} again", expected="an id of its own")
        try:
            sizes[image_id] = ImageSize(int(width), int(height))
        except ValueError:
            raise table.error(line, "width, height", found=f"{width}, {height}", expected="whole numbers") from None
    return sizes


SIIM = Source(name="siim", read=read_tables)
"""Four study labels, of which one holds, and boxes of opacities."""
