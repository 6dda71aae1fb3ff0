"""NIH ChestX-ray14: 112,120 images, 14 findings, boxes on 880 images of the test list.

Boxes are in 1024-pixel space. `No Finding` stands alone and means 14 zeros.
Source: Wang et al., CVPR 2017; https://nihcc.app.box.com/v/ChestXray-NIHCC
"""

from collections import defaultdict
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from converters.cells import box_array, box_cells, id_cell, read_labels
from converters.lists import read_lines
from converters.repair import Repair
from converters.source import Item, Source, Tables
from siimdet.core.labels import NIH_FINDINGS
from siimdet.core.types import ImageSize, LabelSpace
from siimdet.data.splits import Official
from siimdet.data.table import Table
from siimdet.errors import SourceError

ENTRIES = ("Data_Entry_2017_v2020.csv", "Data_Entry_2017.csv")
BOXES = "BBox_List_2017.csv"
TRAIN_VAL_LIST = "train_val_list.txt"
TEST_LIST = "test_list.txt"
NO_FINDING = "No Finding"
BOX_CLASSES = LabelSpace(
    "nih-box",
    ("Atelectasis", "Cardiomegaly", "Effusion", "Infiltration", "Mass", "Nodule", "Pneumonia", "Pneumothorax"),
)
"""The findings that have boxes."""

_ENTRY = (
    "Image Index",
    "Finding Labels",
    "Patient ID",
    "View Position",
    "Patient Age",
    "Patient Gender",
    "Follow-up #",
)
# The header reads `Bbox [x,y,w,h],,,`: its one name falls apart at the commas.
_BOX = ("Bbox [x", "y", "w", "h]")
# BBox_List names one finding otherwise than the entries do.
_RENAMED = {"Infiltrate": "Infiltration"}

_Boxes = dict[str, list[tuple[int, list[float], str]]]


def read_tables(raw: Path) -> Tables:
    """The label tables: image = study, patient = the part of its name before `_`.

    Source columns view, age (years), gender and follow_up. Official lists decide the test split where
    both are there. The 2020 edition of the entries goes before that of 2017.
    """
    entries = next((raw / name for name in ENTRIES if (raw / name).exists()), raw / ENTRIES[0])
    table = read_labels(entries, *_ENTRY)
    boxes = _read_boxes(raw / BOXES) if (raw / BOXES).exists() else {}
    has_lists = (raw / TRAIN_VAL_LIST).exists() or (raw / TEST_LIST).exists()
    official = _read_official(raw) if has_lists else None
    items: dict[str, Item] = {}
    for line, (name, findings, patient, view, age, gender, follow_up) in table.select(*_ENTRY):
        image_id = id_cell(table, line, "Image Index", name, suffix=".png")
        if image_id in items:
            raise table.error(line, "Image Index", found=f"{name} again", expected="an image of its own")
        if official is not None and image_id not in official:
            raise table.error(line, "Image Index", found=name, expected=f"a name of {TRAIN_VAL_LIST} or {TEST_LIST}")
        found = boxes.pop(image_id, [])
        items[image_id] = Item(
            image_id=image_id,
            study_id=image_id,
            patient_id=_patient(table, line, image_id, patient),
            labels=parse_findings(table, line, findings),
            xyxy=box_array([box for _, box, _ in found]),
            class_ids=np.array([BOX_CLASSES.index(_RENAMED.get(label, label)) for *_, label in found], np.int64),
            official=official[image_id] if official else None,
            columns={"view": view, "age": _age(table, line, age), "gender": gender, "follow_up": follow_up},
            repairs=tuple(_renamings(image_id, [label for *_, label in found])),
        )
    for image_id, found in boxes.items():
        where = f"{raw / BOXES}:{found[0][0]}"
        raise SourceError(where, "Image Index", found=f"{image_id}.png", expected=f"an image of {entries.name}")
    files = (entries, *(raw / name for name in (BOXES, TRAIN_VAL_LIST, TEST_LIST) if (raw / name).exists()))
    return Tables(tuple(items[image_id] for image_id in sorted(items)), files, NIH_FINDINGS, BOX_CLASSES)


def parse_findings(table: Table, line: int, cell: str) -> NDArray[np.float32]:
    """Findings joined by `|` as f32[14]."""
    labels = np.zeros(len(NIH_FINDINGS), np.float32)
    if cell == NO_FINDING:
        return labels
    for name in cell.split("|"):
        if name not in NIH_FINDINGS.names:
            expected = f"findings of {', '.join(NIH_FINDINGS.names)}, or {NO_FINDING} alone"
            raise table.error(line, "Finding Labels", found=repr(cell), expected=expected)
        labels[NIH_FINDINGS.index(name)] = 1
    return labels


def _age(table: Table, line: int, cell: str) -> str:
    # The edition of 2017 writes 058Y, a few infants 011M or 013D; that of 2020 whole years.
    number, unit = (cell[:-1], cell[-1:]) if cell[-1:] in ("Y", "M", "D") else (cell, "Y")
    if not number.isdecimal():
        raise table.error(line, "Patient Age", found=repr(cell), expected="years, or a number with Y, M or D")
    return str(int(number) // {"Y": 1, "M": 12, "D": 365}[unit])


def _patient(table: Table, line: int, image_id: str, cell: str) -> str:
    # The name's own eight digits, so that ids compare with RSNA's mapping to NIH names.
    patient = image_id.partition("_")[0]
    if not (cell.isdecimal() and patient.isdecimal() and int(cell) == int(patient)):
        raise table.error(line, "Patient ID", found=repr(cell), expected=f"{patient}, as in the image's name")
    return patient


def _renamings(image_id: str, labels: list[str]) -> list[Repair]:
    return [
        Repair(image_id, f"box {number} label", label, _RENAMED[label])
        for number, label in enumerate(labels, start=1)
        if label in _RENAMED
    ]


def _read_boxes(path: Path) -> _Boxes:
    table = read_labels(path, "Image Index", "Finding Label", *_BOX)
    boxes: _Boxes = defaultdict(list)
    for line, (name, label, *cells) in table.select("Image Index", "Finding Label", *_BOX):
        if _RENAMED.get(label, label) not in BOX_CLASSES.names:
            raise table.error(line, "Finding Label", found=repr(label), expected=" or ".join(BOX_CLASSES.names))
        image_id = id_cell(table, line, "Image Index", name, suffix=".png")
        boxes[image_id].append((line, box_cells(table, line, _BOX, cells), label))
    return dict(boxes)


def _read_official(raw: Path) -> dict[str, Official]:
    parts: dict[str, Official] = {}
    owners: dict[str, Official] = {}
    lists: tuple[tuple[str, Official], ...] = ((TRAIN_VAL_LIST, "train_val"), (TEST_LIST, "test"))
    for file, part in lists:
        path = raw / file
        if not path.exists():
            raise SourceError(path, "file", found="nothing there", expected="both official lists, or none")
        for line, text in read_lines(path):
            name = text.strip()
            image_id = name.removesuffix(".png")
            if image_id in parts:
                raise SourceError(f"{path}:{line}", "image", found=f"{name} again", expected="every image once")
            if owners.setdefault(image_id.partition("_")[0], part) != part:
                raise SourceError(f"{path}:{line}", "image", found=name, expected="a patient of one list only")
            parts[image_id] = part
    return parts


NIH = Source(name="nih", read=read_tables, native=ImageSize(1024, 1024))
"""Fourteen findings, several at a time, and boxes of eight of them."""
