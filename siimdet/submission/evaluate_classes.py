"""`evaluate` of a classifier's CSV, and how labels decide what is scored: one class each, or any number."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from siimdet.core.types import ImageRecord, LabelSpace, Split
from siimdet.data.dataset import Dataset, filled_split
from siimdet.data.manifest import read_dataset
from siimdet.errors import DatasetError
from siimdet.inference.aggregate import patient_truth
from siimdet.scoring.classification import ClassificationScore, log_loss, multiclass_score, multilabel_score
from siimdet.scoring.curves import precision_recall_curve, roc_curve
from siimdet.submission.classes_file import PATIENT, ClassesFile, check_keys, read_classes


def evaluate_classes(
    file: Path, dataset: Path, split: Split | None, *, only_submitted: bool, check_only: bool
) -> dict[str, Any]:
    """The figures of ClassificationScore.as_dict, the log loss and counts of a classifier's CSV.

    Rows are images or patients, as the file's header says; patients are scored by the file's decisions and have no
    log loss, for their scores are shares. An `opacity` column is scored against the boxes.
    Raises: SubmissionError for a file that does not fit the split; DatasetError for a split without labels.
    """
    data = read_dataset(dataset)
    if not len(data.labels):
        raise DatasetError(dataset, "labels", found="no classes", expected="those of the file")
    found = read_classes(file, data.labels)
    records = filled_split(data, split)
    if split is None and set(found.probabilities.keys) == {r.image_id for r in data.records if r.fold is not None}:
        records = tuple(record for record in data.records if record.fold is not None)  # out-of-fold predictions
    labels = _labels(records, found)
    check_keys(file, found, labels, complete=not only_submitted)
    if check_only:
        return {"valid": True, "rows": len(found.probabilities.keys)}
    keys = found.probabilities.keys
    truth = np.array([labels[key] for key in keys]).reshape(-1, len(data.labels))
    check_known(data, truth)
    exclusive = holds_one_each(data.records)
    score = score_classes(
        found.probabilities.values, truth, data.labels, exclusive=exclusive, decisions=found.decisions
    )
    figures = score.as_dict()
    if found.decisions is None:
        figures["log_loss"] = log_loss(found.probabilities.values, truth, exclusive=exclusive)
    if found.opacity is not None:
        figures["opacity"] = _opacity(data, keys, found.opacity)
    rows = "patients" if found.by == PATIENT else "images"
    known = int((~np.isnan(truth)).any(1).sum())
    return {**figures, rows: len(keys), "unlabelled": len(keys) - known, "ids_left_out": len(labels) - len(keys)}


def holds_one_each(records: Sequence[ImageRecord]) -> bool:
    """Whether the classes exclude each other: two or more, and one holds wherever all are known."""
    labels = np.array([record.labels for record in records])
    known = ~np.isnan(labels).any(1)
    return labels.shape[1] > 1 and bool(known.any()) and bool((labels[known].sum(1) == 1).all())


def score_classes(
    probabilities: ArrayLike,
    truth: NDArray[np.floating],
    space: LabelSpace,
    *,
    exclusive: bool,
    decisions: ArrayLike | None = None,
) -> ClassificationScore:
    """multiclass_score of classes that exclude each other, else multilabel_score; shapes as there."""
    if exclusive:
        return multiclass_score(probabilities, truth, space, decisions=decisions)
    return multilabel_score(probabilities, truth, space)


def check_known(dataset: Dataset, truth: NDArray[np.floating]) -> None:
    """Raise DatasetError if no label is known."""
    if np.isnan(truth).all():
        found = f"none known on {len(truth)} rows"
        raise DatasetError(dataset.root, "labels", found=found, expected="rows whose classes are known")


def _labels(records: Sequence[ImageRecord], found: ClassesFile) -> Mapping[str, NDArray[np.float32]]:
    if found.by == PATIENT:
        return patient_truth(records)
    return {record.image_id: record.labels for record in records}


def _opacity(data: Dataset, keys: Sequence[str], values: NDArray[np.float64]) -> dict[str, Any]:
    """How well the images with boxes are told; None where all or none have some."""
    boxed = np.array([len(data.boxes[key]) > 0 for key in keys], np.float64)
    roc, pr = roc_curve(values, boxed), precision_recall_curve(values, boxed)
    return {
        "positives": int(boxed.sum()),
        "auroc": None if roc is None else roc.area,
        "ap": None if pr is None else pr.area,
    }
