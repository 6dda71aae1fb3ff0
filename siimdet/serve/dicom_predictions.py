"""Predictions of a file, by image and study, as DICOM results are made of them."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from siimdet.core.boxes import scale_boxes
from siimdet.core.files import check_id
from siimdet.core.labels import STUDY
from siimdet.core.types import ImageRecord
from siimdet.data.dataset import Dataset
from siimdet.data.siim_tables import IMAGE_SUFFIX, STUDY_SUFFIX
from siimdet.errors import SubmissionError, UserError
from siimdet.serve.results import FoundBox
from siimdet.submission.file import read_submission
from siimdet.submission.prediction_files import read_boxes
from siimdet.submission.table import OPACITY_ID, Submission

Boxes = tuple[FoundBox, ...]


@dataclass(frozen=True, slots=True, eq=False)
class Predictions:
    """The boxes of every image to report on, in original pixels, and the four probabilities of studies.

    `records` are those of the images where a data set tells them, else empty.
    """

    boxes: Mapping[str, Boxes]
    studies: Mapping[str, Mapping[str, float]]
    records: Mapping[str, ImageRecord]


def read_predictions(path: Path, dataset: Dataset | None, *, detector: str) -> Predictions:
    """Read submission.csv, or COCO results (.json) of a data set; `detector` is who found the boxes.

    COCO results name no image in which nothing was found: all images of their splits are reported on.
    Raises: SubmissionError or DatasetError for what the files should not hold, ids that are no file names, images
    that the data set does not have, a study row without its four classes, a file without images; UserError for
    COCO results without a data set.
    """
    if path.suffix.lower() == ".json":
        if dataset is None:
            raise UserError(path, "--dataset", found="nothing", expected="the data set that these boxes are of")
        return _of_results(path, dataset, detector)
    submission = read_submission(path)
    records = {record.image_id: record for record in dataset.records} if dataset else {}
    boxes, studies = _image_rows(submission, detector), _study_rows(submission)
    if unknown := sorted(boxes.keys() - records.keys()) if dataset else []:
        raise SubmissionError(path, "id", found=unknown[0], expected="only images of the data set")
    if not boxes:
        raise SubmissionError(path, "id", found="no image rows", expected=f"ids that end in {IMAGE_SUFFIX}")
    return Predictions(boxes, studies, {image_id: records[image_id] for image_id in boxes if dataset})


def _of_results(path: Path, dataset: Dataset, detector: str) -> Predictions:
    records = {record.image_id: record for record in dataset.records}
    found = read_boxes(path, dataset, records.keys(), whose="data set")
    splits = {records[image_id].split for image_id in found}
    if not splits:
        raise UserError(path, "content", found="no boxes", expected="one at least, which tells the split")
    chosen = {image_id: record for image_id, record in records.items() if record.split in splits}
    boxes: dict[str, Boxes] = dict.fromkeys(chosen, ())
    for image_id, detections in found.items():
        record = records[image_id]
        scaled = scale_boxes(detections.xyxy, record.stored, record.original)
        boxes[image_id] = _boxes(scaled, detections.scores, detector)
    return Predictions(boxes, {}, chosen)


def _image_rows(submission: Submission, detector: str) -> dict[str, Boxes]:
    owners = [_own_id(submission, row_id, IMAGE_SUFFIX) for row_id in submission.ids]
    opacity = submission.class_ids == OPACITY_ID
    return {
        image_id: _boxes(submission.xyxy[mine], submission.scores[mine], detector)
        for image_id, mine in _by_row(submission, owners, opacity)
    }


def _study_rows(submission: Submission) -> dict[str, dict[str, float]]:
    """The probabilities of every study whose row has any."""
    owners = [_own_id(submission, row_id, STUDY_SUFFIX) for row_id in submission.ids]
    studies = {}
    for study_id, mine in _by_row(submission, owners, submission.class_ids < len(STUDY)):
        names = [STUDY.names[class_id] for class_id in submission.class_ids[mine]]
        if sorted(names) == sorted(STUDY.names):
            scores = dict(zip(names, submission.scores[mine].tolist(), strict=True))
            studies[study_id] = {name: scores[name] for name in STUDY.names}
        elif names:
            row = submission.ids.index(f"{study_id}{STUDY_SUFFIX}")
            raise submission.error(row, found=" ".join(names), expected=f"each of {', '.join(STUDY.names)} once")
    return studies


def _own_id(submission: Submission, row_id: str, suffix: str) -> str | None:
    """The id without its suffix if it has this one."""
    if not row_id.endswith(suffix):
        return None
    return check_id(row_id.removesuffix(suffix), file=submission.file, field="id")


def _by_row(submission: Submission, owners: list[str | None], chosen: NDArray[np.bool_]):
    """(id, indices of its chosen predictions) of every row that has an id here."""
    order = np.flatnonzero(chosen)
    order = order[np.argsort(submission.rows[order], kind="stable")]
    ends = np.searchsorted(submission.rows[order], np.arange(len(owners) + 1))
    for row, owner in enumerate(owners):
        if owner is not None:
            yield owner, order[ends[row] : ends[row + 1]]


def _boxes(xyxy: NDArray[np.floating], scores: NDArray[np.floating], detector: str) -> Boxes:
    rows = zip(xyxy.tolist(), scores.tolist(), strict=True)
    return tuple(FoundBox(*corners, score=score, detector=detector) for corners, score in rows)
