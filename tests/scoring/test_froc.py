"""FROC by hand."""

import numpy as np
import pytest

from siimdet.scoring.froc import RATES, froc
from siimdet.scoring.voc import class_curve


def curve(scores, hits, truths):
    return class_curve("a", np.array(scores, float), np.array(hits, bool), truths)


def test_points_by_hand_with_a_tie():
    # .9 hit; .8 hit and miss at once; .7 miss; four truths in two images.
    found = froc(curve([0.9, 0.8, 0.8, 0.7], [1, 1, 0, 0], 4), images=2)
    assert found.false_positives.tolist() == [0, 0, 0.5, 1]
    assert found.sensitivity.tolist() == [0, 0.25, 0.5, 0.5]


def test_a_rate_is_worth_what_a_threshold_reaches_without_exceeding_it():
    found = froc(curve([0.9, 0.8, 0.8, 0.7], [1, 1, 0, 0], 4), images=2)
    assert [found.at(rate) for rate in (0, 0.49, 0.5, 0.75, 1, 100)] == [0.25, 0.25, 0.5, 0.5, 0.5, 0.5]
    assert found.at_rates == {1 / 8: 0.25, 1 / 4: 0.25, 1 / 2: 0.5, 1: 0.5, 2: 0.5, 4: 0.5, 8: 0.5}
    assert found.mean_sensitivity == pytest.approx((2 * 0.25 + 5 * 0.5) / 7)


def test_a_first_step_beyond_a_rate_is_worth_nothing_there():
    found = froc(curve([0.5, 0.5, 0.5], [1, 0, 0], 1), images=1)
    assert found.false_positives.tolist() == [0, 2]
    assert [found.at(rate) for rate in RATES] == [0, 0, 0, 0, 1, 1, 1]


def test_nothing_found_finds_nothing_at_every_rate():
    found = froc(curve([], [], 3), images=5)
    assert (found.false_positives.tolist(), found.sensitivity.tolist()) == ([0], [0])
    assert found.mean_sensitivity == 0


def test_a_class_without_truth_has_none():
    assert froc(curve([0.5], [0], 0), images=1) is None


def test_no_images_are_refused():
    with pytest.raises(ValueError, match="0 images, expected 1 or more"):
        froc(curve([], [], 1), images=0)
