"""How well distances between embeddings tell pairs of one class from pairs of two."""

import numpy as np
from numpy.typing import ArrayLike
from sklearn.metrics import roc_auc_score


def pair_auroc(embeddings: ArrayLike, class_ids: ArrayLike) -> float | None:
    """ROC AUC of telling same-class pairs by their smaller distance, over all unordered pairs of rows.

    Shapes: embeddings f[N, D], class_ids i64[N]. 1: every same-class pair is closer than every other;
    .5: chance. None if there is no pair of one of the two kinds.
    """
    rows, classes = np.asarray(embeddings, np.float64), np.asarray(class_ids)
    if len(rows) < 2:
        return None
    # Row by row and by differences: squares of norms less products would tear equal distances apart.
    distances = np.concatenate([np.linalg.norm(rows[i + 1 :] - rows[i], axis=1) for i in range(len(rows) - 1)])
    same = np.concatenate([classes[i + 1 :] == classes[i] for i in range(len(rows) - 1)])
    return None if same.all() or not same.any() else float(roc_auc_score(same, -distances))
