"""SIIM-FISABIO-RSNA COVID-19 Detection 2021: the labelled training part, and the test part to predict.

Boxes are in the pixels of the DICOM file (Rows x Columns); a reduced copy needs train_sizes.csv.
Source: https://www.kaggle.com/c/siim-covid19-detection/data
"""

from pathlib import Path

import numpy as np

from converters.cells import box_array, id_cell, read_labels
from converters.raw_files import SUFFIXES
from converters.source import Item, Source, Tables
from siimdet.core.files import check_id
from siimdet.core.labels import OPACITY, STUDY
from siimdet.core.types import ImageSize
from siimdet.data.siim_tables import (
    IMAGE_SUFFIX,
    IMAGES,
    PATIENTS,
    STUDIES,
    STUDY_SUFFIX,
    read_images,
    read_patients,
    read_studies,
)
from siimdet.data.splits import Official

SIZES = "train_sizes.csv"
SAMPLE = "sample_submission.csv"


def read_tables(raw: Path) -> Tables:
    """The label tables: a study's four labels on each of its images, and the images' boxes.

    The files of test/STUDY/SERIES/ become images of the test split with unknown labels; where there
    are any, the labelled images are train and val only, and sample_submission.csv, where it is there,
    says which images the test has. train_meta.csv (patients) and train_sizes.csv (original sizes) are
    used where they are there.
    """
    classes = read_studies(raw / STUDIES)
    patients = read_patients(raw / PATIENTS) if (raw / PATIENTS).exists() else {}
    sizes = _read_sizes(raw / SIZES) if (raw / SIZES).exists() else {}
    table, images = read_images(raw / IMAGES, classes)
    items = _read_test(raw)
    official: Official | None = "train_val" if items else None
    for image_id, image in images.items():
        if image_id in items:
            raise table.error(image.line, "id", found=f"{image_id}{IMAGE_SUFFIX} again", expected="an id of its own")
        patient_id, listed = patients.get(image_id, (None, image.study_id))
        if listed != image.study_id:
            expected = f"{listed} as in {PATIENTS}"
            raise table.error(image.line, "StudyInstanceUID", found=image.study_id, expected=expected)
        items[image_id] = Item(
            image_id=image_id,
            study_id=image.study_id,
            patient_id=patient_id,
            labels=np.eye(len(STUDY), dtype=np.float32)[STUDY.index(classes[image.study_id])],
            xyxy=box_array(image.xywh),
            class_ids=np.zeros(len(image.xywh), np.int64),
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
    rows = [(line, cell) for line, cell in table.select("id") if not cell.endswith(STUDY_SUFFIX)]
    return [id_cell(table, line, "id", cell, suffix=IMAGE_SUFFIX) for line, cell in rows]


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
