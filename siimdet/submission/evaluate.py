"""`evaluate`: a file of predictions against a data set or the competition's tables."""

from pathlib import Path
from typing import Any

import numpy as np

from siimdet.core.types import Split
from siimdet.data.coco import read_detections
from siimdet.data.dataset import filled_split
from siimdet.data.manifest import read_dataset
from siimdet.errors import DatasetError
from siimdet.scoring.detection import detector_figures
from siimdet.submission.file import read_submission
from siimdet.submission.score import score_submission
from siimdet.submission.submit import dataset_truth
from siimdet.submission.table import check_ids, check_inside
from siimdet.submission.truth import read_truth


def evaluate_submission(
    file: Path,
    dataset: Path | None,
    split: Split | None,
    tables: tuple[Path, Path] | None,
    *,
    only_submitted: bool,
    check_only: bool,
) -> dict[str, Any]:
    """AP of the six classes, mAP and counts of a submission; with `check_only`, that it is valid.

    Truth is a data set's split, or the `tables` (image level, study level) of the competition. With a data set
    boxes must lie inside their images. Raises: SubmissionError, SourceError or DatasetError, one line each.
    """
    found = read_submission(file)
    if tables is None:
        assert dataset is not None, "neither a data set nor tables"
        data = read_dataset(dataset)
        records = filled_split(data, split)
        truth = dataset_truth(data, records)
        check_inside(found, {record.image_id: record.original for record in records})
    else:
        truth = read_truth(*tables)
    if not check_only:
        return score_submission(found, truth, only_submitted=only_submitted).as_dict()
    check_ids(found, truth.ids, complete=not only_submitted)
    return {"valid": True, "rows": len(found.ids), "predictions": len(found)}


def evaluate_boxes(
    file: Path, dataset: Path, split: Split | None, *, only_submitted: bool, check_only: bool
) -> dict[str, Any]:
    """AP@.5 by class, mAP, COCO's figures, the operating point of the best F1 and counts of a detector's COCO results.

    Raises: DatasetError for a file that does not fit the data set.
    """
    data = read_dataset(dataset)
    found = read_detections(file, data)
    if check_only:
        return {"valid": True, "images": len(found), "predictions": sum(len(boxes) for boxes in found.values())}
    records = filled_split(data, split)
    unlabelled = next((record for record in records if np.isnan(record.labels).all()), None)
    if unlabelled is not None:
        raise DatasetError(dataset, unlabelled.image_id, found="no labels", expected="images whose boxes are known")
    if only_submitted:
        records = tuple(record for record in records if record.image_id in found)
    scored = {record.image_id for record in records}
    kept = {image_id: boxes for image_id, boxes in found.items() if image_id in scored}
    figures = detector_figures(data, records, kept)
    return {
        **figures["ap"],
        "mAP": figures["ap50"],
        **{key: value for key, value in figures.items() if key.startswith("coco_")},
        **{key: figures[key] for key in ("f1", "precision", "recall", "threshold")},
        "images": len(records),
        "boxes": sum(len(data.boxes[image_id]) for image_id in scored),
        "predictions": sum(len(boxes) for boxes in kept.values()),
    }
