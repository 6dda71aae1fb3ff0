"""Calibration error, Brier score and Wilson's interval: by hand and against scikit-learn."""

import numpy as np
import pytest
from sklearn.calibration import calibration_curve
from sklearn.metrics import brier_score_loss

from siimdet.core.types import LabelSpace
from siimdet.scoring.classification import multiclass_score, multilabel_score
from siimdet.scoring.reliability import reliability, wilson_interval

NAN = float("nan")


def test_two_bins_by_hand():
    found = reliability([0.1, 0.3, 0.6, 0.8, 1.0, 0.2], [0, 1, 1, 1, 0, NAN], bins=2)
    assert found.mean_probability == pytest.approx([0.2, 0.8])
    assert found.observed == pytest.approx([1 / 2, 2 / 3])
    assert found.counts.tolist() == [2, 3]
    assert found.ece == pytest.approx(2 / 5 * 0.3 + 3 / 5 * (0.8 - 2 / 3))
    assert found.mce == pytest.approx(0.3)
    assert found.brier == pytest.approx((0.01 + 0.49 + 0.16 + 0.04 + 1) / 5)


def test_bins_hold_their_lower_edge_and_empty_ones_are_left_out():
    # .3 and .7 are where a product with 10 would round to the bin below or above.
    values = [0.0, 0.3, 0.7, np.nextafter(0.7, 0), 1.0]
    found = reliability(values, np.zeros(5))
    assert found.mean_probability == pytest.approx([0, 0.3, 0.7, 0.7, 1])
    assert found.counts.tolist() == [1] * 5
    assert reliability([0.95, 1.0], [1, 0]).counts.tolist() == [2]
    edges = np.arange(100) / 100
    assert reliability(edges, np.zeros(100), bins=100).counts.tolist() == [1] * 100


def test_perfect_and_worst():
    sure = reliability([0, 1, 1], [0, 1, 1])
    assert (sure.ece, sure.mce, sure.brier) == (0, 0, 0)
    wrong = reliability([1, 0, 0], [0, 1, 1])
    assert (wrong.ece, wrong.mce, wrong.brier) == (1, 1, 1)


def test_honest_probabilities_have_a_small_error_and_squared_ones_their_gap():
    rng = np.random.default_rng(0)
    values = rng.uniform(size=200_000)
    truth = rng.uniform(size=len(values)) < values
    assert reliability(values, truth).ece < 0.01
    # The mean of p - p² over [0, 1] is 1 / 6.
    assert reliability(values**2, truth).ece == pytest.approx(1 / 6, abs=0.005)


def test_equals_scikit_learn():
    rng = np.random.default_rng(1)
    values, truth = rng.beta(0.5, 0.8, 500), rng.integers(0, 2, 500)
    found = reliability(values, truth)
    observed, mean = calibration_curve(truth, values, n_bins=10)
    assert found.observed == pytest.approx(observed)
    assert found.mean_probability == pytest.approx(mean)
    assert found.brier == pytest.approx(brier_score_loss(truth, values))


def test_nothing_known_has_none():
    assert reliability([0.5], [NAN]) is None
    assert reliability([], []) is None


def test_wilson_by_hand():
    # 5 of 10: 1 / 2 ± z / 2 / sqrt(10 + z²); 0 of 10 and 10 of 10: z² / (10 + z²) from the end.
    z = 1.959964
    low, high = wilson_interval([5, 0, 10], [10, 10, 10])
    reach = z / 2 / np.sqrt(10 + z**2)
    assert low == pytest.approx([0.5 - reach, 0, 10 / (10 + z**2)], abs=1e-6)
    assert high == pytest.approx([0.5 + reach, z**2 / (10 + z**2), 1], abs=1e-6)


def test_intervals_stand_beside_their_bins():
    found = reliability([0.1, 0.15, 0.9], [0, 1, 1])
    low, high = wilson_interval([1, 1], [2, 1])
    assert (found.low.tolist(), found.high.tolist()) == (low.tolist(), high.tolist())


def test_classes_carry_their_error_and_the_mean():
    two = LabelSpace("two", ("a", "b"))
    score = multilabel_score([[0.9, 0.25], [0.6, 0.5]], [[1, 0], [0, NAN]], two)
    assert score.classes["a"].ece == pytest.approx((0.1 + 0.6) / 2)
    assert score.classes["b"].ece == pytest.approx(0.25)
    assert score.as_dict()["ece"] == pytest.approx((0.35 + 0.25) / 2)
    # A row with an unknown entry counts nowhere, and then nothing is left.
    assert multiclass_score([[0.5, 0.5]], [[NAN, NAN]], two).classes["a"].ece is None
