"""How well distances between embeddings tell pairs of one class from pairs of two."""

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.metrics import roc_auc_score

MOST_ROWS = 1000
"""Rows of which all pairs are looked at: their number grows by the square."""


def some_rows(count: int) -> NDArray[np.int64]:
    """All row numbers up to MOST_ROWS, of more the same MOST_ROWS at each call, sorted."""
    if count <= MOST_ROWS:
        return np.arange(count)
    return np.sort(np.random.default_rng(0).choice(count, MOST_ROWS, replace=False))


def pair_auroc(embeddings: ArrayLike, class_ids: NDArray[np.int64]) -> float | None:
    """ROC AUC of telling same-class pairs by their smaller distance, over all unordered pairs of `some_rows`.

    Shapes: embeddings f[N, D], class_ids i64[N]. 1: every same-class pair is closer than every other;
    .5: chance. None if there is no pair of one of the two kinds.
    """
    chosen = some_rows(len(class_ids))
    rows, classes = np.asarray(embeddings, np.float64)[chosen], np.asarray(class_ids)[chosen]
    if len(rows) < 2:
        return None
    # Row by row and by differences: squares of norms less products would tear equal distances apart.
    distances = np.concatenate([np.linalg.norm(rows[i + 1 :] - rows[i], axis=1) for i in range(len(rows) - 1)])
    same = np.concatenate([classes[i + 1 :] == classes[i] for i in range(len(rows) - 1)])
    return None if same.all() or not same.any() else float(roc_auc_score(same, -distances))
