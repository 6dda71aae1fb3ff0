"""A plain folder of DICOM files without labels: images to predict."""

import os
from pathlib import Path, PurePosixPath

import numpy as np

from converters.labels import NO_SPACE
from converters.names import image_ids, renamings
from converters.raw_files import DICOM_SUFFIXES, plain_place, walk
from converters.source import Item, Source, Tables
from siimdet.errors import SourceError

INDEX = "DICOMDIR"
"""Name of the index that a disc of DICOM files has; it shows nothing itself."""

_MARK_AT, _MARK = 128, b"DICM"
# What files of the times before the mark begin with: they are refused by name, a README is passed over.
_FIRST_GROUPS = (b"\x02\x00", b"\x08\x00", b"\x00\x08")


def read_tables(raw: Path) -> Tables:
    """Every DICOM file below `raw` as an image of the test split; study and patient are the header's.

    A DICOM file has the mark of one, or one of its suffixes, or no suffix and the start of an old one.
    """
    places = [plain_place(raw, place) for place in walk(raw) if _is_candidate(raw, PurePosixPath(place))]
    if not places:
        raise SourceError(raw, "images", found="none", expected="DICOM files")
    ids = image_ids(places, suffixes=DICOM_SUFFIXES)
    items = [
        Item(
            image_id=image_id,
            study_id=None,
            labels=np.zeros(0, np.float32),
            place=place,
            official="test",
            columns={"file": place},
            repairs=renamings(place, image_id, suffixes=DICOM_SUFFIXES),
        )
        for place, image_id in sorted(ids.items(), key=lambda pair: pair[1])
    ]
    return Tables(tuple(items), (), NO_SPACE, NO_SPACE)


def _is_candidate(raw: Path, place: PurePosixPath) -> bool:
    if place.name.upper() == INDEX:
        return False
    if place.suffix.lower() in DICOM_SUFFIXES:
        return True
    if not os.path.isfile(raw / place):  # a link to nothing, or a pipe, which would never end
        return False
    try:
        with open(raw / place, "rb") as stream:
            start = stream.read(_MARK_AT + len(_MARK))
    except OSError:
        return True  # refused by name when its turn comes
    return start[_MARK_AT:] == _MARK or (not place.suffix and start[:2] in _FIRST_GROUPS)


DICOM = Source(name="dicom", read=read_tables)
"""No labels and no boxes."""
