"""Calibration of box scores: by hand, and a planted temperature found again."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import expit, logit

from siimdet.config import Calibration
from siimdet.scoring.calibration import by_knots, by_temperature, fit_isotonic, fit_temperature


def test_a_temperature_divides_the_logit():
    # Odds of 4 become 2 under temperature 2, and 16 under 1/2.
    scores = np.array([0.8, 0.5, 0.2])
    assert by_temperature(scores, 2.0) == pytest.approx([2 / 3, 1 / 2, 1 / 3])
    assert by_temperature(scores, 0.5) == pytest.approx([16 / 17, 1 / 2, 1 / 17])
    assert by_temperature(scores, 1.0) == pytest.approx(scores)


def test_certain_scores_keep_their_place():
    found = by_temperature(np.array([0.0, 0.3, 1.0], np.float32), 3.0)
    assert 0 < found[0] < found[1] < found[2] < 1


def test_a_planted_temperature_is_found():
    rng = np.random.default_rng(0)
    scores = rng.uniform(0.01, 0.99, 20_000)
    hits = rng.uniform(size=len(scores)) < expit(logit(scores) / 3)
    assert fit_temperature(scores, hits) == pytest.approx(3, abs=0.15)


@pytest.mark.parametrize("hits", [[False, False], [True, True], []])
def test_without_hits_or_without_misses_scores_stay(hits):
    assert fit_temperature(np.full(len(hits), 0.3), np.array(hits, bool)) == 1.0


def test_isotonic_by_hand():
    # The hit at .2 and the miss at .3 are out of order: both become their mean.
    knots = fit_isotonic(np.array([0.4, 0.1, 0.2, 0.3]), np.array([True, False, True, False]))
    assert knots == ((0.1, 0.0), (0.2, 0.5), (0.3, 0.5), (0.4, 1.0))
    assert by_knots(np.array([0.0, 0.15, 0.25, 0.35, 0.9]), knots) == pytest.approx([0, 0.25, 0.5, 0.75, 1])


close = st.integers(0, 60).map(lambda steps: 0.5 + steps * 6e-8)
"""Scores that float32 just tells apart, and that knots of six decimals do not."""
tiny = st.integers(0, 40).map(lambda steps: steps * 5e-8)


@settings(max_examples=200)
@given(
    rows=st.lists(st.tuples(st.floats(0, 1) | close | tiny, st.booleans()), min_size=2, max_size=40),
    others=st.lists(st.floats(0, 1) | close | tiny, max_size=40),
    dtype=st.sampled_from([np.float32, np.float64]),
)
def test_knots_never_fall_and_keep_ranks_but_for_ties(rows, others, dtype):
    scores, hits = np.array([score for score, _ in rows], dtype), np.array([hit for _, hit in rows])
    knots = Calibration(knots=fit_isotonic(scores, hits)).knots
    assert list(knots) == sorted(knots)
    assert [share for _, share in knots] == sorted(share for _, share in knots)
    found = by_knots(np.sort(np.concatenate([scores, np.array(others, dtype)])), knots)
    assert (np.diff(found) >= 0).all()
    assert ((found >= 0) & (found <= 1)).all()


@pytest.mark.parametrize("hits", [[False, False], [True, True], []])
def test_without_hits_or_without_misses_there_are_no_knots_and_scores_stay(hits):
    assert fit_isotonic(np.linspace(0.3, 0.7, len(hits)), np.array(hits, bool)) == ()
    assert by_knots(np.array([0.3, 0.7]), ()).tolist() == [0.3, 0.7]
