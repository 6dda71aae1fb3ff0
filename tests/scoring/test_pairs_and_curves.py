"""Pairs of embeddings told by distance, and the points of ROC and precision-recall curves."""

import numpy as np
import pytest
from sklearn import metrics

from siimdet.scoring.curves import precision_recall_curve, roc_curve
from siimdet.scoring.pairs import pair_auroc


@pytest.mark.parametrize(
    ("places", "class_ids", "expected"),
    [
        ([0, 1, 10, 11], [0, 0, 1, 1], 1.0),
        ([0, 10, 1, 11], [0, 0, 1, 1], 0.25),  # same: 10, 10; other: 1, 11, 9, 1
        ([0, 0, 0], [0, 0, 1], 0.5),
        ([0, 1, 3], [0, 1, 0], 0.0),
        ([0, 1], [0, 0], None),
        ([0, 1, 2], [0, 1, 2], None),
        ([0], [0], None),
    ],
)
def test_pairs_by_hand(places, class_ids, expected):
    assert pair_auroc([[place, 0.0] for place in places], class_ids) == expected


def test_pairs_equal_all_pairs_one_by_one():
    rng = np.random.default_rng(1)
    rows = rng.normal(size=(30, 8))
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    class_ids = rng.integers(0, 3, 30)
    pairs = [(i, j) for i in range(30) for j in range(i)]
    same = [class_ids[i] == class_ids[j] for i, j in pairs]
    distances = [((rows[i] - rows[j]) ** 2).sum() for i, j in pairs]
    expected = metrics.roc_auc_score(same, [-distance for distance in distances])
    assert pair_auroc(rows.astype(np.float32), class_ids) == pytest.approx(expected, abs=1e-6)


def test_roc_by_hand_with_a_tie_and_an_unknown():
    curve = roc_curve([0.9, 0.5, 0.5, 0.1, 0.7], [1, 1, 0, 0, np.nan])
    assert curve is not None
    assert curve.x.tolist() == [0, 0, 0.5, 1]
    assert curve.y.tolist() == [0, 0.5, 1, 1]
    assert curve.area == 0.875


def test_precision_recall_steps_by_hand():
    curve = precision_recall_curve([0.9, 0.8, 0.7], [1, 0, 1])
    assert curve is not None
    assert curve.x.tolist() == [0, 0.5, 0.5, 0.5, 0.5, 1]
    assert curve.y == pytest.approx([1, 1, 2 / 3, 2 / 3, 2 / 3, 2 / 3])
    assert curve.area == pytest.approx(np.trapezoid(curve.y, curve.x)) == pytest.approx(5 / 6)


def test_roc_equals_scikit_learn():
    rng = np.random.default_rng(2)
    truth, scores = rng.integers(0, 2, 200), rng.integers(0, 20, 200) / 20
    curve = roc_curve(scores, truth)
    assert curve is not None
    assert curve.area == pytest.approx(metrics.roc_auc_score(truth, scores))


def test_curves_that_nothing_defines():
    assert roc_curve([0.5, 0.6], [1, 1]) is None
    assert roc_curve([0.5, 0.6], [0, 0]) is None
    assert precision_recall_curve([0.5, np.nan], [0, np.nan]) is None
