"""The exponents of a coupling: what is fitted, what stays, and the scale on which folds are pooled."""

import numpy as np
import pytest

from siimdet.scoring.voc import class_curve
from siimdet.submission.exponents import Ranked, fit_exponents
from siimdet.submission.pooling import matched, pooled_rows
from siimdet.submission.table import CLASSES, Submission

UNIT = [0.0, 0.0, 1.0, 1.0]


def planted(own: float, other: float, *, count: int = 400, seed: int = 0) -> Ranked:
    """Hits where own^... other^... is above its median, with a little noise in neither factor."""
    rng = np.random.default_rng(seed)
    a, b = rng.uniform(0.01, 1, (2, count))
    product = a**own * b**other
    hits = product > np.median(product)
    return Ranked.of({"own": a, "image_opacity": b}, hits, int(hits.sum()))


def test_a_planted_pair_of_exponents_is_found():
    ranked = planted(0.35, 0.65)
    found, ap = fit_exponents(ranked)
    assert ap == 1.0
    assert ranked.ap(np.array([1.0, 0.0])) < 0.9
    assert found["own"] == pytest.approx(0.35, abs=0.02)
    assert sum(found.values()) == pytest.approx(1, abs=1e-12)


def test_the_default_stays_where_nothing_is_better():
    scores = np.array([0.9, 0.8, 0.2, 0.1])
    hits = np.array([True, True, False, False])
    found, ap = fit_exponents(Ranked.of({"own": scores, "image_opacity": np.ones(4), "p_opacity": scores}, hits, 2))
    assert (found, ap) == ({"own": 1.0, "image_opacity": 0.0, "p_opacity": 0.0}, 1.0)


def test_the_default_is_tried_when_going_on_from_other_exponents():
    # The other factor is 0 of the hits: any power of it puts them last.
    own, other = np.array([0.9, 0.8, 0.2, 0.1]), np.array([0.0, 0.0, 1.0, 1.0])
    ranked = Ranked.of({"own": own, "image_opacity": other}, np.array([True, True, False, False]), 2)
    near = {"own": 0.0, "image_opacity": 1.0}
    assert ranked.ap(np.array(list(near.values()))) == ranked.ap(np.array([0.5, 0.5])) == 0.5
    assert fit_exponents(ranked, near=near) == ({"own": 1.0, "image_opacity": 0.0}, 1.0)


def test_a_single_factor_needs_no_fit():
    ranked = Ranked.of({"own": np.array([0.5, 0.4])}, np.array([False, True]), 1)
    assert fit_exponents(ranked) == ({"own": 1.0}, 0.5)


def test_ap_is_that_of_the_product_zeros_and_missed_truths_included():
    rng = np.random.default_rng(3)
    a, b = rng.uniform(0, 1, (2, 50)).round(1)
    b[:10] = 0
    hits = rng.uniform(size=50) < a
    ranked = Ranked.of({"own": a, "not_negative": b}, hits, int(hits.sum()) + 2)
    for own, other in ((1.0, 0.0), (0.0, 1.0), (0.999, 0.001), (0.001, 0.999), (0.7, 0.3)):
        expected = class_curve("", a**own * b**other, hits, ranked.truths).ap
        assert ranked.ap(np.array([own, other])) == pytest.approx(expected, rel=1e-12)
    assert Ranked.of({"own": a}, np.zeros(50, bool), 0).ap(np.ones(1)) == 0


def test_scores_are_matched_by_their_place_from_the_top():
    own, wanted = np.array([0.2, 0.4, 0.8]), np.array([0.1, 0.05, 0.3, 0.9])
    # The three best of `wanted` are .1, .3, .9; further ones lie on straight lines between those, 0 and 1.
    found = matched(np.array([0.0, 0.1, 0.2, 0.3, 0.4, 0.8, 0.9, 1.0]), own, wanted)
    assert found == pytest.approx([0, 0.05, 0.1, 0.2, 0.3, 0.9, 0.95, 1])
    assert matched(np.array([0.5]), np.array([0.5, 0.5]), np.array([0.2, 0.6])) == pytest.approx([0.4])
    assert matched(np.array([0.3]), np.zeros(0), np.zeros(0)) == pytest.approx([0.3])


@pytest.mark.parametrize("level", [0.0, 0.3, 1.0])
def test_distinct_scores_stay_distinct_where_those_wanted_are_equal(level):
    rng = np.random.default_rng(4)
    own, scores = rng.uniform(0, 1, 5000), np.sort(rng.uniform(0, 1, 1000))
    wanted = np.concatenate([rng.uniform(0, 1, 1000), np.full(4000, level)])
    found = matched(scores, own, wanted)
    assert (np.diff(found) > 0).all()
    assert 0 < found[0] < found[-1] < 1
    assert matched(np.sort(own), own, wanted) == pytest.approx(np.sort(wanted), abs=1e-9)


def nones(scores: list[float]) -> Submission:
    count = len(scores)
    ids = tuple(f"{name}_image" for name in "abcdefgh"[:count])
    none = np.full(count, CLASSES.index("none"))
    return Submission("s.csv", ids, np.arange(count), none, np.array(scores), np.array([UNIT] * count))


def test_folds_of_other_powers_pool_as_if_they_were_of_one():
    default = nones([0.9, 0.5, 0.3, 0.1])
    fold_of = np.array([0, 1, 0, 1])
    # The first fold's coupling squares, the second's takes the root: each alone ranks as the default does.
    pooled = pooled_rows(
        default, [nones([0.81, 0.25, 0.09, 0.01]), nones([0.9**0.5, 0.5**0.5, 0.3**0.5, 0.1**0.5])], fold_of
    )
    assert pooled.ids == ("a_image", "c_image", "b_image", "d_image")
    scores = dict(zip(pooled.ids, pooled.scores, strict=True))
    assert sorted(scores, key=scores.__getitem__, reverse=True) == list(default.ids)


def test_a_fold_of_the_default_is_left_as_it_is():
    default = nones([0.9, 0.5, 0.3, 0.1])
    pooled = pooled_rows(default, [default, default], np.array([1, 0, 0, 1]))
    assert dict(zip(pooled.ids, pooled.scores, strict=True)) == dict(zip(default.ids, default.scores, strict=True))
