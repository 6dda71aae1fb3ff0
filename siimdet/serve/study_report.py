"""A study's result as DICOM objects on its uploads."""

import io
import threading
from collections.abc import Sequence
from datetime import datetime
from typing import TYPE_CHECKING

import siimdet
from siimdet.serve.dicom_identity import ModelIdentity, Origin, require_highdicom
from siimdet.serve.results import ImageResult, StudyResult
from siimdet.serve.runtime import Runtime
from siimdet.serve.uploads import Upload

if TYPE_CHECKING:
    from siimdet.serve.dicom_results import StudyObjects

# The objects are made under settings of pydicom's and of warnings that hold for the whole process.
_ONE_AT_A_TIME = threading.Lock()
_DIGITS = 16  # of the SHA-256 of each model and of the coupling


def origin_of(detector: str, runtime: Runtime) -> Origin:
    """What objects on the boxes of `detector` say that they are from, made now.

    Raises: MissingExtra without highdicom.
    """
    require_highdicom()
    models = (*runtime.asked(detector).values(), runtime.study)
    digests = [*(each.digest for each in models), runtime.coupling_digest]
    digest = "-".join(each[:_DIGITS] for each in digests)
    identity = ModelIdentity(f"siimdet {detector}", siimdet.__version__, digest)
    return Origin(identity, runtime.threshold(detector), datetime.now().astimezone())


def objects_of(uploads: Sequence[Upload], result: StudyResult, detector: str, origin: Origin) -> "StudyObjects":
    """Report, presentation states and pictures of uploads that are all DICOM, of the boxes of `detector` alone.

    Raises: ImageError as study_objects and read_source.
    """
    from siimdet.serve.dicom_results import study_objects
    from siimdet.serve.dicom_source import read_source

    images = [
        ImageResult(image.image_id, image.size, tuple(box for box in image.boxes if box.detector == detector))
        for image in result.images
    ]
    with _ONE_AT_A_TIME:
        return study_objects([read_source(upload.path) for upload in uploads], images, result.study, origin)


def report_of(uploads: Sequence[Upload], result: StudyResult, detector: str, runtime: Runtime) -> bytes:
    """The TID 1500 report of objects_of, as a file.

    Raises: MissingExtra without highdicom; ImageError as objects_of.
    """
    found = objects_of(uploads, result, detector, origin_of(detector, runtime))
    stream = io.BytesIO()
    found.report.save_as(stream, enforce_file_format=True)
    return stream.getvalue()
