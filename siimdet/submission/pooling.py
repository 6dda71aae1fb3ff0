"""Held-out rows of several couplings as one submission.

A coupling fixes confidences up to a rising function only, and each fold's has a scale of its own: pooled as they are,
rows of one fold would rank above those of another for no reason of theirs. So confidences are brought to the scale of
the default coupling: on the rows that a coupling was fitted on, its n-th highest confidence becomes the default's n-th
highest, class by class, off by a billionth at most. The order within a fold stays, and the held-out rows have no say.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from siimdet.submission.table import CLASSES, Submission

_TIE = 1e-9
"""Share of a rescaled confidence that is its place: it keeps distinct ones apart where the default's are equal."""


def pooled_rows(default: Submission, of_folds: Sequence[Submission], fold_of: NDArray[np.int64]) -> Submission:
    """Of each fold the rows that its submission was not fitted on, fold by fold.

    Shapes: fold_of i64[R] in 0, 1 ... F - 1 for F submissions of the same R rows, those of the default.
    """
    parts = [_rescaled(one, default, fold_of != fold, fold_of == fold) for fold, one in enumerate(of_folds)]
    starts = np.cumsum([0, *(len(part.ids) for part in parts)])[:-1]
    return Submission(
        default.file,
        tuple(key for part in parts for key in part.ids),
        np.concatenate([part.rows + start for part, start in zip(parts, starts, strict=True)]),
        np.concatenate([part.class_ids for part in parts]),
        np.concatenate([part.scores for part in parts]),
        np.concatenate([part.xyxy for part in parts]),
    )


def matched(scores: NDArray[np.float64], own: NDArray[np.float64], wanted: NDArray[np.float64]) -> NDArray[np.float64]:
    """Scores f64[N] in [0, 1] under the rising function that takes the n-th highest of `own` to that of `wanted`.

    Straight between those, and from 0 to 0 and from 1 to 1 at the ends; equal ones of `own` go to their mean. Equal
    ones of `wanted` are spread by 1e-9 at most, so that distinct scores stay distinct.
    """
    count = min(len(own), len(wanted))
    places = np.arange(1, count + 1) / (count + 1)
    wanted = (1 - _TIE) * np.sort(wanted)[len(wanted) - count :] + _TIE * places
    x, group = np.unique(np.sort(own)[len(own) - count :], return_inverse=True)
    y = np.bincount(group, wanted) / np.bincount(group)
    inside = (x > 0) & (x < 1)
    return np.interp(scores, [0.0, *x[inside], 1.0], [0.0, *y[inside], 1.0])


def _rescaled(
    one: Submission, default: Submission, fitted: NDArray[np.bool_], held_out: NDArray[np.bool_]
) -> Submission:
    """The held-out rows of a submission, on the default's scale."""
    mine = held_out[one.rows]
    scores = one.scores.copy()
    for class_id in range(len(CLASSES)):
        of_class = one.class_ids == class_id
        own = one.scores[of_class & fitted[one.rows]]
        wanted = default.scores[(default.class_ids == class_id) & fitted[default.rows]]
        if not np.array_equal(own, wanted):
            scores[of_class & mine] = matched(scores[of_class & mine], own, wanted)
    number = np.cumsum(held_out) - 1
    ids = tuple(key for key, kept in zip(one.ids, held_out.tolist(), strict=True) if kept)
    return Submission(one.file, ids, number[one.rows[mine]], one.class_ids[mine], scores[mine], one.xyxy[mine])
