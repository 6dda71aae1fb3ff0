"""`evaluate` of a classifier's CSV, and how labels decide what is scored: one class each, or any number."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from siimdet.core.types import ImageRecord, LabelSpace
from siimdet.data.dataset import Dataset, scored_records
from siimdet.data.manifest import read_dataset
from siimdet.errors import DatasetError
from siimdet.inference.aggregate import patient_truth
from siimdet.scoring.classification import ClassificationScore, log_loss, multiclass_score, multilabel_score
from siimdet.scoring.curves import precision_recall_curve, roc_curve
from siimdet.submission.classes_file import IMAGE, PATIENT, ClassesFile, check_keys, read_classes
from siimdet.submission.judged import Judged, JudgedClasses, dataset_cases
from siimdet.submission.scored import Scored
from siimdet.submission.truth_files import TruthFiles


def evaluate_classes(file: Path, against: TruthFiles, *, only_submitted: bool = False) -> Scored:
    """The figures of ClassificationScore.as_dict, the log loss and counts of a classifier's CSV.

    Rows are images or patients, as the file's header says; patients are scored by the file's decisions and have no
    log loss, for their scores are shares. An `opacity` column is scored against the boxes.
    Raises: SubmissionError for a file that does not fit the split; DatasetError for a split without labels.
    """
    data, found, records, labels = _read(file, against, only_submitted=only_submitted)
    truth = np.array([labels[key] for key in found.probabilities.keys]).reshape(-1, len(data.labels))
    check_known(data, truth)
    classes, cases = _judged(data, records, found, truth), dataset_cases(data, records, original=False)
    figures = _figures(data, found, classes) | {"ids_left_out": len(labels) - len(truth)}
    owners = tuple(str(cases[case].patient_id) for case in classes.case_of.tolist())
    return Scored(file, figures, Judged(cases, owners, "patient", classes=classes))


def check_classes(file: Path, against: TruthFiles, *, only_submitted: bool = False) -> dict[str, int]:
    """Number of rows. Raises: as evaluate_classes."""
    _, found, _, _ = _read(file, against, only_submitted=only_submitted)
    return {"rows": len(found.probabilities.keys)}


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


def _read(
    file: Path, against: TruthFiles, *, only_submitted: bool
) -> tuple[Dataset, ClassesFile, tuple[ImageRecord, ...], Mapping[str, NDArray[np.float32]]]:
    """The data set, the file, the images that it is scored on, and the labels by id of its rows."""
    assert against.dataset is not None, "classes without a data set"
    data = read_dataset(against.dataset)
    if not len(data.labels):
        raise DatasetError(data.root, "labels", found="no classes", expected="those of the file")
    found = read_classes(file, data.labels)
    records = scored_records(data, against.split, found.probabilities.keys if found.by == IMAGE else ())
    labels = _labels(records, found)
    check_keys(file, found, labels, complete=not only_submitted)
    return data, found, records, labels


def _labels(records: Sequence[ImageRecord], found: ClassesFile) -> Mapping[str, NDArray[np.float32]]:
    if found.by == PATIENT:
        return patient_truth(records)
    return {record.image_id: record.labels for record in records}


def _judged(
    data: Dataset, records: Sequence[ImageRecord], found: ClassesFile, truth: NDArray[np.floating]
) -> JudgedClasses:
    owners = [record.patient_id if found.by == PATIENT else record.image_id for record in records]
    first: dict[str, int] = {}
    for number, owner in enumerate(owners):
        first.setdefault(owner, number)
    rows = found.probabilities
    return JudgedClasses(
        ids=rows.keys,
        unit="patient" if found.by == PATIENT else "image",
        probabilities=rows.values.astype(np.float64),
        truth=truth.astype(np.float64),
        classes=data.labels,
        case_of=np.array([first[key] for key in rows.keys], np.int64),
        exclusive=holds_one_each(data.records),
        decisions=found.decisions,
    )


def _figures(data: Dataset, found: ClassesFile, judged: JudgedClasses) -> dict[str, Any]:
    rows, truth = found.probabilities, judged.truth
    score = score_classes(rows.values, truth, data.labels, exclusive=judged.exclusive, decisions=found.decisions)
    figures = score.as_dict()
    if found.decisions is None:
        figures["log_loss"] = log_loss(rows.values, truth, exclusive=judged.exclusive)
    if found.opacity is not None:
        figures["opacity"] = _opacity(data, rows.keys, found.opacity)
    known = int((~np.isnan(truth)).any(1).sum())
    counts = {"patients" if found.by == PATIENT else "images": len(truth), "unlabelled": len(truth) - known}
    return figures | counts


def _opacity(data: Dataset, keys: Sequence[str], values: NDArray[np.float64]) -> dict[str, Any]:
    """How well the images with boxes are told; None where all or none have some."""
    boxed = np.array([len(data.boxes[key]) > 0 for key in keys], np.float64)
    roc, pr = roc_curve(values, boxed), precision_recall_curve(values, boxed)
    return {
        "positives": int(boxed.sum()),
        "auroc": None if roc is None else roc.area,
        "ap": None if pr is None else pr.area,
    }
