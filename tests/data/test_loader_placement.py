"""Fitting images into squares: where every pixel and box goes, and back."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from siimdet.core.types import ImageSize
from siimdet.data.placement import fit_image

RESIZES = ("stretch", "letterbox", "shorter")


def image(height: int, width: int, dtype=np.uint8) -> np.ndarray:
    return np.full((height, width), 200, dtype)


def placed(height: int, width: int, side: int, resize: str):
    square, placement = fit_image(image(height, width), side, resize)
    assert square.shape == (side, side)
    return square, placement


@pytest.mark.parametrize(
    ("resize", "scale", "offset", "box"),
    [
        ("stretch", (0.5, 1.0), (0, 0), [10, 40, 50, 80]),
        ("letterbox", (0.5, 0.5), (0, 25), [10, 45, 50, 65]),
        ("shorter", (8 / 7 * 0.98, 8 / 7 * 0.98), (-62, -6), [-39.6, 38.8, 50, 83.6]),
    ],
)
def test_known_places_of_an_image_of_200_by_100(resize, scale, offset, box):
    side = 98 if resize == "shorter" else 100
    _, placement = placed(100, 200, side, resize)
    if resize == "shorter":  # the shorter side becomes 112, the longer 224, and 98 are cut out of the centre
        scale, offset = (1.12, 1.12), (-63, -7)
        box = [20 * 1.12 - 63, 40 * 1.12 - 7, 100 * 1.12 - 63, 80 * 1.12 - 7]
    assert placement.scale == pytest.approx(scale)
    assert placement.offset == offset
    assert placement.to_input([[20, 40, 100, 80]]) == pytest.approx(np.array([box]), abs=1e-4)


def test_the_report_s_256_and_centre_224():
    _, placement = placed(1024, 1024, 224, "shorter")
    assert placement.scale == (0.25, 0.25)
    assert placement.offset == (-16, -16)


def test_letterbox_pads_with_black_and_keeps_the_shape():
    square, _ = placed(100, 200, 100, "letterbox")
    assert (square[:25] == 0).all()
    assert (square[25:75] == 200).all()
    assert (square[75:] == 0).all()
    square, placement = placed(60, 20, 33, "letterbox")
    assert (square > 0).any(0).sum() == 11
    assert placement.offset == (11, 0)


def test_stretch_and_shorter_leave_no_black():
    for resize in ("stretch", "shorter"):
        for height, width in ((90, 150), (31, 17), (64, 64)):
            assert (placed(height, width, 64, resize)[0] == 200).all()


def test_shrinking_averages_areas():
    pixels = np.array([[0, 100, 10, 10], [100, 200, 10, 10]], np.uint8)
    square, _ = fit_image(np.repeat(pixels, 2, axis=0), 2, "stretch")
    assert square.tolist() == [[50, 10], [150, 10]]


def test_sixteen_bits_stay_sixteen():
    square, _ = fit_image(image(50, 80, np.uint16) * 300, 32, "letterbox")
    assert square.dtype == np.uint16
    assert square.max() == 60000


@pytest.mark.parametrize("resize", RESIZES)
def test_a_mark_lands_where_its_box_says(resize):
    pixels = np.zeros((300, 420), np.uint8)
    box = [180, 120, 240, 180]
    pixels[120:180, 180:240] = 255
    square, placement = fit_image(pixels, 128, resize)
    columns, rows = np.flatnonzero((square > 127).any(0)), np.flatnonzero((square > 127).any(1))
    seen = [columns[0], rows[0], columns[-1] + 1, rows[-1] + 1]
    assert placement.to_input([box])[0] == pytest.approx(np.array(seen), abs=1)


UNIT = st.floats(0, 0.9)


@given(
    width=st.integers(1, 400),
    height=st.integers(1, 400),
    side=st.integers(16, 96),
    resize=st.sampled_from(RESIZES),
    corner=st.tuples(UNIT, UNIT),
)
def test_stored_and_input_pixels_are_inverse(width, height, side, resize, corner):
    size = ImageSize(width, height)
    _, placement = fit_image(np.zeros((height, width), np.uint8), side, resize)
    x, y = corner[0] * width, corner[1] * height
    box = np.array([[x, y, x + 0.1 * width, y + 0.1 * height]], np.float32)
    back, has_area = placement.to_stored(placement.to_input(box), size)
    assert has_area.tolist() == [True]
    assert back == pytest.approx(box, abs=2e-3 * max(1, width / side, height / side))
    whole = np.array([[0, 0, width, height]], np.float32)
    corners = placement.to_input(whole)[0]
    if resize == "letterbox":
        assert corners.min() >= 0
        assert corners.max() <= side
    elif resize == "stretch":
        assert corners == pytest.approx(np.array([0, 0, side, side]), abs=1e-3)
    else:
        assert corners[:2].max() <= 0
        assert corners[2:].min() >= side - 1


def test_boxes_beyond_the_image_are_clipped_or_lose_their_area():
    size = ImageSize(200, 100)
    _, placement = placed(100, 200, 100, "letterbox")
    boxes, has_area = placement.to_stored(np.array([[-10, 20, 50, 200], [0, 0, 100, 20]], np.float32), size)
    assert boxes[0].tolist() == [0, 0, 100, 100]
    assert has_area.tolist() == [True, False]
    assert boxes.dtype == np.float32
