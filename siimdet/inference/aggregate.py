"""From images to studies, and from slices to patients.

Shapes: N images, M studies or patients, K classes of which exactly one holds.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from siimdet.core.types import ImageRecord, LabelSpace, Probabilities
from siimdet.errors import ConfigError, DatasetError

Rule = Literal["mean", "max", "opacity"]
PatientRule = Literal["counts", "mean", "max_k"]


def study_probabilities(
    images: Probabilities, records: Sequence[ImageRecord], rule: Rule, *, opacity: Probabilities | None = None
) -> Probabilities:
    """Probabilities per study, scaled to sum 1: the mean or maximum over its images, or those of one image.

    Shapes: images f32[N, K] keyed by image id, to f32[M, K] keyed by study id, sorted. opacity f32[N, 1], keyed as
    `images`, is the probability that an image has a box; the rule `opacity` takes the image where it is highest,
    the first on ties: in SIIM one image of a study has all its boxes, and the others read none.
    Raises: ConfigError for that rule without `opacity`.
    """
    study_of = {record.image_id: record.study_id for record in records}
    rows = _grouped(study_of[image_id] for image_id in images.keys)
    if rule == "opacity":
        if opacity is None:
            found = "opacity, of a model that does not tell it"
            raise ConfigError("coupling", "study_from_images", found=found, expected="mean, max, or such a model")
        assert opacity.keys == images.keys, "opacity of other images"
        best = [mine[opacity.values[mine, 0].argmax()] for mine in rows.values()]
        values = images.values[best]
    else:
        combine = np.mean if rule == "mean" else np.max
        values = np.array([combine(images.values[mine], axis=0) for mine in rows.values()])
    values = values.reshape(-1, len(images.space))
    total = values.sum(axis=1, keepdims=True)
    return Probabilities(
        tuple(rows), np.divide(values, total, out=np.zeros_like(values), where=total > 0), images.space
    )


def slice_counts(
    slices: Probabilities, records: Sequence[ImageRecord], *, slice_threshold: float = 0.5
) -> tuple[tuple[str, ...], NDArray[np.int64]]:
    """Patients, sorted, and how many of each one's slices count for each class.

    Shapes: slices f32[N, K] keyed by image id, to i64[M, K]; a row sums to the patient's number of slices.
    A slice counts for its most probable class, the first on ties. Of two classes it counts for the last one, the
    positive one, where that one's probability is >= slice_threshold, and for the first elsewhere.
    Raises: ConfigError for a slice_threshold other than .5 with more classes; DatasetError for a single one.
    """
    count = len(slices.space)
    if count < 2:
        raise DatasetError("patients", "classes", found=f"{count} of {slices.space.name}", expected="two or more")
    if count == 2:
        chosen = (slices.values[:, 1].astype(np.float64) >= slice_threshold).astype(np.int64)
    elif slice_threshold != 0.5:
        expected = f"0.5: of {count} classes a slice counts for the most probable one"
        raise ConfigError("config", "patients.slice_threshold", found=slice_threshold, expected=expected)
    else:
        chosen = slices.values.argmax(axis=1)
    rows = _slices_of_patients(slices, records)
    counts = [np.bincount(chosen[mine], minlength=count) for mine in rows.values()]
    return tuple(rows), np.array(counts, np.int64).reshape(-1, count)


def patient_scores(
    slices: Probabilities,
    records: Sequence[ImageRecord],
    *,
    rule: PatientRule,
    slice_threshold: float = 0.5,
    k: int = 10,
) -> Probabilities:
    """A score in [0, 1] per patient and class, from the patient's slices.

    Shapes: slices f32[N, K] keyed by image id, to f32[M, K] keyed by patient id, sorted.
    counts: the share of slices that count for the class, see slice_counts; mean: the mean probability;
    max_k: the mean of the k highest probabilities of the class, of all where there are fewer.
    Raises: as slice_counts.
    """
    patients, counts = slice_counts(slices, records, slice_threshold=slice_threshold)
    if rule == "counts":
        return Probabilities(patients, counts / counts.sum(axis=1, keepdims=True), slices.space)
    values = slices.values.astype(np.float64)
    rows = _slices_of_patients(slices, records).values()
    taken = [values[mine] if rule == "mean" else np.sort(values[mine], axis=0)[-k:] for mine in rows]
    means = np.array([part.mean(axis=0) for part in taken], np.float32)
    return Probabilities(patients, means, slices.space)


def patient_truth(records: Sequence[ImageRecord]) -> dict[str, NDArray[np.float32]]:
    """Labels of every patient, f32[K] each, sorted by patient id. Raises: DatasetError if two images differ."""
    first: dict[str, ImageRecord] = {}
    for record in records:
        other = first.setdefault(record.patient_id, record)
        if not np.array_equal(other.labels, record.labels, equal_nan=True):
            found = f"labels {other.labels.tolist()} of {other.image_id}, {record.labels.tolist()} of {record.image_id}"
            raise DatasetError("manifest.csv", f"patient {record.patient_id}", found=found, expected="the same on all")
    return {patient: first[patient].labels for patient in sorted(first)}


def choose_threshold(scores: ArrayLike, truth: ArrayLike) -> float | None:
    """The threshold of the best balanced accuracy (Youden) where `score >= threshold` is positive.

    Shapes: scores f[M] in [0, 1], truth bool[M]. Thresholds lie in the middle between neighbouring scores, 0 and 1
    among them; of equally good ones the middle of the widest gap is taken, then the lowest. None unless there are
    positives and negatives.
    Source: Youden, Cancer 3 (1950), 32-35.
    """
    values, positive = np.asarray(scores, np.float64), np.asarray(truth, bool)
    if positive.all() or not positive.any():
        return None
    edges = np.concatenate([[0.0], np.unique(values), [1.0]])
    cuts = (edges[1:] + edges[:-1]) / 2
    found, refused = np.sort(values[positive]), np.sort(values[~positive])
    recall = 1 - np.searchsorted(found, cuts) / len(found)
    specificity = np.searchsorted(refused, cuts) / len(refused)
    # Rounded, so that sums that differ in the last digit alone count as equal.
    balanced = np.round((recall + specificity) / 2, 12)
    widths = np.where(balanced == balanced.max(), np.diff(edges), -1.0)
    return float(cuts[widths.argmax()])


def decide(scores: Probabilities, threshold: float | None = None) -> NDArray[np.int64]:
    """Class ids i64[M]: of two classes with a threshold the last one where its score is >= it, else the highest."""
    if threshold is not None and len(scores.space) == 2:
        return (scores.values[:, 1].astype(np.float64) >= threshold).astype(np.int64)
    return scores.values.argmax(axis=1)


def patient_table(
    slices: Probabilities,
    records: Sequence[ImageRecord],
    *,
    rule: PatientRule,
    slice_threshold: float = 0.5,
    k: int = 10,
    threshold: float | None = None,
) -> tuple[tuple[str, ...], list[tuple[object, ...]]]:
    """Header and rows of a patients' CSV: patient_id, slices, CLASS_slices ..., CLASS (score) ..., decision.

    `slices / CLASS_slices` is how a reader counts, such as 63 of 166. Raises: as slice_counts.
    """
    patients, counts = slice_counts(slices, records, slice_threshold=slice_threshold)
    scores = patient_scores(slices, records, rule=rule, slice_threshold=slice_threshold, k=k)
    names = slices.space.names
    rows = zip(patients, counts.tolist(), scores.values.tolist(), decide(scores, threshold), strict=True)
    return patient_header(slices.space), [
        (patient, sum(mine), *mine, *values, names[chosen]) for patient, mine, values, chosen in rows
    ]


def patient_header(space: LabelSpace) -> tuple[str, ...]:
    """The columns of a patients' CSV."""
    return ("patient_id", "slices", *(f"{name}_slices" for name in space.names), *space.names, "decision")


def _slices_of_patients(slices: Probabilities, records: Sequence[ImageRecord]) -> Mapping[str, NDArray[np.int64]]:
    patient_of = {record.image_id: record.patient_id for record in records}
    return _grouped(patient_of[image_id] for image_id in slices.keys)


def _grouped(owners: Iterable[str]) -> Mapping[str, NDArray[np.int64]]:
    """Row numbers of every owner, sorted by owner."""
    rows: dict[str, list[int]] = {}
    for number, owner in enumerate(owners):
        rows.setdefault(owner, []).append(number)
    return {owner: np.array(rows[owner], np.int64) for owner in sorted(rows)}
