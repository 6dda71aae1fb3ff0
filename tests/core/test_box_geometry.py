"""Conversions of boxes: known values, and there and back again."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from siimdet.core import boxes
from siimdet.core.types import ImageSize

SIZES = st.builds(ImageSize, st.integers(1, 5000), st.integers(1, 5000))
COORDINATE = st.floats(-6000, 6000, width=32)
BOXES = st.lists(st.tuples(COORDINATE, COORDINATE, COORDINATE, COORDINATE), max_size=5)
SPANS = st.tuples(st.floats(0, 90), st.floats(0, 90), st.floats(0.1, 60), st.floats(0.1, 60))
XYXY = st.lists(SPANS.map(lambda s: (s[0], s[1], s[0] + s[2], s[1] + s[3])), min_size=1, max_size=4)


def test_known_values():
    size = ImageSize(200, 100)
    xyxy = [[20, 10, 60, 50]]
    assert boxes.xyxy_to_xywh(xyxy).tolist() == [[20, 10, 40, 40]]
    assert boxes.xywh_to_xyxy([[20, 10, 40, 40]]).tolist() == xyxy
    assert boxes.xyxy_to_cxcywhn(xyxy, size) == pytest.approx(np.array([[0.2, 0.3, 0.2, 0.4]]))
    assert boxes.cxcywhn_to_xyxy([[0.2, 0.3, 0.2, 0.4]], size) == pytest.approx(np.array(xyxy))
    assert boxes.scale_boxes(xyxy, size, ImageSize(100, 300)).tolist() == [[10, 30, 30, 150]]
    assert boxes.clip_boxes([[-5, -5, 300, 50], [250, 10, 260, 20]], size).tolist() == [
        [0, 0, 200, 50],
        [200, 10, 200, 20],
    ]
    assert boxes.has_area([[0, 0, 1, 1], [1, 0, 1, 1], [2, 0, 1, 1], [0, np.nan, 1, 1]]).tolist() == [
        *(True, False, False, False)
    ]


def test_no_boxes_stay_no_boxes():
    size = ImageSize(3, 4)
    for out in (
        boxes.xywh_to_xyxy([]),
        boxes.xyxy_to_xywh([]),
        boxes.xyxy_to_cxcywhn([], size),
        boxes.cxcywhn_to_xyxy([], size),
        boxes.scale_boxes([], size, size),
        boxes.clip_boxes([], size),
    ):
        assert out.shape == (0, 4)
    assert boxes.has_area([]).shape == (0,)
    assert boxes.iou_matrix([], [[0, 0, 1, 1]]).shape == (0, 1)


@given(xyxy=BOXES, size=SIZES, target=SIZES)
def test_every_conversion_comes_back(xyxy, size, target):
    given_boxes = np.array(xyxy, np.float64).reshape(-1, 4)
    close = pytest.approx(given_boxes, abs=1e-6)
    assert boxes.xywh_to_xyxy(boxes.xyxy_to_xywh(xyxy)) == close
    assert boxes.cxcywhn_to_xyxy(boxes.xyxy_to_cxcywhn(xyxy, size), size) == close
    assert boxes.scale_boxes(boxes.scale_boxes(xyxy, size, target), target, size) == close


@given(xyxy=BOXES, size=SIZES)
def test_clipped_boxes_lie_inside_and_clipping_again_changes_nothing(xyxy, size):
    clipped = boxes.clip_boxes(xyxy, size)
    assert (clipped >= 0).all()
    assert (clipped <= [size.width, size.height] * 2).all()
    assert (boxes.clip_boxes(clipped, size) == clipped).all()


def test_iou_by_hand():
    one = [[0, 0, 10, 10]]
    others = [[0, 0, 10, 10], [5, 0, 15, 10], [10, 0, 20, 10], [2, 2, 4, 4], [20, 20, 30, 30], [3, 3, 3, 3]]
    assert boxes.iou_matrix(one, others)[0] == pytest.approx([1, 50 / 150, 0, 4 / 100, 0, 0])
    assert boxes.iou_matrix([[3, 3, 3, 3]], [[3, 3, 3, 3]]).tolist() == [[0]]


@given(left=XYXY, right=XYXY, shift=st.floats(-50, 50), scale=st.floats(0.5, 20))
def test_iou_is_symmetric_bounded_and_blind_to_place_and_size(left, right, shift, scale):
    iou = boxes.iou_matrix(left, right)
    assert ((iou >= 0) & (iou <= 1 + 1e-12)).all()
    assert iou == pytest.approx(boxes.iou_matrix(right, left).T)
    assert np.diag(boxes.iou_matrix(left, left)) == pytest.approx(np.ones(len(left)))
    moved = boxes.iou_matrix(np.array(left) * scale + shift, np.array(right) * scale + shift)
    assert moved == pytest.approx(iou, abs=1e-6)


@given(left=XYXY, right=XYXY)
def test_iou_equals_the_plain_formula(left, right):
    def plain(a, b):
        overlap = max(0, min(a[2], b[2]) - max(a[0], b[0])) * max(0, min(a[3], b[3]) - max(a[1], b[1]))
        return overlap / ((a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - overlap)

    assert boxes.iou_matrix(left, right) == pytest.approx(np.array([[plain(a, b) for b in right] for a in left]))
