"""Whether files belong to one study, by what their headers say of patient, study and instance."""

import hashlib
from collections.abc import Sequence
from typing import NamedTuple

from siimdet.imaging.radiograph import HeaderIds


class Belonging(NamedTuple):
    """SHA-256 of the ids that a header gives, empty where it gives none: they can be compared, and name nobody."""

    study: str = ""
    patient: str = ""
    instance: str = ""


def belonging(ids: HeaderIds) -> Belonging:
    """What a file says of itself; a picture says nothing."""
    return Belonging(*(_digest(text) for text in (ids.study_uid, ids.patient_id, ids.sop_uid)))


def stranger(file: Belonging, before: Sequence[Belonging]) -> str | None:
    """Why a file cannot be of one study with those before it, which are counted from 1; None if it can.

    Only what both files tell is compared: anonymised ones lack a patient.
    """
    for number, other in enumerate(before, start=1):
        if _differ(file.study, other.study):
            return f"StudyInstanceUID: found another than file {number}'s, expected the images of one study"
        if _differ(file.patient, other.patient):
            return f"PatientID: found another patient's than file {number}'s, expected the images of one patient"
        if file.instance and file.instance == other.instance:
            return f"SOPInstanceUID: found that of file {number}, expected an image of its own"
    return None


def _differ(one: str, other: str) -> bool:
    return bool(one and other) and one != other


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode(errors="replace")).hexdigest() if text else ""
