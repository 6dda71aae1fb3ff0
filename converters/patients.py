"""Patients by a pattern of file names, for sources whose labels name none."""

import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import PurePosixPath

from converters.names import mended
from converters.source import Item, Source, Tables
from siimdet.errors import SourceError, UserError

OPTION = "--patient-pattern"


def with_patients(source: Source, tables: Tables, pattern: str | None) -> Tables:
    """The tables with the patient that a regular expression finds in each image's file name.

    Its first group is the patient, or all that it matches; images whose name it does not match keep
    a patient of their own.
    Raises: UserError for a source that knows its patients, a broken pattern, or one that matches no name.
    """
    if pattern is None:
        return tables
    if source.knows_patients:
        raise UserError("convert", OPTION, found=source.name, expected="a source that names no patients")
    try:
        search = re.compile(pattern).search
    except re.error as error:
        raise UserError("convert", OPTION, found=error, expected="a regular expression") from None
    items = tuple(_with_patient(item, search) for item in tables.items)
    if items and all(new is old for new, old in zip(items, tables.items, strict=True)):
        example = PurePosixPath(tables.items[0].place or tables.items[0].image_id).name
        raise SourceError("convert", OPTION, found=f"{pattern}, in no name", expected=f"part of a name like {example}")
    return replace(tables, items=items)


def _with_patient(item: Item, search: Callable[[str], re.Match[str] | None]) -> Item:
    found = search(PurePosixPath(item.place or item.image_id).name)
    patient = next((part for part in (*found.groups(), found.group()) if part), "") if found else ""
    return replace(item, patient_id=mended(patient)) if patient else item
