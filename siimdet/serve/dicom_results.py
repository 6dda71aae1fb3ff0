"""DICOM results of a study: a structured report, and a presentation state and a picture of each image. No files."""

import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from pydicom.config import disable_value_validation
from pydicom.dataset import Dataset

from siimdet.core.boxes import clip_boxes, has_area
from siimdet.errors import ImageError
from siimdet.serve.burned_in import capture
from siimdet.serve.dicom_identity import Origin
from siimdet.serve.dicom_source import Source
from siimdet.serve.presentation_state import presentation_state
from siimdet.serve.results import FoundBox, ImageResult
from siimdet.serve.structured_report import structured_report

_OVERSHOOT = 1.0  # px beyond the border that a box may have by rounding; it is cut there


@dataclass(frozen=True, slots=True, eq=False)
class StudyObjects:
    """What is made of a study: `presentations` and `captures` are parallel to its images."""

    report: Dataset
    presentations: tuple[Dataset, ...]
    captures: tuple[Dataset, ...]

    def __iter__(self) -> Iterator[Dataset]:
        """All of them, the report first."""
        return iter((self.report, *self.presentations, *self.captures))


def study_objects(
    sources: Sequence[Source], images: Sequence[ImageResult], study: Mapping[str, float] | None, origin: Origin
) -> StudyObjects:
    """Report, presentation states and pictures of a study's images.

    `images` are parallel to `sources`, their boxes in the pixels of the file; those below the threshold are left
    out. `study` has the probabilities of STUDY by name, None for unknown. The same arguments give the same UIDs,
    so that storing twice stores once.
    Raises: ImageError for images of different studies or patients, the same image twice, another size than the
    result's, and boxes outside.
    """
    _check_one_study(sources)
    boxes = [shown_boxes(source, image, origin.threshold) for source, image in zip(sources, images, strict=True)]
    pairs = list(enumerate(zip(sources, boxes, strict=True), start=1))
    with warnings.catch_warnings(), disable_value_validation():
        # pydicom warns of values of the source that it does not like, names among them.
        warnings.simplefilter("ignore")
        return StudyObjects(
            structured_report(sources, boxes, study, origin),
            tuple(presentation_state(source, found, origin, number=number) for number, (source, found) in pairs),
            tuple(capture(source, found, study, origin, number=number) for number, (source, found) in pairs),
        )


def object_uids(sop_uids: Sequence[str], origin: Origin) -> list[str]:
    """The UIDs of what study_objects makes of images with these UIDs, in its order."""
    made = [origin.uid(kind, each) for kind in ("presentation", "capture") for each in sop_uids]
    return [origin.uid("report", *sop_uids), *made]


def shown_boxes(source: Source, image: ImageResult, threshold: float) -> tuple[FoundBox, ...]:
    """The boxes of an image from the threshold on, the best first, cut at its border.

    Raises: ImageError for an image of another size, and a box without area or more than a pixel outside.
    """
    if image.size != source.size:
        found = f"{source.size.width}x{source.size.height}"
        expected = f"{image.size.width}x{image.size.height}, as it was predicted on"
        raise ImageError(source.file, "Columns x Rows", found=found, expected=expected)
    boxes = sorted((box for box in image.boxes if box.score >= threshold), key=lambda box: -box.score)
    return tuple(_inside(source, box) for box in boxes)


def _check_one_study(sources: Sequence[Source]) -> None:
    first, seen = sources[0].header, set()
    for source in sources:
        if (study := source.header.StudyInstanceUID) != first.StudyInstanceUID:
            raise ImageError(source.file, "StudyInstanceUID", found=study, expected=first.StudyInstanceUID)
        if source.header.PatientID != first.PatientID:  # not named: reasons go to logs
            raise ImageError(source.file, "PatientID", found="another patient", expected="one patient in a study")
        uid = source.header.SOPInstanceUID
        if uid in seen:
            raise ImageError(source.file, "SOPInstanceUID", found=f"{uid} again", expected="an image of its own")
        seen.add(uid)


def _inside(source: Source, box: FoundBox) -> FoundBox:
    corners = (box.x1, box.y1, box.x2, box.y2)
    cut = clip_boxes([corners], source.size)
    if not has_area(cut)[0] or abs(cut[0] - corners).max() > _OVERSHOOT:
        width, height = source.size.width, source.size.height
        found = " ".join(f"{value:g}" for value in corners)
        raise ImageError(source.file, "box", found=found, expected=f"a box inside the image of {width}x{height}")
    return FoundBox(*(float(value) for value in cut[0]), score=box.score, detector=box.detector)
