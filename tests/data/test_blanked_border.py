"""The border set to black: how many pixels go, and that they are gone from the model's input."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from siimdet.core.types import BoxLabels, ImageRecord, ImageSize
from siimdet.data.border import blank_border
from siimdet.data.loader import Samples
from siimdet.data.placement import fit_image
from siimdet.errors import UserError
from siimdet.imaging.png import write_png


def test_a_fifth_of_every_side_by_hand():
    image = np.arange(1, 51, dtype=np.uint8).reshape(5, 10)
    expected = [
        [0, 0, 0, 0, 0, 0, 0, 0, 0, 0],
        [0, 0, 13, 14, 15, 16, 17, 18, 0, 0],
        [0, 0, 23, 24, 25, 26, 27, 28, 0, 0],
        [0, 0, 33, 34, 35, 36, 37, 38, 0, 0],
        [0, 0, 0, 0, 0, 0, 0, 0, 0, 0],
    ]
    assert blank_border(image, 0.2).tolist() == expected
    assert image.min() == 1


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.parametrize(
    ("height", "width", "share", "rows", "columns"),
    [
        (7, 9, 0.25, 2, 2),  # 1.75 and 2.25
        (10, 14, 0.25, 2, 4),  # 2.5 and 3.5: to the even one
        (9, 200, 0.05, 0, 10),  # 0.45: nothing
        (100, 300, 0.29, 29, 87),  # 28.999999999999996 in floats
        (4, 6, 0.49, 1, 2),  # 1.96 and 2.94: one less, or no pixel would stay
        (1, 2, 0.49, 0, 0),
    ],
)
def test_shares_are_whole_pixels_and_a_middle_stays(height, width, share, rows, columns, dtype):
    white = np.iinfo(dtype).max
    found = blank_border(np.full((height, width), white, dtype), share)
    assert found.dtype == dtype
    assert found.shape == (height, width)
    y, x = np.nonzero(found)
    assert (y.min(), height - 1 - y.max(), x.min(), width - 1 - x.max()) == (rows, rows, columns, columns)
    assert (found[rows : height - rows, columns : width - columns] == white).all()


@given(height=st.integers(1, 60), width=st.integers(1, 60), share=st.floats(0, 0.5, exclude_min=True, exclude_max=True))
def test_both_ends_of_an_axis_lose_as_much(height, width, share):
    found = blank_border(np.ones((height, width), np.uint8), share)
    assert found.any()
    assert np.array_equal(found, found[::-1, ::-1])
    for length, kept in ((height, found.any(axis=1).sum()), (width, found.any(axis=0).sum())):
        assert abs((length - kept) / 2 - share * length) <= (0.5 if round(share * length) * 2 < length else 1)


def test_a_mapped_file_is_copied(tmp_path):
    (tmp_path / "pixels").write_bytes(bytes(range(1, 26)))
    mapped = np.memmap(tmp_path / "pixels", np.uint8, "r", shape=(5, 5))
    found = blank_border(mapped, 0.4)
    assert found.tolist() == [[0] * 5] * 2 + [[0, 0, 13, 0, 0]] + [[0] * 5] * 2
    assert not np.shares_memory(found, mapped)
    assert found.flags.writeable
    assert (tmp_path / "pixels").read_bytes() == bytes(range(1, 26))


@pytest.mark.parametrize("share", [0.0, 0.5, -0.1, 1.0, float("nan"), float("inf")])
def test_a_share_that_is_none_or_leaves_nothing_is_refused(share):
    with pytest.raises(UserError, match=r"^--blank-border: share: found .*, expected a number above 0 and below 0.5$"):
        blank_border(np.ones((8, 8), np.uint8), share)


@pytest.mark.parametrize("resize", ["stretch", "letterbox", "shorter"])
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_the_loader_blanks_stored_pixels_and_resizes_then(tmp_path, dtype, resize):
    image = np.random.default_rng(0).integers(1, np.iinfo(dtype).max, (40, 61)).astype(dtype)
    write_png(tmp_path / "images" / "a.png", image)
    by_hand = image.copy()
    by_hand[:4], by_hand[36:], by_hand[:, :6], by_hand[:, 55:] = 0, 0, 0, 0
    size = ImageSize(61, 40)
    record = ImageRecord("a", "a", "a", "images/a.png", size, size, [1], "val")
    truth = {"a": BoxLabels([[0, 0, 61, 40]], [0], size)}
    samples = Samples(tmp_path, [record], truth, side=32, resize=resize, blank_share=0.1)
    pixels, _, boxes, *_ = samples[0, 0]
    expected = fit_image(by_hand, 32, resize)[0]
    assert pixels[0].numpy() == pytest.approx(expected if dtype == np.uint8 else expected / 65535, abs=1e-6)
    plain = Samples(tmp_path, [record], truth, side=32, resize=resize)[0, 0]
    assert (plain[0] != pixels).any()
    assert boxes.tolist() == plain[2].tolist()
