"""Whose an image is: study and patient, from the labels or else from the file's own header."""

from dataclasses import dataclass

from converters.item import Done
from converters.names import mended, mendings
from converters.repair import Repair
from converters.source import Item


@dataclass(frozen=True, slots=True)
class Owners:
    """Study and patient of an image, and what had to be mended to have them."""

    study_id: str
    patient_id: str
    repairs: tuple[Repair, ...]


def find_owners(item: Item, done: Done | None) -> Owners | None:
    """The owners of an image; None if only its file could tell the patient, and it is not converted.

    What neither labels nor header tell is the next smaller group: the image is its own study, the study
    its own patient.
    """
    if item.patient_id is None and done is None:
        return None
    told_study = item.study_id or (done.study_id if done else "")
    told_patient = item.patient_id or (done.patient_id if done else "")
    study_id = mended(told_study) if told_study else item.image_id
    patient_id = mended(told_patient) if told_patient else study_id
    repairs = (
        *mendings(item.image_id, "study_id", told_study, study_id),
        *mendings(item.image_id, "patient_id", told_patient, patient_id),
    )
    # An image that is not here yet has a study of its own only because its header is unread.
    return Owners(study_id, patient_id, repairs if done else ())
