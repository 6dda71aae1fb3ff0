"""What the border of an image tells, and that the inside does not."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from siimdet.data.border import border_pixels
from siimdet.data.border_features import CELLS, border_features
from siimdet.errors import ImageError
from siimdet.imaging.png import write_png

COLUMNS = 2 * (4 + 4 * CELLS)


def features(root, *images, share=0.1):
    paths = [root / f"image{i}.png" for i in range(len(images))]
    for image, path in zip(images, paths, strict=True):
        write_png(path, image)
    found = border_features(paths, share=share)
    assert found.dtype == np.float32
    return found


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("images")


def test_cells_by_hand(tmp_path):
    # 12 x 6 px, one pixel of border: four corners, then cells of 1 x 1, top and bottom of 2 or 3 px (10 px in four).
    image = np.zeros((6, 12), np.uint8)
    image[0] = [51, 0, 255, 0, 0, 0, 0, 0, 0, 0, 0, 102]
    image[3, 0], image[5, 11] = 204, 255
    row = features(tmp_path, image)[0].reshape(-1, 2)
    half = pytest.approx([0.5, 0.5])
    assert len(row) == 20
    assert row[0] == pytest.approx([0.2, 0.0])
    assert row[1] == half
    assert row[5] == pytest.approx([0.4, 0.0])
    # Below it: a left and a right cell in each of four rows, then the lowest row.
    assert row[6 + 2 * 2] == pytest.approx([0.8, 0.0])
    assert row[19] == pytest.approx([1.0, 0.0])
    assert np.count_nonzero(row.any(axis=1)) == 5


def test_white_is_one_at_either_depth(tmp_path):
    eight, sixteen = np.full((20, 30), 51, np.uint8), np.full((20, 30), 51 * 257, np.uint16)
    found = features(tmp_path, eight, sixteen)
    np.testing.assert_array_equal(found[0], found[1])
    assert found[0].reshape(-1, 2) == pytest.approx(np.tile([0.2, 0.0], (20, 1)))


@settings(max_examples=60)
@given(
    shape=st.tuples(st.integers(3, 40), st.integers(3, 40)), share=st.floats(0.05, 0.45), seed=st.integers(0, 2**32 - 1)
)
def test_the_inside_tells_nothing_and_every_pixel_of_the_border_does(folder, shape, share, seed):
    rng = np.random.default_rng(seed)
    image = rng.integers(0, 200, shape, np.uint8)
    inside = np.zeros(shape, bool)
    y, x = (max(1, border_pixels(length, share)) for length in shape)
    inside[y:-y, x:-x] = True
    other = np.where(inside, rng.integers(0, 200, shape), image).astype(np.uint8)
    places = np.argwhere(~inside)
    marked = image.copy()
    marked[tuple(places[rng.integers(len(places))])] = 255
    first, second, third = features(folder, image, other, marked, share=share)
    np.testing.assert_array_equal(first, second)
    assert (first != third).any()


def test_a_marker_in_a_corner_changes_that_corner_alone(tmp_path):
    image = np.random.default_rng(0).integers(0, 100, (200, 160), np.uint8)
    marked = image.copy()
    marked[4:12, 150:156] = 255
    plain, changed = features(tmp_path, image, marked)
    assert np.flatnonzero(plain != changed).tolist() == [2 * (CELLS + 1), 2 * (CELLS + 1) + 1]


@pytest.mark.parametrize("shape", [(1, 1), (2, 1), (1, 7), (2, 2), (3, 3)])
def test_images_of_few_pixels_are_all_border(tmp_path, shape):
    found = features(tmp_path, np.full(shape, 255, np.uint8), share=0.4)
    assert found.reshape(-1, 2).tolist() == [[1.0, 0.0]] * 20


def test_no_images_have_columns():
    assert border_features([]).shape == (0, COLUMNS)


@pytest.mark.parametrize("share", [0, 0.5, -0.1, float("nan")])
def test_a_share_that_leaves_no_border_or_no_inside_is_refused(share):
    with pytest.raises(ValueError, match=r"expected a number above 0 and below 0\.5"):
        border_features([], share=share)


def test_a_file_that_cannot_be_read_is_named(tmp_path):
    (tmp_path / "a.png").write_bytes(b"broken")
    with pytest.raises(ImageError, match=r"a\.png: file: found a file that starts with b'broken'"):
        border_features([tmp_path / "a.png"])
