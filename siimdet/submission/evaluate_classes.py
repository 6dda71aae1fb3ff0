"""`evaluate` of a classifier's CSV, and how labels decide what is scored: one class each, or any number."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from siimdet.core.types import ImageRecord, LabelSpace, Split
from siimdet.data.dataset import Dataset, scored_records
from siimdet.data.manifest import read_dataset
from siimdet.errors import DatasetError
from siimdet.inference.aggregate import patient_truth
from siimdet.scoring.classification import ClassificationScore, log_loss, multiclass_score, multilabel_score
from siimdet.scoring.classification_bootstrap import resampled_classification
from siimdet.scoring.curves import precision_recall_curve, roc_curve
from siimdet.submission.classes_file import IMAGE, PATIENT, ClassesFile, check_keys, read_classes
from siimdet.submission.scored import Drawn, Scored
from siimdet.submission.units import draw


def evaluate_classes(
    file: Path,
    dataset: Path,
    split: Split | None,
    *,
    only_submitted: bool,
    check_only: bool,
    bootstrap: int | None = None,
) -> Scored:
    """The figures of ClassificationScore.as_dict, the log loss and counts of a classifier's CSV.

    Rows are images or patients, as the file's header says; patients are scored by the file's decisions and have no
    log loss, for their scores are shares. An `opacity` column is scored against the boxes. `bootstrap` resamples of
    patients add `intervals` of accuracy, f1 and auroc, and what they are of.
    Raises: SubmissionError for a file that does not fit the split; DatasetError for a split without labels.
    """
    data = read_dataset(dataset)
    if not len(data.labels):
        raise DatasetError(dataset, "labels", found="no classes", expected="those of the file")
    found = read_classes(file, data.labels)
    records = scored_records(data, split, found.probabilities.keys if found.by == IMAGE else ())
    labels = _labels(records, found)
    check_keys(file, found, labels, complete=not only_submitted)
    if check_only:
        return Scored({"valid": True, "rows": len(found.probabilities.keys)}, found.probabilities.keys)
    truth = np.array([labels[key] for key in found.probabilities.keys]).reshape(-1, len(data.labels))
    check_known(data, truth)
    exclusive = holds_one_each(data.records)
    figures = _figures(data, found, truth, exclusive=exclusive) | {"ids_left_out": len(labels) - len(truth)}
    if bootstrap is None:
        return Scored(figures, found.probabilities.keys)
    drawn = _drawn(file, found, truth, records, exclusive=exclusive, samples=bootstrap)
    return Scored(figures, found.probabilities.keys, drawn)


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


def _figures(data: Dataset, found: ClassesFile, truth: NDArray[np.floating], *, exclusive: bool) -> dict[str, Any]:
    rows = found.probabilities
    score = score_classes(rows.values, truth, data.labels, exclusive=exclusive, decisions=found.decisions)
    figures = score.as_dict()
    if found.decisions is None:
        figures["log_loss"] = log_loss(rows.values, truth, exclusive=exclusive)
    if found.opacity is not None:
        figures["opacity"] = _opacity(data, rows.keys, found.opacity)
    known = int((~np.isnan(truth)).any(1).sum())
    counts = {"patients" if found.by == PATIENT else "images": len(truth), "unlabelled": len(truth) - known}
    return figures | counts


def _drawn(
    file: Path,
    found: ClassesFile,
    truth: NDArray[np.floating],
    records: Sequence[ImageRecord],
    *,
    exclusive: bool,
    samples: int,
) -> Drawn:
    rows = found.probabilities
    patient_of = {record.image_id: record.patient_id for record in records}
    if found.by == PATIENT:
        patient_of = {patient: patient for patient in rows.keys}
    resamples = draw(file, rows.keys, patient_of, unit="patient", samples=samples)
    figures = resampled_classification(
        rows.values, truth, rows.space, resamples, exclusive=exclusive, decisions=found.decisions
    )
    return Drawn(figures, resamples, "patient")


def _opacity(data: Dataset, keys: Sequence[str], values: NDArray[np.float64]) -> dict[str, Any]:
    """How well the images with boxes are told; None where all or none have some."""
    boxed = np.array([len(data.boxes[key]) > 0 for key in keys], np.float64)
    roc, pr = roc_curve(values, boxed), precision_recall_curve(values, boxed)
    return {
        "positives": int(boxed.sum()),
        "auroc": None if roc is None else roc.area,
        "ap": None if pr is None else pr.area,
    }
