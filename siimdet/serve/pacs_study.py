"""One study of an archive: its chest images are fetched, looked at, and the results stored beside them."""

from collections.abc import Sequence
from pathlib import Path

from siimdet.errors import ImageError
from siimdet.serve.archive import Archive, Instance
from siimdet.serve.chest_images import frontal_chest
from siimdet.serve.dicom_identity import Origin
from siimdet.serve.dicom_results import StudyObjects, object_uids
from siimdet.serve.guard import Limits
from siimdet.serve.jobs import Job, Jobs, QueueFull
from siimdet.serve.runtime import ENSEMBLE
from siimdet.serve.study_report import objects_of, origin_of
from siimdet.serve.uploads import Upload, receive


class StudyFailed(Exception):
    """A study whose results could not be made this time: the message is why."""


def find_and_store(study_uid: str, archive: Archive, jobs: Jobs, limits: Limits) -> int:
    """How many objects are stored; 0 if the archive has all of them already.

    Raises: ImageError for a study that is not to be looked at, or has an image that cannot be; StudyFailed; QueueFull
    if others wait or the server ends; ArchiveDown; ArchiveRefusal.
    """
    instances = archive.instances(study_uid)
    images = frontal_chest(instances)
    if len(images) > limits.files:
        raise ImageError("study", "images", found=len(images), expected=f"{limits.files} at most")
    origin = origin_of(ENSEMBLE, jobs.runtime)
    expected = object_uids([each.sop_uid for each in images], origin)
    if {each.sop_uid for each in instances}.issuperset(expected):
        return 0
    with jobs.receiving() as folder:
        job = jobs.submit(folder, _fetch(study_uid, images, archive, folder, limits), ENSEMBLE)
    job.ended.wait()
    objects = list(_made(job, origin))
    if [each.SOPInstanceUID for each in objects] != expected:
        raise StudyFailed("the archive sent other images than it listed")
    archive.store(study_uid, objects)
    return len(objects)


def _fetch(study_uid: str, images: Sequence[Instance], archive: Archive, folder: Path, limits: Limits) -> list[Upload]:
    return [receive(folder, archive.fetch(study_uid, each, most=limits.file_bytes), "dicom") for each in images]


def _made(job: Job, origin: Origin) -> StudyObjects:
    if job.state == "cancelled":
        raise QueueFull("the server ends")
    if job.found is None and job.refused:
        raise ImageError("study", "images", found=job.detail, expected="images that the models take")
    if job.found is None:
        raise StudyFailed(job.detail)
    return objects_of(job.uploads, job.found.result, job.detector, origin)
