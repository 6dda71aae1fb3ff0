"""A study's result as a DICOM structured report on its uploads."""

import io
import threading
from collections.abc import Sequence
from datetime import datetime

import siimdet
from siimdet.serve.dicom_identity import ModelIdentity, Origin, require_highdicom
from siimdet.serve.results import ImageResult, StudyResult
from siimdet.serve.runtime import Runtime
from siimdet.serve.uploads import Upload

# The objects are made under settings of pydicom's and of warnings that hold for the whole process.
_ONE_AT_A_TIME = threading.Lock()


def report_of(uploads: Sequence[Upload], result: StudyResult, detector: str, runtime: Runtime) -> bytes:
    """A TID 1500 report on uploads that are all DICOM, of the boxes of `detector` alone, from its threshold on.

    Raises: MissingExtra without highdicom; ImageError as study_objects and read_source.
    """
    require_highdicom()
    from siimdet.serve.dicom_results import study_objects
    from siimdet.serve.dicom_source import read_source

    digest = "+".join(each.digest[:16] for each in (*runtime.asked(detector).values(), runtime.study))
    identity = ModelIdentity(f"siimdet {detector}", siimdet.__version__, digest)
    origin = Origin(identity, runtime.threshold(detector), datetime.now().astimezone())
    images = [
        ImageResult(image.image_id, image.size, tuple(box for box in image.boxes if box.detector == detector))
        for image in result.images
    ]
    with _ONE_AT_A_TIME:
        found = study_objects([read_source(upload.path) for upload in uploads], images, result.study, origin)
        stream = io.BytesIO()
        found.report.save_as(stream, enforce_file_format=True)
    return stream.getvalue()
