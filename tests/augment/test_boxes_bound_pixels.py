"""A box drawn as a filled rectangle: after every transform it still holds the pixels, and is hardly larger."""

import numpy as np
import pytest
from hypothesis import assume, example, given
from hypothesis import strategies as st

from siimdet.augment import Augmenter
from siimdet.config.augment import Affine, Augment, Cutout, Erase, ResizedCrop

SIDE = 96
GEOMETRY = {
    "horizontal flip": {"horizontal_flip": 1},
    "vertical flip": {"vertical_flip": 1},
    "crop": {"resized_crop": ResizedCrop(p=1, scale=(0.3, 1))},
    "rotation": {"affine": Affine(p=1, rotate=20)},
    "any rotation": {"affine": Affine(p=1, rotate=180)},
    "shift": {"affine": Affine(p=1, rotate=0, shift=0.3)},
    "rotation and shift": {"affine": Affine(p=1, rotate=20, shift=0.0625)},
}
GREYS = {"sharpen": {"sharpen": 1}, "blur": {"blur": 1}, "brightness and contrast": {"brightness_contrast": 1}}
ALL_GEOMETRY = {
    "horizontal_flip": 0.5,
    "vertical_flip": 0.5,
    "resized_crop": ResizedCrop(p=0.5, scale=(0.3, 1)),
    "affine": Affine(p=0.7, rotate=20, shift=0.0625),
}
EVERYTHING = {"sharpen": 0.5, "blur": 0.25, "brightness_contrast": 0.5}
TOLERANCE = 2
"""Pixels by which a box may exceed what is drawn."""
HALF_COVERED, BLURRED = 0.5, 2.5
"""Pixels by which what is drawn may exceed its box. One that is covered by half is half bright. Near the border,
blurring takes the image for mirrored: a dark line beside it that is narrower than the kernel fills up."""

START, EXTENT = st.integers(0, SIDE - 12), st.integers(12, SIDE)
BOX = st.builds(
    lambda x, y, width, height: (x, y, min(x + width, SIDE), min(y + height, SIDE)), START, START, EXTENT, EXTENT
)
SEED = st.integers(0, 2**32 - 1)


def rectangle(box: tuple[int, int, int, int], dtype: type) -> np.ndarray:
    x1, y1, x2, y2 = box
    image = np.zeros((SIDE, SIDE), dtype)
    image[y1:y2, x1:x2] = 255 if dtype is np.uint8 else 1
    return image


def extent(mask: np.ndarray) -> np.ndarray:
    columns, rows = np.flatnonzero(mask.any(0)), np.flatnonzero(mask.any(1))
    return np.array([columns[0], rows[0], columns[-1] + 1, rows[-1] + 1])


def augmented(steps: dict, box: tuple[int, int, int, int], seed: int, dtype: type = np.uint8):
    boxes = np.array([box], np.float32)
    return Augmenter(Augment(**steps)).boxes(rectangle(box, dtype), boxes, np.zeros(1, np.int64), seed=seed)


def assert_bounds(image: np.ndarray, xyxy: np.ndarray, *, bright: float, faint: float, slack: float) -> None:
    """The box holds the bright pixels but for `slack` px, and exceeds the faint ones by little."""
    outwards = np.array([1, 1, -1, -1])
    assert (outwards * (extent(image > bright) - xyxy[0]) >= -slack - 1e-3).all()
    assert (outwards * (extent(image > faint) - xyxy[0]) <= TOLERANCE).all()


@pytest.mark.parametrize("steps", [*GEOMETRY.values(), ALL_GEOMETRY], ids=[*GEOMETRY, "all of them"])
@given(box=BOX, seed=SEED)
def test_boxes_move_with_their_pixels(steps, box, seed):
    image, xyxy, class_ids = augmented(steps, box, seed)
    if not len(xyxy):
        # A sliver: of what was drawn, hardly anything is in view.
        area = (box[2] - box[0]) * (box[3] - box[1])
        most = min(image.any(0).sum(), image.any(1).sum()) <= 4
        assert most or (image > 127).sum() < 0.13 * area * (1 / 0.3 if "resized_crop" in steps else 1)
        return
    assert class_ids.tolist() == [0]
    assert (xyxy >= 0).all() and (xyxy <= SIDE).all()
    inside = xyxy.min() > 0 and xyxy.max() < SIDE
    # Where the border cuts a turned box, what is left may end in a point that is too narrow to be half bright.
    assert_bounds(image, xyxy, bright=127, faint=127 if inside else 0, slack=HALF_COVERED)


@pytest.mark.parametrize("steps", [*GREYS.values()], ids=[*GREYS])
@pytest.mark.parametrize("dtype", [np.uint8, np.float32])
@given(box=BOX, seed=SEED)
def test_boxes_stay_where_only_greys_change(steps, dtype, box, seed):
    assume(min(box[2] - box[0], box[3] - box[1]) < SIDE)
    image, xyxy, _ = augmented(steps, box, seed, dtype)
    assert xyxy.tolist() == [list(box)]
    assume(image.min() < image.max())
    middle = (float(image.min()) + float(image.max())) / 2
    assert_bounds(image, xyxy, bright=middle, faint=middle, slack=BLURRED)


@given(box=BOX, seed=SEED)
def test_boxes_move_with_their_pixels_when_all_happens_together(box, seed):
    image, xyxy, _ = augmented(ALL_GEOMETRY | EVERYTHING, box, seed)
    assume(len(xyxy) == 1 and image.min() < image.max())
    # Brightness moves black and white, and sharpening widens their distance at edges: count from black.
    black, white = float(np.median(image[image < image.mean()])), float(image.max())
    bright, faint = black + (white - black) / 2, black + (white - black) / 8
    assert_bounds(image, xyxy, bright=bright, faint=faint, slack=BLURRED)


@given(box=BOX, seed=SEED)
@example(box=(0, 0, SIDE, SIDE), seed=0)
def test_holes_leave_every_box_where_it_is(box, seed):
    holes = {"cutout": Cutout(p=1, holes=6, radius=0.2), "erase": Erase(p=1, area=(0.01, 0.1))}
    image, xyxy, class_ids = augmented(ALL_GEOMETRY | EVERYTHING | holes, box, seed)
    without, same_xyxy, same_class_ids = augmented(ALL_GEOMETRY | EVERYTHING, box, seed)
    assert (xyxy.tolist(), class_ids.tolist()) == (same_xyxy.tolist(), same_class_ids.tolist())
    assert (image != without).any() or not without.any()
