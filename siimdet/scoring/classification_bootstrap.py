"""Accuracy, macro F1 and macro AUROC of a classifier's resamples; siimdet.scoring.bootstrap says what those are.

Shapes: N rows (images or patients), K classes, S resamples, U units, as in siimdet.scoring.classification.
"""

import numba
import numpy as np
from numpy.typing import ArrayLike, NDArray

from siimdet.core.types import LabelSpace
from siimdet.scoring.bootstrap import ResampledFigures, Resamples, count_left_out, mean_of_known
from siimdet.scoring.score_steps import step_ends


def resampled_classification(
    probabilities: ArrayLike,
    truth: ArrayLike,
    classes: LabelSpace,
    resamples: Resamples,
    *,
    exclusive: bool,
    decisions: ArrayLike | None = None,
    threshold: float = 0.5,
) -> ResampledFigures:
    """accuracy, f1 and auroc of multiclass_score, for `exclusive` classes, or of multilabel_score.

    Shapes: as there. A class counts as left out where it has no positive or no negative, and thus no AUROC.
    """
    values, labels = np.asarray(probabilities, np.float64), np.asarray(truth, np.float64)
    if exclusive:
        labels = np.where(np.isnan(labels).any(1, keepdims=True), np.nan, labels)
        chosen = values.argmax(1) if decisions is None else np.asarray(decisions, np.int64)
        predicted = chosen[:, None] == np.arange(len(classes))
    else:
        predicted = values >= threshold
    accuracy, f1 = _by_counts(predicted, labels, resamples)
    auroc = resampled_auroc(values, labels, resamples)
    figures = {"accuracy": accuracy, "f1": mean_of_known(f1), "auroc": mean_of_known(auroc)}
    return ResampledFigures(figures, count_left_out(auroc, classes))


def resampled_auroc(
    values: NDArray[np.float64], labels: NDArray[np.float64], resamples: Resamples
) -> NDArray[np.float64]:
    """AUROC f64[S, K] of scores f64[N, K], NaN without positives or negatives; labels as the module's truth."""
    ranked = []
    for scores, mine in zip(values.T, labels.T, strict=True):
        known = np.flatnonzero(~np.isnan(mine))
        order = known[np.argsort(scores[known])]
        ranked.append((resamples.unit_of[order], mine[order] == 1, step_ends(scores[order])))
    return np.array([[_weighted_auroc(counts, *columns) for columns in ranked] for counts in resamples])


def _by_counts(
    predicted: NDArray[np.bool_], labels: NDArray[np.float64], resamples: Resamples
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Accuracy f64[S] and F1 f64[S, K], NaN where undefined, from sums over units, which a resample weighs."""
    known, actual = ~np.isnan(labels), labels == 1
    counted = known.any(1)
    right = counted & np.all(np.equal(predicted, actual) | ~known, axis=1)
    rows = np.column_stack([right, counted, predicted & actual, predicted & known, actual]).astype(np.float64)
    units = np.zeros((resamples.units, rows.shape[1]))
    np.add.at(units, resamples.unit_of, rows)
    sums = np.array([counts @ units for counts in resamples])
    hits, named, positives = np.split(sums[:, 2:], 3, axis=1)
    f1 = np.divide(2 * hits, named + positives, out=np.full_like(hits, np.nan), where=positives > 0)
    return np.divide(sums[:, 0], sums[:, 1], out=np.full(len(sums), np.nan), where=sums[:, 1] > 0), f1


@numba.njit
def _weighted_auroc(counts, units, actual, ends):
    """Share of the pairs of a positive and a negative that the positive wins, a tie being half a win.

    Rows come lowest score first; units i64[N] index counts i64[U].
    """
    positives, negatives, wins = 0, 0, 0.0
    positives_here, negatives_here = 0, 0
    for p in range(len(units)):
        drawn = counts[units[p]]
        if actual[p]:
            positives_here += drawn
        else:
            negatives_here += drawn
        if ends[p]:
            wins += positives_here * (negatives + negatives_here / 2)
            positives += positives_here
            negatives += negatives_here
            positives_here, negatives_here = 0, 0
    return wins / positives / negatives if positives > 0 and negatives > 0 else np.nan
