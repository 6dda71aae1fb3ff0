"""COVIDx V7A: radiographs of five origins in three classes, listed in two text files.

A row is `patientid filename class source`, separated by blanks; in the test file most rows lack the
source, and the patients of one origin hold a blank: `COVID 1 COVID(1).png COVID-19 sirm`.
Source: Wang, Lin and Wong, Scientific Reports 10, 19549 (2020); https://github.com/lindawangg/COVID-Net
"""

import os
from pathlib import Path

from converters.labels import NO_SPACE, one_hot
from converters.lists import check_below, read_lines
from converters.names import image_ids, mended, mendings, renamings
from converters.repair import Repair
from converters.source import Item, Source, Tables
from siimdet.core.types import LabelSpace
from siimdet.data.splits import Official
from siimdet.errors import SourceError

CLASSES = LabelSpace("covidx", ("normal", "pneumonia", "COVID-19"))
VERSION = "7A"
LISTS: tuple[tuple[str, str, Official], ...] = (
    ("train_COVIDx", "data/train", "train_val"),
    ("test_COVIDx", "data/test", "test"),
)
"""Start of each list's name, the folder of its images, and its part."""
FOLDERS = ("", "labels")
"""Where the lists lie; the repository has those of all versions in labels/."""

_Row = tuple[str, str, str, Official]


def read_tables(raw: Path) -> Tables:
    """Both lists: image = study, source column `origin`, empty where the row has none.

    Numbers of patients of different origins may coincide; such patients count as one, so that none of
    theirs stands on two sides. A row that stands twice counts once, as a repair.
    """
    files = _find_lists(raw)
    rows: dict[str, _Row] = {}
    again: dict[str, list[int]] = {}
    for path, (_, folder, part) in zip(files, LISTS, strict=True):
        for line, text in read_lines(path):
            patient, name, label, origin = _parse(raw / folder, f"{path}:{line}", text)
            place = f"{folder}/{name}"
            row: _Row = (patient, label, origin, part)
            if rows.setdefault(place, row) is not row:
                if rows[place] != row:
                    raise SourceError(f"{path}:{line}", "filename", found=f"{name} again", expected="one row for it")
                again.setdefault(place, []).append(line)
    ids = image_ids(rows)
    items = [_item(place, ids[place], row, again.get(place, [])) for place, row in rows.items()]
    return Tables(tuple(sorted(items, key=lambda item: item.image_id)), files, CLASSES, NO_SPACE)


def _item(place: str, image_id: str, row: _Row, again: list[int]) -> Item:
    patient, label, origin, part = row
    patient_id = mended(patient)
    twice = (Repair(image_id, f"line {line}", "the same row", "") for line in again)
    return Item(
        image_id=image_id,
        study_id=image_id,
        labels=one_hot(CLASSES, label),
        patient_id=patient_id,
        place=place,
        official=part,
        columns={"file": place, "origin": origin},
        repairs=(*renamings(place, image_id), *mendings(image_id, "patient_id", patient, patient_id), *twice),
    )


def _parse(folder: Path, where: str, text: str) -> tuple[str, str, str, str]:
    """Patient, file name, class and origin of a row."""
    cells = text.split()
    at = next((i for i in (len(cells) - 1, len(cells) - 2) if i > 1 and cells[i] in CLASSES.names), None)
    if at is None:
        expected = f"patientid filename class source, the class one of {', '.join(CLASSES.names)}"
        raise SourceError(where, "row", found=repr(text.strip()[:100]), expected=expected)
    # Which of patient and file a blank belongs to, the files tell; the lists as published have it in the patient.
    starts = [i for i in range(1, at - 1) if _is_file(folder, " ".join(cells[i:at]))]
    start = starts[0] if starts else at - 1
    name = check_below(where, "filename", " ".join(cells[start:at]))
    return " ".join(cells[:start]), name, cells[at], "".join(cells[at + 1 :])


def _is_file(folder: Path, name: str) -> bool:
    return ".." not in name and os.path.isfile(folder / name)


def _find_lists(raw: Path) -> tuple[Path, ...]:
    """The lists of VERSION, or of the one version that is there."""
    found: dict[str, dict[str, Path]] = {}
    for start, _, _ in LISTS:
        for folder in FOLDERS:
            for path in sorted((raw / folder).glob(f"{start}*.txt")):
                twin = found.setdefault(path.stem.removeprefix(start), {}).setdefault(start, path)
                if twin != path:
                    raise SourceError(raw, "lists", found=f"{twin} and {path}", expected="one list of that name")
    whole = {version: tuple(lists.values()) for version, lists in found.items() if len(lists) == len(LISTS)}
    chosen = whole.get(VERSION) or (next(iter(whole.values())) if len(whole) == 1 else None)
    if chosen is None:
        versions = " and ".join(sorted(whole)) or "no such pair"
        expected = f"train_COVIDx{VERSION}.txt and test_COVIDx{VERSION}.txt"
        raise SourceError(raw, "lists", found=versions, expected=expected)
    return chosen


COVIDX = Source(name="covidx", read=read_tables)
"""normal, pneumonia or COVID-19; one holds."""
