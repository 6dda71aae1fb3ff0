"""Our passes over the pixels are those of albumentations' steps, which they take the place of."""

import random

import albumentations as A
import cv2
import numpy as np
import pytest

from siimdet.augment.geometry import enlarged, move_boxes, turned, warp
from siimdet.augment.pixels import blur, brighten, sharpen
from siimdet.core.types import ImageSize

SIZE = ImageSize(120, 96)
SMOOTH = cv2.GaussianBlur(np.random.default_rng(0).integers(0, 256, (SIZE.height, SIZE.width), np.uint8), (0, 0), 2)
IMAGES = {"uint8": SMOOTH, "float32": SMOOTH.astype(np.float32) / 255}


def drawn(step: A.BasicTransform, seed: int) -> dict:
    """What a step draws by a seed."""
    step.set_random_state(np.random.default_rng(seed), random.Random(seed))
    params, image = step.get_params(), SMOOTH[:, :, None]
    return params | step.get_params_dependent_on_data({"shape": image.shape, **params}, {"image": image})


@pytest.mark.parametrize("image", IMAGES.values(), ids=IMAGES)
@pytest.mark.parametrize("seed", range(5))
def test_sharpening_and_blurring_are_equal(image, seed):
    step = A.Sharpen()
    params = drawn(step, seed)
    assert np.array_equal(sharpen(image, params["sharpening_matrix"]), step.apply(image, **params))
    step = A.GaussianBlur(blur_limit=(3, 7))
    params = drawn(step, seed)
    assert np.array_equal(blur(image, params["kernel"]), step.apply(image, **params))


@pytest.mark.parametrize("seed", range(5))
def test_brightness_and_contrast_are_equal_but_for_rounding(seed):
    params = drawn(A.RandomBrightnessContrast(), seed)
    contrast, brightness = params["alpha"], params["beta"] / 255
    ours = brighten(IMAGES["uint8"], contrast=contrast, brightness=brightness)
    theirs = A.RandomBrightnessContrast().apply(IMAGES["uint8"], **params)
    exact = np.clip(IMAGES["uint8"] * contrast + brightness * 255, 0, 255)
    assert np.abs(ours - exact).max() <= 0.5 + 1e-3  # the nearest grey
    assert np.abs(theirs - exact).max() <= 1  # cut off
    ours = brighten(IMAGES["float32"], contrast=contrast, brightness=brightness)
    theirs = A.RandomBrightnessContrast().apply(IMAGES["float32"], alpha=contrast, beta=brightness)
    assert ours == pytest.approx(theirs, abs=1e-6)


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("kind", [{"rotate": (-20, 20)}, {"translate_percent": (-0.1, 0.1)}], ids=["rotation", "shift"])
def test_rotations_and_shifts_are_equal(kind, seed):
    step = A.Affine(**kind, rotate_method="largest_box")
    params = drawn(step, seed)
    shift = (0, 0) if "rotate" in kind else (int(params["matrix"][0, 2]), int(params["matrix"][1, 2]))
    matrix = turned(SIZE, degrees=params["rotate"], shift=shift)
    apart = np.abs(warp(SMOOTH, matrix) - step.apply(SMOOTH, **params).astype(float))
    assert apart.max() <= 1  # where rounding of the last digit of a matrix turns a grey over
    assert (apart > 0).mean() < 0.001
    boxes = np.array([[50, 40, 70, 60], [30, 35, 60, 42]], np.float64)
    moved, visible = move_boxes(boxes, matrix, SIZE)
    whole = np.array([SIZE.width, SIZE.height] * 2)
    theirs = step.apply_to_bboxes(boxes / whole, **{**params, "shape": (SIZE.height, SIZE.width, 1)})
    assert moved == pytest.approx(theirs * whole, abs=1e-4)
    assert visible.tolist() == [1, 1]


def test_of_a_box_that_the_border_cuts_what_is_in_view_counts():
    # Turned by 45 degrees, a square becomes a diamond that reaches 60 px from its centre: to the sides of 120
    # columns, and 12 px beyond the top and the bottom of 96 rows, where triangles of base 24 are cut off.
    half = 60 / np.sqrt(2)
    boxes = np.array([[60 - half, 48 - half, 60 + half, 48 + half]])
    moved, visible = move_boxes(boxes, turned(SIZE, degrees=45, shift=(0, 0)), SIZE)
    assert moved[0] == pytest.approx([0, 0, 120, 96])
    assert visible == pytest.approx([1 - 2 * 12**2 / 7200])
    # Of its left corner 30 columns are in view: a triangle of base 60, which the box about the diamond exceeds.
    moved, visible = move_boxes(boxes, turned(SIZE, degrees=45, shift=(90, 0)), SIZE)
    assert moved[0] == pytest.approx([90, 18, 120, 78])
    assert visible == pytest.approx([30**2 / 7200])
    assert move_boxes(boxes, turned(SIZE, degrees=45, shift=(200, 0)), SIZE)[1].tolist() == [0]


def test_a_part_is_stretched_to_the_whole():
    boxes = np.array([[30, 24, 60, 48], [0, 0, 45, 24]], np.float64)
    moved, visible = move_boxes(boxes, enlarged(SIZE, (30, 24, 90, 72)), SIZE)
    assert moved.tolist() == [[0, 0, 60, 48], [0, 0, 0, 0]]
    assert visible.tolist() == [1, 0]
