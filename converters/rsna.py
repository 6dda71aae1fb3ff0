"""RSNA Pneumonia Detection Challenge 2018, stage 2.

Boxes are in 1024-pixel space, whatever the size of the copy at hand; a row per box, Target 0 without one.
Source: https://www.kaggle.com/c/rsna-pneumonia-detection-challenge/data
"""

from collections.abc import Collection
from pathlib import Path

import numpy as np

from converters.cells import box_array, box_cells, flag_cell, id_cell, read_labels
from converters.source import Item, Source, Tables
from siimdet.core.labels import OPACITY
from siimdet.core.types import ImageSize

LABELS = "stage_2_train_labels.csv"
CLASSES = "stage_2_detailed_class_info.csv"
NIH_NAMES = "rsna_to_nih.csv"
CLASS_NAMES = ("Normal", "No Lung Opacity / Not Normal", "Lung Opacity")

_BOX = ("x", "y", "width", "height")


def read_tables(raw: Path) -> Tables:
    """The label tables: image = study = patientId, source columns `class` and `nih_image`.

    Where rsna_to_nih.csv knows the image, nih_image is its id in the NIH set and patient_id the NIH
    patient, since one patient has several images there; else patient_id is patientId.
    """
    classes = _read_classes(raw / CLASSES)
    nih_images = _read_nih_images(raw / NIH_NAMES) if (raw / NIH_NAMES).exists() else {}
    items = tuple(
        Item(
            image_id=image_id,
            study_id=image_id,
            patient_id=nih_images[image_id].partition("_")[0] if image_id in nih_images else image_id,
            labels=np.array([len(boxes) > 0], np.float32),
            xyxy=box_array(boxes),
            class_ids=np.zeros(len(boxes), np.int64),
            columns={"class": classes[image_id], "nih_image": nih_images.get(image_id, "")},
        )
        for image_id, boxes in sorted(_read_boxes(raw / LABELS, classes).items())
    )
    files = tuple(raw / name for name in (LABELS, CLASSES, NIH_NAMES) if (raw / name).exists())
    return Tables(items, files, OPACITY, OPACITY)


def _read_boxes(path: Path, known: Collection[str]) -> dict[str, list[list[float]]]:
    table = read_labels(path, "patientId", *_BOX, "Target")
    boxes: dict[str, list[list[float]]] = {}
    for line, (image_id, *cells, target) in table.select("patientId", *_BOX, "Target"):
        if image_id not in known:
            raise table.error(line, "patientId", found=repr(image_id), expected=f"an id of {CLASSES}")
        positive = flag_cell(table, line, "Target", target)
        if image_id in boxes and not (positive and boxes[image_id]):
            expected = "one row with Target 0, or only rows with Target 1"
            raise table.error(line, "patientId", found=f"{image_id} again, Target {target}", expected=expected)
        if positive:
            boxes.setdefault(image_id, []).append(box_cells(table, line, _BOX, cells))
        elif any(cells):
            raise table.error(line, "x", found=" ".join(cells), expected="no box where Target is 0")
        else:
            boxes[image_id] = []
    return boxes


def _read_classes(path: Path) -> dict[str, str]:
    table = read_labels(path, "patientId", "class")
    classes: dict[str, str] = {}
    for line, (cell, name) in table.select("patientId", "class"):
        image_id = id_cell(table, line, "patientId", cell)
        if name not in CLASS_NAMES:
            raise table.error(line, "class", found=repr(name), expected=" or ".join(CLASS_NAMES))
        # The table repeats an image once per box.
        if classes.setdefault(image_id, name) != name:
            raise table.error(line, "class", found=repr(name), expected=f"{classes[image_id]!r} as before")
    return classes


def _read_nih_images(path: Path) -> dict[str, str]:
    table = read_labels(path, "patientId", "nih_image")
    images: dict[str, str] = {}
    for line, (image_id, name) in table.select("patientId", "nih_image"):
        nih_image = id_cell(table, line, "nih_image", name.removesuffix(".png"))
        if not nih_image.partition("_")[0] or "_" not in nih_image:
            raise table.error(line, "nih_image", found=repr(name), expected="a name like 00000001_000.png")
        if image_id in images:
            raise table.error(line, "patientId", found=f"{image_id} again", expected="an id of its own")
        images[image_id] = nih_image
    return images


RSNA = Source(name="rsna", read=read_tables, native=ImageSize(1024, 1024))
"""One label and one box class, opacity; boxes of 9,555 on 6,012 of 26,684 images."""
