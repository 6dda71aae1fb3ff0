"""The steps of a curve against a count by hand, and against NumPy on floats of every kind."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from siimdet.scoring.score_steps import area_under_envelope, score_steps

FLOATS = st.one_of(
    st.floats(allow_nan=False),
    st.floats(allow_nan=False, width=32),
    st.sampled_from([0.0, -0.0, 1.0, np.nextafter(1, 0), 5e-324, -5e-324, np.inf, -np.inf]),
)


def test_steps_counted_by_hand():
    scores = np.array([0.25, 0.5, 0.0, -0.0, 0.5, -3.0])
    hits = np.array([True, False, True, False, True, False])
    steps, found, counts = score_steps(scores, hits)
    assert (steps.tolist(), found.tolist(), counts.tolist()) == ([0.5, 0.25, 0.0, -3.0], [1, 2, 3, 3], [2, 3, 5, 6])
    # Of three truths: 1 at 1/2, 1 at 2/3, 1 at 3/5; from below, the envelope is 3/5, 2/3, 2/3.
    assert area_under_envelope(found, counts) == pytest.approx(2 / 3 + 2 / 3 + 3 / 5, rel=1e-15)


def test_nothing_has_no_steps():
    steps, found, counts = score_steps(np.zeros(0), np.zeros(0, bool))
    assert (len(steps), len(found), len(counts), area_under_envelope(found, counts)) == (0, 0, 0, 0.0)


@given(st.data())
def test_steps_are_those_of_a_sort(data):
    scores = data.draw(arrays(np.float64, st.integers(0, 40), elements=FLOATS))
    hits = data.draw(arrays(np.bool_, len(scores)))
    before = scores.copy()
    steps, found, counts = score_steps(scores, hits)
    expected = np.unique(scores)[::-1]
    assert np.array_equal(steps, expected)
    assert found.tolist() == [int((scores[hits] >= step).sum()) for step in expected]
    assert counts.tolist() == [int((scores >= step).sum()) for step in expected]
    assert np.array_equal(scores, before)


@pytest.mark.parametrize("kind", [np.float64, np.float32, np.float16])
def test_many_scores_of_every_precision(kind):
    scores = np.random.default_rng(0).normal(size=100_000).astype(kind).astype(np.float64)
    steps, _, counts = score_steps(scores, np.zeros(len(scores), bool))
    expected, each = np.unique(scores, return_counts=True)
    assert np.array_equal(steps, expected[::-1])
    assert np.array_equal(counts, np.cumsum(each[::-1]))
