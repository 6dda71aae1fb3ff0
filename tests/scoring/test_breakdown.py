"""AP by size and by group: by hand, and equal to scoring the parts alone."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from siimdet.core.types import LabelSpace
from siimdet.scoring import voc_map
from siimdet.scoring.box_tables import PredictedBoxes, TruthBoxes
from siimdet.scoring.breakdown import ap_by_area, ap_by_group, tercile_edges

ONE = LabelSpace("one", ("opacity",))
TWO = LabelSpace("two", ("a", "b"))
SMALL, LARGE = (0, 0, 10, 10), (50, 0, 80, 30)


def tables(truth, predictions):
    """Rows (image, class, box) and (image, class, box, score) as columns."""
    return (
        TruthBoxes(*(np.array([row[k] for row in truth]) for k in range(3))),
        PredictedBoxes(*(np.array([row[k] for row in predictions]) for k in range(4))),
    )


def areas(columns):
    return (columns.xyxy[:, 2:] - columns.xyxy[:, :2]).prod(axis=1)


def by_area(truth, predictions, edges, classes=ONE, class_id=0):
    columns = tables(truth, predictions)
    of = {"truth_areas": areas(columns[0]), "predicted_areas": areas(columns[1])}
    return ap_by_area(*columns, classes, class_id, edges=np.array(edges, float), **of)


def test_a_detection_of_another_range_is_left_out():
    # The large truth is found first, the small one after a false alarm of small size.
    truth = [(0, 0, SMALL), (0, 0, LARGE)]
    predictions = [(0, 0, LARGE, 0.9), (1, 0, SMALL, 0.8), (0, 0, SMALL, 0.7)]
    small, large = by_area(truth, predictions, [0, 400, 1e5])
    assert (small.low, small.high, large.low, large.high) == (0, 400, 400, 1e5)
    assert (small.curve.ap, small.curve.truths, small.curve.scores.tolist()) == (0.5, 1, [0.8, 0.7])
    assert (large.curve.ap, large.curve.truths, large.curve.scores.tolist()) == (1.0, 1, [0.9])


def test_a_detection_counts_where_its_truth_is_not_where_its_own_area_is():
    # 17 x 10 finds the truth of 10 x 10 (IoU .59), though it is above the edge of 150 itself.
    small, large = by_area([(0, 0, SMALL)], [(0, 0, (0, 0, 17, 10), 0.9)], [0, 150, 1e5])
    assert (small.curve.ap, small.curve.hits.tolist()) == (1.0, [1])
    assert (large.curve.ap, len(large.curve.scores)) == (None, 0)


def test_a_duplicate_is_a_false_positive_in_the_range_of_its_truth():
    truth = [(0, 0, SMALL), (1, 0, SMALL), (1, 0, LARGE)]
    predictions = [(0, 0, SMALL, 0.9), (0, 0, (0, 0, 17, 10), 0.8), (1, 0, SMALL, 0.7), (1, 0, LARGE, 0.6)]
    small, large = by_area(truth, predictions, [0, 150, 1e5])
    assert small.curve.ap == pytest.approx(0.5 + 0.5 * 2 / 3)
    assert large.curve.ap == 1.0


def test_ranges_hold_their_lower_edge_and_the_last_one_both():
    truth = [(image, 0, (0, 0, side, 1)) for image, side in enumerate((9, 10, 20, 21))]
    scores = by_area(truth, [], [9, 10, 20])
    assert [score.curve.truths for score in scores] == [1, 2]


def test_other_classes_play_no_part():
    truth = [(0, 0, SMALL), (0, 1, SMALL)]
    predictions = [(0, 1, LARGE, 0.9), (0, 1, SMALL, 0.8), (0, 0, SMALL, 0.7)]
    first, second = (by_area(truth, predictions, [0, np.inf], TWO, k)[0].curve for k in (0, 1))
    assert (first.name, first.ap, second.name, second.ap) == ("a", 1.0, "b", 0.5)


def test_areas_of_other_boxes_are_refused():
    columns = tables([(0, 0, SMALL)], [])
    of = {"truth_areas": np.zeros(2), "predicted_areas": np.zeros(0)}
    with pytest.raises(ValueError, match="2 and 0 areas for 1 true and 0 predicted boxes"):
        ap_by_area(*columns, ONE, 0, edges=np.array([0, 1.0]), **of)


@pytest.mark.parametrize(
    ("values", "edges"),
    [
        ([1, 2, 3, 4, 5, 6], [0, 3, 5, np.inf]),
        ([6, 1, 5, 2, 4, 3], [0, 3, 5, np.inf]),
        ([1, 1, 1, 1, 5, 6], [0, 5, np.inf]),
        ([1, 1, 1, 1, 1, 5, 6, 7, 7], [0, 5, 6, np.inf]),
        ([1, 2, 2, 2, 2, 2], [0, 2, np.inf]),
        ([1, 2], [0, 2, np.inf]),
        ([4, 4, 4], [0, np.inf]),
        ([], [0, np.inf]),
    ],
)
def test_terciles_keep_equal_areas_together(values, edges):
    assert tercile_edges(np.array(values, float)).tolist() == edges


@given(st.lists(st.integers(1, 12), min_size=1, max_size=40))
def test_no_tercile_is_empty(values):
    found = np.array(values, float)
    edges = tercile_edges(found)
    counts, _ = np.histogram(found, np.append(edges[:-1], 1e9))
    assert counts.sum() == len(values)
    assert counts.min() > 0
    if len(set(values)) == len(values) > 2:
        assert len(counts) == 3
        assert counts.max() - counts.min() <= 1


def test_groups_by_hand():
    truth = [(0, 0, SMALL), (1, 0, SMALL), (1, 1, LARGE)]
    predictions = [(0, 0, LARGE, 0.9), (0, 0, SMALL, 0.8), (1, 0, SMALL, 0.7), (2, 1, LARGE, 0.6)]
    first, second = ap_by_group(*tables(truth, predictions), TWO, ["y", "x", "y"])
    assert (first.name, first.images, second.name, second.images) == ("x", 1, "y", 2)
    assert first.score.ap == {"a": 1.0, "b": 0.0}
    assert second.score.ap == {"a": 0.5, "b": None}
    assert [curve.truths for curve in first.score.curves + second.score.curves] == [1, 1, 1, 0]


def test_an_image_without_a_group_is_refused():
    with pytest.raises(ValueError, match="image number 2, expected a group for each, found 2"):
        ap_by_group(*tables([(2, 0, SMALL)], []), ONE, ["x", "y"])
    assert ap_by_group(*tables([], []), ONE, []) == ()


places = st.tuples(st.integers(0, 3), st.integers(0, 3)).map(lambda p: (p[0], p[1], p[0] + 4, p[1] + 4))
images, class_ids = st.integers(0, 5), st.integers(0, 1)


@settings(max_examples=100)
@given(
    st.lists(st.tuples(images, class_ids, places), max_size=12),
    st.lists(st.tuples(images, class_ids, places, st.sampled_from((0.1, 0.5, 0.9))), max_size=25),
    st.lists(st.sampled_from("xyz"), min_size=6, max_size=6),
)
def test_groups_equal_their_images_alone(truth, predictions, groups):
    scores = ap_by_group(*tables(truth, predictions), TWO, groups)
    assert [score.name for score in scores] == sorted(set(groups))
    for group in scores:
        mine = [image for image, name in enumerate(groups) if name == group.name]
        parts = ([row for row in rows if row[0] in mine] for rows in (truth, predictions))
        alone = voc_map(*tables(*parts), TWO)
        assert group.images == len(mine)
        assert group.score.ap == alone.ap
        for curve, other in zip(group.score.curves, alone.curves, strict=True):
            assert (curve.truths, curve.scores.tolist()) == (other.truths, other.scores.tolist())
            assert curve.hits.tolist() == other.hits.tolist()
