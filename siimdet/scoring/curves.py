"""The points of ROC and precision-recall curves of one class, one for each distinct score."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from siimdet.scoring.voc import class_curve


@dataclass(frozen=True, slots=True, eq=False)
class Curve:
    """A curve from left to right, and the area under it; equal scores are one step.

    Shapes, P points: x f64[P] and y f64[P] in [0, 1].
    """

    x: NDArray[np.float64]
    y: NDArray[np.float64]
    area: float


def roc_curve(scores: ArrayLike, truth: ArrayLike) -> Curve | None:
    """True over false positive rate; None without positives or without negatives.

    Shapes: scores f[N] in [0, 1], truth f[N] of 1, 0 or NaN for unknown, which counts nowhere.
    """
    values, actual = _known(scores, truth)
    positives = int(actual.sum())
    negatives = len(actual) - positives
    if not positives or not negatives:
        return None
    curve = class_curve("", values, actual, positives)
    x = np.concatenate([[0.0], (curve.detections - curve.hits) / negatives])
    y = np.concatenate([[0.0], curve.recall])
    return Curve(x, y, float(np.trapezoid(y, x)))


def precision_recall_curve(scores: ArrayLike, truth: ArrayLike) -> Curve | None:
    """Monotone envelope of precision over recall, whose area is the AP; None without positives.

    Shapes: as roc_curve. Two points for each step, so that straight lines between them draw it.
    """
    values, actual = _known(scores, truth)
    positives = int(actual.sum())
    curve = class_curve("", values, actual, positives)
    if curve.ap is None:
        return None
    envelope = np.maximum.accumulate(curve.precision[::-1])[::-1]
    edges = np.concatenate([[0.0], curve.recall])
    return Curve(np.repeat(edges, 2)[1:-1], np.repeat(envelope, 2), curve.ap)


def _known(scores: ArrayLike, truth: ArrayLike) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    values, labels = np.asarray(scores, np.float64), np.asarray(truth, np.float64)
    known = ~np.isnan(labels)
    return values[known], labels[known] == 1
