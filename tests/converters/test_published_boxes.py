"""Boxes partly outside are clipped and said so; what is no box is refused with its reason."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from converters.boxes import clip_item, place_boxes
from converters.source import Item
from siimdet.core.types import ImageSize
from siimdet.errors import SourceError

SIZE = ImageSize(100, 80)


def item(*boxes) -> Item:
    return Item("i", "s", np.zeros(1, np.float32), np.array(boxes, float).reshape(-1, 4), np.zeros(len(boxes), int))


def test_a_box_partly_outside_is_clipped_and_reported():
    boxes, repairs = place_boxes(item([10, 20, 30, 40], [-3.5, 60, 20, 90.25]), SIZE, ImageSize(50, 40))
    assert boxes.xyxy.tolist() == [[5, 10, 15, 20], [0, 30, 10, 40]]
    assert repairs == [("i", "box 2 xyxy", "-3.5 60 20 90.25", "0 60 20 80")]


def test_without_a_size_only_negative_coordinates_are_clipped():
    clipped, repairs = clip_item(item([-1, 5, 20, 1e6]), None)
    assert clipped.tolist() == [[0, 5, 20, 1e6]]
    assert repairs == [("i", "box 1 xyxy", "-1 5 20 1000000", "0 5 20 1000000")]


def test_boxes_stretch_with_the_image_on_each_axis():
    boxes, repairs = place_boxes(item([10, 20, 100, 80]), SIZE, ImageSize(200, 20))
    assert boxes.xyxy.tolist() == [[20, 5, 200, 20]]
    assert repairs == []


@pytest.mark.parametrize(
    ("box", "reason"),
    [
        ([np.nan, 1, 2, 3], "box 1: found nan 1 2 3, expected finite numbers"),
        ([0, 1, np.inf, 3], "box 1: found 0 1 inf 3, expected finite numbers"),
        ([5, 1, 2, 3], "box 1: found inverted 5 1 2 3, expected x1 < x2 and y1 < y2"),
        ([5, 1, 5, 3], "box 1: found zero-sized 5 1 5 3, expected x1 < x2 and y1 < y2"),
        ([100, 1, 120, 3], "box 1: found 100 1 120 3, expected not wholly outside the 100x80 image"),
        ([-9, -9, -1, 3], "box 1: found -9 -9 -1 3, expected not wholly outside the 100x80 image"),
        ([1, 1, 1 + 1e-9, 3], "box: found box [1.0, 1.0, 1.0, 3.0] has no area"),
    ],
)
def test_what_is_no_box_is_refused(box, reason):
    with pytest.raises(SourceError) as caught:
        place_boxes(item(box), SIZE, SIZE)
    assert caught.value.reason.startswith(reason)


COORDINATES = st.floats(-200, 300) | st.just(float("nan"))


@given(box=st.tuples(COORDINATES, COORDINATES, COORDINATES, COORDINATES), width=st.integers(1, 300))
def test_every_box_is_placed_inside_or_refused(box, width):
    stored = ImageSize(width, 60)
    try:
        boxes, repairs = place_boxes(item(box), SIZE, stored)
    except SourceError:
        return
    assert len(boxes) == 1 and boxes.size == stored
    inside = box[0] >= 0 and box[1] >= 0 and box[2] <= SIZE.width and box[3] <= SIZE.height
    assert len(repairs) == (0 if inside else 1)
