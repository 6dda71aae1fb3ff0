"""`evaluate`: a file of predictions against a data set or the competition's tables."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from siimdet.core.types import Detections, ImageRecord
from siimdet.data.coco import read_detections
from siimdet.data.dataset import Dataset, scored_records
from siimdet.data.manifest import read_dataset
from siimdet.errors import DatasetError, SubmissionError
from siimdet.scoring.box_tables import box_tables
from siimdet.scoring.detection import detector_figures
from siimdet.submission.classes_file import holds_classes
from siimdet.submission.evaluate_classes import check_classes, evaluate_classes
from siimdet.submission.file import read_submission
from siimdet.submission.judged import Judged, JudgedBoxes, dataset_cases
from siimdet.submission.prediction_files import boxes_among
from siimdet.submission.score import judged_submission, score_submission
from siimdet.submission.scored import Scored, resampled
from siimdet.submission.table import check_ids
from siimdet.submission.truth_files import TruthFiles, submission_ids, submission_truth

BOXES, CLASSES, ROWS = "boxes", "classes", "rows"
"""What a file holds: a detector's boxes, a classifier's classes, a submission's rows."""


def evaluate_file(
    file: Path | str, against: TruthFiles, *, only_submitted: bool = False, bootstrap: int | None = None
) -> Scored:
    """The figures of a detector's .json, a classifier's CSV or a submission; with intervals from `bootstrap` resamples.

    Raises: SubmissionError, SourceError or DatasetError, one line each.
    """
    file = Path(file)
    score = {BOXES: evaluate_boxes, CLASSES: evaluate_classes, ROWS: evaluate_submission}[_kind(file, against)]
    scored = score(file, against, only_submitted=only_submitted)
    return scored if bootstrap is None else resampled(scored, bootstrap)


def check_file(file: Path | str, against: TruthFiles, *, only_submitted: bool = False) -> dict[str, Any]:
    """That a file is valid, and how much it holds. Raises: as evaluate_file."""
    file = Path(file)
    check = {BOXES: check_boxes, CLASSES: check_classes, ROWS: check_submission}[_kind(file, against)]
    return {"valid": True, **check(file, against, only_submitted=only_submitted)}


def _kind(file: Path, against: TruthFiles) -> str:
    kind = BOXES if file.suffix == ".json" else CLASSES if holds_classes(file) else ROWS
    if kind != ROWS and against.sample is not None:
        raise SubmissionError(file, "--sample", found=f"a file of {kind}", expected="a submission, whose rows it names")
    if kind != ROWS and against.dataset is None:
        expected = "--dataset, which has the images of the file"
        raise SubmissionError(file, "truth", found="label tables", expected=expected)
    return kind


def evaluate_submission(file: Path, files: TruthFiles, *, only_submitted: bool = False) -> Scored:
    """AP of the six classes, mAP and counts of a submission.

    Boxes must lie inside their images where their sizes are known.
    Raises: SubmissionError, SourceError or DatasetError, one line each.
    """
    found = read_submission(file)
    against = submission_truth(found, files)
    figures = score_submission(found, against.truth, only_submitted=only_submitted).as_dict()
    return Scored(file, figures, judged_submission(found, against))


def check_submission(file: Path, files: TruthFiles, *, only_submitted: bool = False) -> dict[str, int]:
    """Number of rows and predictions. No labels are needed. Raises: as evaluate_submission and sampled_records."""
    found = read_submission(file)
    whose = "truth" if files.sample is None else "sample"
    check_ids(found, submission_ids(found, files), complete=not only_submitted, whose=whose)
    return {"rows": len(found.ids), "predictions": len(found)}


def evaluate_boxes(file: Path, against: TruthFiles, *, only_submitted: bool = False) -> Scored:
    """AP@.5 by class, mAP, COCO's figures, the operating point of the best F1 and counts of a detector's COCO results.

    Boxes of further images are left out, and counted. Raises: DatasetError for a file that does not fit the data set,
    or that holds boxes of further images alone.
    """
    data, records, kept, counts = _read_boxes(file, against)
    unlabelled = next((record for record in records if np.isnan(record.labels).all()), None)
    if unlabelled is not None:
        expected = "images whose boxes are known"
        raise DatasetError(data.root, unlabelled.image_id, found="no labels", expected=expected)
    if only_submitted:
        records = tuple(record for record in records if record.image_id in kept)
    figures = detector_figures(data, records, kept)
    judged = _judged_boxes(data, records, kept)
    scores = {
        **figures["ap"],
        "mAP": figures["ap50"],
        **{key: value for key, value in figures.items() if key.startswith("coco_")},
        **{key: figures[key] for key in ("f1", "precision", "recall", "threshold")},
        "images": len(records),
        "boxes": sum(len(data.boxes[record.image_id]) for record in records),
        **counts,
    }
    return Scored(file, scores, judged)


def check_boxes(file: Path, against: TruthFiles, *, only_submitted: bool = False) -> dict[str, int]:
    """Number of images with boxes, and of boxes; all may lack. Raises: as evaluate_boxes."""
    _, _, kept, counts = _read_boxes(file, against)
    return {"images": len(kept), **counts}


def _read_boxes(
    file: Path, against: TruthFiles
) -> tuple[Dataset, tuple[ImageRecord, ...], dict[str, Detections], dict[str, int]]:
    """The data set, the images that are scored, their boxes, and how many boxes these and the others are."""
    assert against.dataset is not None, "boxes without a data set"
    data = read_dataset(against.dataset)
    found = read_detections(file, data)
    records = scored_records(data, against.split, found)
    kept = boxes_among(file, found, {record.image_id for record in records}, whose="split")
    predictions = sum(map(len, kept.values()))
    left_out = sum(map(len, found.values())) - predictions
    counts = {"predictions": predictions, "predictions_left_out": left_out, "images_left_out": len(found) - len(kept)}
    return data, records, kept, counts


def _judged_boxes(data: Dataset, records: Sequence[ImageRecord], found: Mapping[str, Detections]) -> Judged:
    ids = tuple(record.image_id for record in records)
    truth, predictions = box_tables({image_id: data.boxes[image_id] for image_id in ids}, found)
    return Judged(
        cases=dataset_cases(data, records, original=False),
        owners=tuple(record.patient_id for record in records),
        unit="patient",
        boxes=JudgedBoxes(ids, truth, predictions, data.classes, np.arange(len(ids))),
    )
