"""MIA-COV19D: a folder of slices per CT scan, below folders of parts and classes.

PART/CLASS/SCAN/NUMBER.jpg with PART train, validation or test and CLASS covid or non-covid; test scans
have no class. Scans are numbered anew in every class.
Source: Kollias et al., MIA-COV19D, ICCV Workshops 2021, arXiv:2106.07524
"""

import re
from collections.abc import Collection
from pathlib import Path, PurePosixPath

from converters.labels import NO_SPACE, one_hot
from converters.names import mended
from converters.parts import official_part
from converters.raw_files import walk_images
from converters.source import Item, Source, Tables
from siimdet.core.types import LabelSpace, Split
from siimdet.errors import SourceError

CLASSES = LabelSpace("mia-cov19d", ("non-covid", "covid"))

# train, training, train_cov19d, val, valid, validation_1, test, test_set, but no other words.
_PART = re.compile(r"(train|val|test)(?:ing|id|idation)?(?![a-z])", re.IGNORECASE)
_PARTS: dict[str, Split] = {"train": "train", "val": "val", "test": "test"}
_NUMBER = re.compile(r"[0-9]+")

_Scan = tuple[Split | None, str | None]


def read_tables(raw: Path) -> Tables:
    """Patient = study = scan; ids end in the slice's number, so their order is that of the slices.

    Where a test part is missing, a tenth of the training scans becomes it.
    """
    places = walk_images(raw)
    if not places:
        raise SourceError(raw, "images", found="none", expected="PART/CLASS/SCAN/NUMBER.jpg")
    scans = {folders: _read_scan(raw, folders) for folders in {PurePosixPath(place).parts[:-1] for place in places}}
    given: set[Split | None] = {part for part, _ in scans.values()}
    items: dict[str, Item] = {}
    for place in places:
        item = _item(raw, place, scans[PurePosixPath(place).parts[:-1]], given)
        if item.image_id in items:
            found = f"{place} and {items[item.image_id].place}"
            raise SourceError(raw, "slice", found=found, expected="every slice of a scan once")
        items[item.image_id] = item
    return Tables(tuple(items[key] for key in sorted(items)), (), CLASSES, NO_SPACE)


def _item(raw: Path, place: str, scan: _Scan, given: Collection[Split | None]) -> Item:
    path = PurePosixPath(place)
    numbers = _NUMBER.findall(path.stem)
    if not numbers:
        raise SourceError(raw / place, "name", found=path.name, expected="a slice number")
    number, name = int(numbers[-1]), mended("-".join(path.parts[:-1]))
    part, label = scan
    return Item(
        image_id=mended(f"{name}-{number:04}"),
        study_id=name,
        labels=one_hot(CLASSES, label),
        patient_id=name,
        place=place,
        # The report tests on a tenth of the training part, for the published test has no labels.
        official="train_test" if part == "train" and given == {"train", "val"} else official_part(part, given),
        columns={"file": place, "slice": str(number)},
    )


def _read_scan(raw: Path, folders: tuple[str, ...]) -> _Scan:
    """Part and class of a scan, by the folders above it: its own name, the last, does not count."""
    above = folders[:-1]
    parts: list[Split | None] = [_part(folder) for folder in above]
    at = next((i for i, part in enumerate(parts) if part), -1)
    part = parts[at] if at >= 0 else None
    label = next(filter(None, map(_label, reversed(above[at + 1 :]))), None)
    if not above or (label is None and part != "test"):
        expected = "PART/CLASS/SCAN/NUMBER.jpg, the class covid or non-covid except in test"
        raise SourceError(raw, "folders", found="/".join(folders) or "images outside any", expected=expected)
    return part, label


def _part(folder: str) -> Split | None:
    found = _PART.match(folder)
    return _PARTS[found[1].lower()] if found else None


def _label(folder: str) -> str | None:
    """The class that a folder names: covid, COVID-19, non_covid, noncovid2 and the like."""
    letters = re.sub("[^a-z]", "", folder.lower())
    return {"covid": "covid", "noncovid": "non-covid"}.get(letters)


MIA_COV19D = Source(name="mia-cov19d", read=read_tables)
"""covid or non-covid; one holds for all slices of a scan."""
