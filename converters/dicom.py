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


def read_tables(raw: Path) -> Tables:
    """Every DICOM file below `raw` as an image of the test split; study and patient are the header's.

    A DICOM file has the mark of one, one of its suffixes, or no suffix at all.
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
    if not place.suffix or place.suffix.lower() in DICOM_SUFFIXES:
        return True
    if not os.path.isfile(raw / place):  # a link to nothing, or a pipe, which would never end
        return False
    try:
        with open(raw / place, "rb") as stream:
            return stream.read(_MARK_AT + len(_MARK))[_MARK_AT:] == _MARK
    except OSError:
        return True  # refused by name when its turn comes


DICOM = Source(name="dicom", read=read_tables)
"""No labels and no boxes."""
