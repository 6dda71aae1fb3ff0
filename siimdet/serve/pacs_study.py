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
from siimdet.serve.uploads import TooCostly, Upload, receive


class StudyFailed(Exception):
    """A study whose results could not be made this time, for what it is: the message is why."""


class ServerTrouble(Exception):
    """The server cannot do any study now: the message is why."""


def find_and_store(study_uid: str, archive: Archive, jobs: Jobs, limits: Limits) -> int:
    """How many objects are stored; 0 if the archive has all of them already.

    Raises: ImageError for a study that is not to be looked at, or has an image that cannot be; StudyFailed;
    ServerTrouble; QueueFull if others wait or the server ends; ArchiveDown; ArchiveRefusal.
    """
    instances = archive.instances(study_uid)
    images = frontal_chest(instances)
    if len(images) > limits.files:
        raise ImageError("study", "images", found=len(images), expected=f"{limits.files} at most")
    origin = origin_of(ENSEMBLE, jobs.runtime)
    wanted = object_uids([each.sop_uid for each in images], origin)
    missing = set(wanted) - {each.sop_uid for each in instances}
    if not missing:
        return 0
    with jobs.receiving() as folder:
        job = jobs.submit(folder, _fetch(study_uid, images, archive, folder, limits), ENSEMBLE)
    try:
        job.ended.wait()
        objects = list(_made(job, origin))
    finally:
        jobs.forget(job)
    if [each.SOPInstanceUID for each in objects] != wanted:
        raise StudyFailed("the archive sent other images than it listed")
    # Some archives refuse what they have.
    archive.store(study_uid, [each for each in objects if each.SOPInstanceUID in missing])
    if lost := missing - {each.sop_uid for each in archive.instances(study_uid)}:
        raise StudyFailed(f"the archive did not keep {len(lost)} of {len(missing)} objects")
    return len(missing)


def _fetch(study_uid: str, images: Sequence[Instance], archive: Archive, folder: Path, limits: Limits) -> list[Upload]:
    try:
        return [receive(folder, archive.fetch(study_uid, each, most=limits.file_bytes), "dicom") for each in images]
    except TooCostly as error:  # or the machine was too busy
        raise StudyFailed(error.reason) from None


def _made(job: Job, origin: Origin) -> StudyObjects:
    if job.state == "cancelled":
        raise QueueFull("the server ends")
    if job.found is None and job.refused:
        raise ImageError("study", "images", found=job.detail, expected="images that the models take")
    if job.found is None:
        raise ServerTrouble(job.detail)
    return objects_of(job.uploads, job.found.result, job.detector, origin)
