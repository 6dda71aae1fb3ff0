"""Mean and deviation of grey: of pixels, not of images, and exact."""

import numpy as np
import pytest

from siimdet.core.types import ImageRecord, ImageSize
from siimdet.data.statistics import grey_statistics
from siimdet.errors import DatasetError
from siimdet.imaging.png import write_png


def records(root, *images: np.ndarray) -> list[ImageRecord]:
    made = []
    for index, image in enumerate(images):
        name, size = f"image{index}", ImageSize(image.shape[1], image.shape[0])
        write_png(root / f"{name}.png", image)
        made.append(ImageRecord(name, name, name, f"{name}.png", size, size, [1], "train"))
    return made


def test_every_pixel_counts_once_whatever_the_size_of_its_image(tmp_path):
    images = records(tmp_path, np.zeros((10, 30), np.uint8), np.full((10, 10), 255, np.uint8))
    assert grey_statistics(tmp_path, images, 8) == (0.25, pytest.approx(np.sqrt(3) / 4, abs=1e-15))


@pytest.mark.parametrize(("bit_depth", "dtype"), [(8, np.uint8), (16, np.uint16)])
def test_what_numpy_finds_over_all_pixels(tmp_path, bit_depth, dtype):
    rng = np.random.default_rng(0)
    images = [rng.integers(0, 2**bit_depth, shape, dtype) for shape in ((31, 17), (8, 90), (64, 64))]
    grey = np.concatenate([image.ravel() for image in images]) / (2**bit_depth - 1)
    mean, std = grey_statistics(tmp_path, records(tmp_path, *images), bit_depth)
    assert (mean, std) == (pytest.approx(grey.mean(), abs=1e-14), pytest.approx(grey.std(), abs=1e-14))


def test_a_deviation_that_floats_would_lose_is_kept(tmp_path):
    bright = np.full((1000, 1000), 65535, np.uint16)
    bright[0, 0] = 65534
    mean, std = grey_statistics(tmp_path, records(tmp_path, bright), 16)
    assert mean == pytest.approx(1 - 1e-6 / 65535, abs=1e-15)
    assert std == pytest.approx(np.sqrt(1e-6 * (1 - 1e-6)) / 65535, rel=1e-12)


def test_a_file_of_another_bit_depth_is_named(tmp_path):
    images = records(tmp_path, np.zeros((4, 4), np.uint8))
    with pytest.raises(DatasetError, match=r"image0\.png: bit depth: found 8 bits, expected 16 bits"):
        grey_statistics(tmp_path, images, 16)


def test_one_grey_level_has_no_deviation(tmp_path):
    images = records(tmp_path, np.full((4, 4), 9, np.uint8))
    with pytest.raises(DatasetError, match="grey levels: found 1 in the training images, expected 2 or more"):
        grey_statistics(tmp_path, images, 8)
