"""VOC AP against hand-worked cases and a slow reference that shares no code with it."""

from itertools import groupby

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from siimdet.core.types import BoxLabels, Detections, ImageSize, LabelSpace
from siimdet.scoring import detection_ap, voc_map
from siimdet.scoring.voc import NO_TARGET, OperatingPoint, PredictedBoxes, TruthBoxes, find_matches

ONE = LabelSpace("one", ("opacity",))
TWO = LabelSpace("two", ("a", "b"))
SIZE = ImageSize(100, 100)


def plain_iou(a, b):
    width = min(a[2], b[2]) - max(a[0], b[0])
    height = min(a[3], b[3]) - max(a[1], b[1])
    if width <= 0 or height <= 0:
        return 0.0
    union = (a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - width * height
    return width * height / union


def plain_ap(truth, predictions):
    """AP of one class; truth is a list of (image, box), predictions of (image, box, score)."""
    if not truth:
        return None
    points, taken, seen = [], set(), 0
    for _, step in groupby(sorted(predictions, key=lambda p: -p[2]), key=lambda p: p[2]):
        for image, box, _ in step:
            seen += 1
            ious = [plain_iou(box, other) if where == image else -1.0 for where, other in truth]
            best = ious.index(max(ious))
            if ious[best] > 0.5:
                taken.add(best)
        points.append((len(taken) / len(truth), len(taken) / seen))
    area, reached = 0.0, 0.0
    for k, (recall, _) in enumerate(points):
        area += (recall - reached) * max(precision for _, precision in points[k:])
        reached = recall
    return area


def tables(truth, predictions):
    """Rows (image, class, box) and (image, class, box, score) as columns."""
    return (
        TruthBoxes(*(np.array([row[k] for row in truth]) for k in range(3))),
        PredictedBoxes(*(np.array([row[k] for row in predictions]) for k in range(4))),
    )


def ap(truth, predictions):
    rows = [(image, 0, box) for image, box in truth], [(image, 0, box, score) for image, box, score in predictions]
    return voc_map(*tables(*rows), ONE).ap["opacity"]


LEFT, RIGHT = (0, 0, 10, 10), (50, 0, 60, 10)


@pytest.mark.parametrize(
    ("truth", "predictions", "expected"),
    [
        pytest.param([(0, LEFT), (0, RIGHT)], [(0, LEFT, 0.9)], 0.5, id="two truths, one hit"),
        pytest.param([(0, LEFT)], [(0, LEFT, 0.9), (0, LEFT, 0.8)], 1.0, id="duplicate after the last hit"),
        pytest.param(
            [(0, LEFT), (0, RIGHT)],
            [(0, LEFT, 0.9), (0, LEFT, 0.8), (0, RIGHT, 0.7)],
            0.5 + 0.5 * 2 / 3,
            id="duplicate is a false positive",
        ),
        pytest.param([(0, (0, 0, 10, 10))], [(0, (0, 0, 10, 5), 0.9)], 0.0, id="IoU of exactly .5 is a miss"),
        pytest.param([(0, (0, 0, 10, 10))], [(0, (0, 0, 10, 5.01), 0.9)], 1.0, id="IoU just above .5"),
        pytest.param([(0, LEFT)], [(1, LEFT, 0.9)], 0.0, id="another image"),
        pytest.param([(0, LEFT)], [], 0.0, id="no prediction"),
        pytest.param([], [(0, LEFT, 0.9)], None, id="no truth"),
        pytest.param([], [], None, id="nothing at all"),
        pytest.param(
            [(0, (0, 0, 10, 10)), (0, (0, 0, 10, 12))],
            [(0, (0, 0, 10, 10), 0.9), (0, (0, 0, 10, 10.5), 0.8)],
            0.5,
            id="only the best truth counts, though the other is free",
        ),
        pytest.param([(0, LEFT), (0, LEFT)], [(0, LEFT, 0.9), (0, LEFT, 0.8)], 0.5, id="first truth on equal overlap"),
        pytest.param(
            [(0, LEFT)], [(1, LEFT, 0.5), (0, LEFT, 0.5), (2, LEFT, 0.5), (0, LEFT, 0.5)], 0.25, id="constant score"
        ),
    ],
)
def test_hand_worked(truth, predictions, expected):
    assert ap(truth, predictions) == (None if expected is None else pytest.approx(expected, abs=1e-15))
    assert plain_ap(truth, predictions) == (None if expected is None else pytest.approx(expected, abs=1e-15))
    assert ap(truth, predictions[::-1]) == ap(truth, predictions)


grid = st.integers(0, 4)
boxes = st.tuples(grid, grid, st.integers(1, 4), st.integers(1, 4)).map(
    lambda b: (b[0], b[1], b[0] + b[2], b[1] + b[3])
)
images, class_ids = st.integers(0, 3), st.integers(0, 1)
scores = st.sampled_from((0.0, 0.1, 0.25, 0.5, 0.9, 1.0))


rows = (
    st.lists(st.tuples(images, class_ids, boxes), max_size=12),
    st.lists(st.tuples(images, class_ids, boxes, scores), max_size=25),
    st.randoms(use_true_random=False),
)


def assert_as_reference(truth, predictions, random):
    score = voc_map(*tables(truth, predictions), TWO)
    for class_id, name in enumerate(TWO.names):
        mine = [(i, b) for i, c, b in truth if c == class_id]
        expected = plain_ap(mine, [(i, b, s) for i, c, b, s in predictions if c == class_id])
        assert score.ap[name] == (None if expected is None else pytest.approx(expected, abs=1e-12))
    random.shuffle(predictions)
    assert voc_map(*tables(truth, predictions), TWO).ap == score.ap


@settings(max_examples=300)
@given(*rows)
def test_equals_the_reference_and_ignores_row_order(truth, predictions, random):
    assert_as_reference(truth, predictions, random)


@pytest.mark.slow
@settings(max_examples=1000)
@given(*rows)
def test_equals_the_reference_a_thousand_times(truth, predictions, random):
    assert_as_reference(truth, predictions, random)


def test_class_without_truth_is_named_and_left_out_of_the_mean():
    score = voc_map(*tables([(0, 1, LEFT), (1, 1, LEFT)], [(0, 1, LEFT, 0.9), (0, 0, LEFT, 0.9)]), TWO)
    assert score.ap == {"a": None, "b": 0.5}
    assert (score.mean_ap, score.without_truth) == (0.5, ("a",))
    assert voc_map(*tables([], []), TWO).mean_ap is None


def test_operating_point_of_best_f1():
    truth = [(0, 0, LEFT), (1, 0, LEFT)]
    predictions = [(0, 0, LEFT, 0.9), (1, 0, RIGHT, 0.8), (1, 0, LEFT, 0.7), (2, 0, LEFT, 0.1), (3, 0, LEFT, 0.1)]
    (curve,) = voc_map(*tables(truth, predictions), ONE).curves
    assert curve.scores.tolist() == [0.9, 0.8, 0.7, 0.1]
    assert curve.precision.tolist() == [1, 1 / 2, 2 / 3, 2 / 5]
    assert curve.recall.tolist() == [0.5, 0.5, 1, 1]
    point = curve.operating_point(images=4)
    assert point == OperatingPoint(threshold=0.7, precision=2 / 3, recall=1.0, f1=0.8, false_positives_per_image=0.25)
    assert point.sensitivity == 1.0


@pytest.mark.parametrize("predictions", [[], [(0, 0, RIGHT, 0.9)]], ids=["nothing found", "nothing hit"])
def test_no_operating_point_without_a_hit(predictions):
    (curve,) = voc_map(*tables([(0, 0, LEFT)], predictions), ONE).curves
    assert curve.operating_point(images=1) is None


def test_targets_are_rows_of_the_truth_for_hits_and_duplicates_alike():
    # Rows of classes and images in mixed order; the second prediction overlaps two truths, the second one more.
    truth = [(1, 1, LEFT), (0, 0, RIGHT), (0, 0, (0, 0, 10, 10)), (0, 0, (0, 0, 10, 12))]
    predictions = [
        (0, 0, RIGHT, 0.1),
        (0, 0, (0, 0, 10, 13), 0.9),
        (0, 0, RIGHT, 0.2),
        (1, 0, LEFT, 0.9),
        (1, 1, LEFT, 0),
    ]
    hits, targets = find_matches(*tables(truth, predictions), TWO)
    assert targets.tolist() == [1, 3, 1, NO_TARGET, 0]
    assert hits.tolist() == [False, True, True, False, True]


@settings(max_examples=100)
@given(*rows[:2])
def test_a_target_is_the_first_best_truth_and_is_hit_once_by_its_highest_score(truth, predictions):
    hits, targets = find_matches(*tables(truth, predictions), TWO)
    assert sorted(targets[hits].tolist()) == sorted({*targets.tolist()} - {NO_TARGET})
    for p, (image, class_id, box, score) in enumerate(predictions):
        ious = [plain_iou(box, row[2]) if row[:2] == (image, class_id) else 0.0 for row in truth]
        assert targets[p] == (ious.index(max(ious)) if max(ious, default=0) > 0.5 else NO_TARGET)
        if hits[p]:
            assert score == max(
                row[3] for row, target in zip(predictions, targets, strict=True) if target == targets[p]
            )


def test_detection_ap_counts_images_without_boxes():
    truth = {
        "a": BoxLabels([LEFT], [0], SIZE),
        "b": BoxLabels.empty(SIZE),
        "c": BoxLabels([LEFT], [0], SIZE),
    }
    found = {"a": Detections([LEFT], [0], [0.5], SIZE), "b": Detections([LEFT], [0], [0.75], SIZE)}
    assert detection_ap(truth, found, ONE).ap == {"opacity": 0.25}
    assert detection_ap(truth, {}, ONE).ap == {"opacity": 0.0}
    assert detection_ap({}, {}, ONE).ap == {"opacity": None}


def test_detection_ap_refuses_other_images_and_sizes():
    truth = {"a": BoxLabels([LEFT], [0], SIZE)}
    with pytest.raises(ValueError, match="prediction for image x"):
        detection_ap(truth, {"x": Detections.empty(SIZE)}, ONE)
    with pytest.raises(ValueError, match="image a: boxes in"):
        detection_ap(truth, {"a": Detections.empty(ImageSize(50, 50))}, ONE)


def test_columns_are_checked():
    with pytest.raises(ValueError, match="class id 1, expected one of one's 1"):
        voc_map(*tables([(0, 1, LEFT)], []), ONE)
    with pytest.raises(ValueError, match="negative image number"):
        TruthBoxes([-1], [0], [LEFT])
    with pytest.raises(ValueError, match="box inverted"):
        TruthBoxes([0], [0], [(10, 0, 0, 10)])
    with pytest.raises(ValueError, match="2 images, 1 class ids"):
        TruthBoxes([0, 1], [0], [LEFT])
    with pytest.raises(ValueError, match="expected a finite one for each"):
        PredictedBoxes([0], [0], [LEFT], [float("nan")])
    with pytest.raises(ValueError, match="xyxy of shape"):
        TruthBoxes([0], [0], [[1, 2, 3]])
