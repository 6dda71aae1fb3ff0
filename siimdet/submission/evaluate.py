"""`evaluate`: a file of predictions against a data set or the competition's tables."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from siimdet.core.types import Detections, ImageRecord, Split
from siimdet.data.coco import read_detections
from siimdet.data.dataset import Dataset, scored_records
from siimdet.data.manifest import read_dataset
from siimdet.errors import DatasetError, SubmissionError
from siimdet.scoring.bootstrap import resampled_ap
from siimdet.scoring.box_tables import box_tables
from siimdet.scoring.detection import detector_figures
from siimdet.submission.classes_file import holds_classes
from siimdet.submission.evaluate_classes import evaluate_classes
from siimdet.submission.file import read_submission
from siimdet.submission.score import resampled_score, score_submission
from siimdet.submission.scored import Drawn, Scored
from siimdet.submission.table import IMAGE_SUFFIX, check_ids, check_inside
from siimdet.submission.truth import dataset_truth, read_truth
from siimdet.submission.units import draw, patients_of_rows


def evaluate_file(
    file: Path,
    dataset: Path | None,
    split: Split | None,
    tables: tuple[Path, Path] | None,
    *,
    only_submitted: bool,
    check_only: bool,
    bootstrap: int | None = None,
) -> Scored:
    """The figures of a detector's .json, a classifier's CSV or a submission, against a data set or the `tables`.

    Raises: SubmissionError, SourceError or DatasetError, one line each.
    """
    boxes = file.suffix == ".json"
    if not boxes and not holds_classes(file):
        return evaluate_submission(
            file, dataset, split, tables, only_submitted=only_submitted, check_only=check_only, bootstrap=bootstrap
        )
    if dataset is None:
        expected = "--dataset, which has the images of the file"
        raise SubmissionError(file, "truth", found="label tables", expected=expected)
    score = evaluate_boxes if boxes else evaluate_classes
    return score(file, dataset, split, only_submitted=only_submitted, check_only=check_only, bootstrap=bootstrap)


def evaluate_submission(
    file: Path,
    dataset: Path | None,
    split: Split | None,
    tables: tuple[Path, Path] | None,
    *,
    only_submitted: bool,
    check_only: bool,
    bootstrap: int | None = None,
) -> Scored:
    """AP of the six classes, mAP and counts of a submission; with `check_only`, that it is valid.

    Truth is a data set's split, or the `tables` (image level, study level) of the competition. With a data set
    boxes must lie inside their images. `bootstrap` resamples, of a data set's patients or the tables' studies, add
    `intervals` and what they are of. Raises: SubmissionError, SourceError or DatasetError, one line each.
    """
    found = read_submission(file)
    if tables is None:
        assert dataset is not None, "neither a data set nor tables"
        data = read_dataset(dataset)
        images = {row.removesuffix(IMAGE_SUFFIX) for row in found.ids if row.endswith(IMAGE_SUFFIX)}
        records = scored_records(data, split, images)
        truth = dataset_truth(data, records)
        check_inside(found, {record.image_id: record.original for record in records})
        unit, owners = "patient", patients_of_rows(records)
    else:
        truth = read_truth(*tables)
        unit, owners = "study", truth.studies_of_rows()
    if check_only:
        check_ids(found, truth.ids, complete=not only_submitted)
        return Scored({"valid": True, "rows": len(found.ids), "predictions": len(found)}, found.ids)
    figures = score_submission(found, truth, only_submitted=only_submitted).as_dict()
    if bootstrap is None:
        return Scored(figures, found.ids)
    resamples = draw(file, found.ids, owners, unit=unit, samples=bootstrap)
    return Scored(figures, found.ids, Drawn(resampled_score(found, truth, resamples), resamples, unit))


def evaluate_boxes(
    file: Path,
    dataset: Path,
    split: Split | None,
    *,
    only_submitted: bool,
    check_only: bool,
    bootstrap: int | None = None,
) -> Scored:
    """AP@.5 by class, mAP, COCO's figures, the operating point of the best F1 and counts of a detector's COCO results.

    `bootstrap` resamples of patients add `intervals` of AP and mAP, and what they are of.
    Raises: DatasetError for a file that does not fit the data set.
    """
    data = read_dataset(dataset)
    found = read_detections(file, data)
    if check_only:
        counts = {"images": len(found), "predictions": sum(len(boxes) for boxes in found.values())}
        return Scored({"valid": True, **counts}, found)
    records = scored_records(data, split, found)
    unlabelled = next((record for record in records if np.isnan(record.labels).all()), None)
    if unlabelled is not None:
        raise DatasetError(dataset, unlabelled.image_id, found="no labels", expected="images whose boxes are known")
    if only_submitted:
        records = tuple(record for record in records if record.image_id in found)
    scored = {record.image_id for record in records}
    kept = {image_id: boxes for image_id, boxes in found.items() if image_id in scored}
    figures = detector_figures(data, records, kept)
    scores = {
        **figures["ap"],
        "mAP": figures["ap50"],
        **{key: value for key, value in figures.items() if key.startswith("coco_")},
        **{key: figures[key] for key in ("f1", "precision", "recall", "threshold")},
        "images": len(records),
        "boxes": sum(len(data.boxes[image_id]) for image_id in scored),
        "predictions": sum(len(boxes) for boxes in kept.values()),
    }
    return Scored(scores, scored, None if bootstrap is None else _drawn_boxes(file, data, records, kept, bootstrap))


def _drawn_boxes(
    file: Path, data: Dataset, records: Sequence[ImageRecord], found: Mapping[str, Detections], samples: int
) -> Drawn:
    patient_of = {record.image_id: record.patient_id for record in records}
    resamples = draw(file, list(patient_of), patient_of, unit="patient", samples=samples)
    columns = box_tables({image_id: data.boxes[image_id] for image_id in patient_of}, found)
    return Drawn(resampled_ap(*columns, data.classes, resamples), resamples, "patient")
