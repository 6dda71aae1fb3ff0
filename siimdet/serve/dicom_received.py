"""A file that was sent: what its header calls it, and the place that this gives it."""

import logging
import re
import warnings
from pathlib import Path, PurePosixPath
from typing import NamedTuple

from pydicom import dcmread
from pydicom.config import disable_value_validation

from siimdet.errors import UserError
from siimdet.imaging.dicom import read_header_ids

_UID = re.compile(r"[0-9]+(\.[0-9]+)*")  # PS3.5 9.1; zeros before a number, which it forbids, are met and do no harm
_UID_LENGTH = 64
_SOP_CLASS = "SOPClassUID"
# It logs what it cannot decode: names of patients.
logging.getLogger("pydicom").setLevel(logging.ERROR)


class Received(NamedTuple):
    """An object by its own header; `place` is STUDY/SERIES/INSTANCE.dcm."""

    sop_class: str
    sop_instance: str
    place: PurePosixPath


def read_received(path: Path) -> Received:
    """Read the header of a DICOM file that anybody may have made.

    Raises: ImageError for a header that cannot be read; UserError, which names the element, for a UID that is none.
    """
    ids = read_header_ids(path)
    uids = {"StudyInstanceUID": ids.study_uid, "SeriesInstanceUID": ids.series_uid, "SOPInstanceUID": ids.sop_uid}
    study, series, instance = (_checked(uid, field) for field, uid in uids.items())
    with warnings.catch_warnings(), disable_value_validation():
        warnings.simplefilter("ignore")
        # read_header_ids has read as much, within its limits.
        found = dcmread(path, stop_before_pixels=True, specific_tags=[_SOP_CLASS]).get(_SOP_CLASS)
    return Received(str(found or ""), instance, PurePosixPath(study, series, f"{instance}.dcm"))


def _checked(uid: str, field: str) -> str:
    """A UID, which can be the name of a file or folder. Not check_id: a name such as `.incoming.1` is ours."""
    if len(uid) > _UID_LENGTH or not _UID.fullmatch(uid):
        raise UserError("object", field, found=repr(uid), expected=f"a UID of at most {_UID_LENGTH} characters")
    return uid
