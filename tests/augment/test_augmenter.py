"""Augmentation: boxes go where the pixels go, figures hold, and the seed alone decides."""

import math

import cv2
import numpy as np
import pytest

from siimdet.augment import Augmenter
from siimdet.config.augment import Affine, Augment, Cutout, Erase, ResizedCrop

SIDE = 128
EVERYTHING = Augment(
    horizontal_flip=0.5,
    vertical_flip=0.5,
    resized_crop=ResizedCrop(p=0.5, scale=(0.5, 1)),
    affine=Affine(p=0.8, rotate=20, shift=0.0625),
    sharpen=0.5,
    blur=0.25,
    brightness_contrast=0.5,
    cutout=Cutout(p=0.5, holes=6, radius=0.05),
    erase=Erase(p=0.5, area=(0.01, 0.1)),
)


def noise(seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (SIDE, SIDE), np.uint8)


def rectangle(x1: int, y1: int, x2: int, y2: int) -> np.ndarray:
    image = np.zeros((SIDE, SIDE), np.uint8)
    image[y1:y2, x1:x2] = 255
    return image


def extent(image: np.ndarray) -> list[int]:
    """Box of the pixels of at least half brightness."""
    columns, rows = np.flatnonzero((image > 127).any(0)), np.flatnonzero((image > 127).any(1))
    return [columns[0], rows[0], columns[-1] + 1, rows[-1] + 1]


def run(augment: Augment | Augmenter, image, boxes=(), class_ids=(), seed=0):
    augmenter = augment if isinstance(augment, Augmenter) else Augmenter(augment)
    return augmenter.boxes(image, np.array(boxes, np.float32).reshape(-1, 4), np.array(class_ids, np.int64), seed=seed)


def share(counted: int, tries: int, p: float) -> bool:
    """Whether a count is within five standard deviations of what a probability promises."""
    return abs(counted - p * tries) <= 5 * math.sqrt(p * (1 - p) * tries)


def test_no_augmentation_changes_nothing():
    image, xyxy, class_ids = run(Augment(), noise(), [[3, 4, 50, 60.5]], [7])
    assert (image == noise()).all()
    assert (xyxy.tolist(), class_ids.tolist()) == ([[3, 4, 50, 60.5]], [7])
    assert (image.dtype, xyxy.dtype, class_ids.dtype) == (np.uint8, np.float32, np.int64)


def test_a_flip_mirrors_pixels_and_boxes_and_classes_stay_with_their_boxes():
    boxes = [[10, 20, 30, 50], [64, 0, 128, 128]]
    image, xyxy, class_ids = run(Augment(horizontal_flip=1), noise(), boxes, [3, 7])
    assert (image == noise()[:, ::-1]).all()
    assert dict(zip(class_ids.tolist(), xyxy.tolist(), strict=True)) == {3: [98, 20, 118, 50], 7: [0, 0, 64, 128]}


def test_a_vertical_flip_mirrors_pixels_and_boxes_top_to_bottom():
    image, xyxy, class_ids = run(Augment(vertical_flip=1), noise(), [[10, 20, 30, 50]], [3])
    assert (image == noise()[::-1]).all()
    assert (xyxy.tolist(), class_ids.tolist()) == ([[10, 78, 30, 108]], [3])


@pytest.mark.parametrize("box", [(40, 50, 80, 70), (54, 34, 66, 94), (34, 40, 64, 64)])
def test_boxes_after_a_rotation_bound_the_rotated_rectangle(box):
    augmenter = Augmenter(Augment(affine=Affine(p=1, rotate=20)))
    for seed in range(40):
        image, xyxy, _ = run(augmenter, rectangle(*box), [box], [0], seed)
        assert xyxy[0] == pytest.approx(np.array(extent(image)), abs=1.5)


def test_rotations_reach_both_ways_up_to_the_angle_and_turn_about_the_centre():
    augmenter = Augmenter(Augment(affine=Affine(p=1, rotate=20)))
    angles = []
    for seed in range(80):
        image, _, _ = run(augmenter, rectangle(24, 60, 104, 68), seed=seed)
        rows, columns = np.nonzero(image > 127)
        assert (columns.mean(), rows.mean()) == pytest.approx((63.5, 63.5), abs=0.75)
        angles.append(math.degrees(np.polyfit(columns, rows, 1)[0]))
    assert -22 < min(angles) < -14
    assert 14 < max(angles) < 22


def test_a_shift_moves_boxes_and_pixels_by_the_same_and_no_further_than_configured():
    augmenter = Augmenter(Augment(affine=Affine(p=1, rotate=0, shift=0.0625)))
    moves = []
    for seed in range(60):
        image, xyxy, _ = run(augmenter, rectangle(40, 50, 80, 70), [[40, 50, 80, 70]], [0], seed)
        assert xyxy[0] == pytest.approx(np.array(extent(image)), abs=1)
        assert xyxy[0, 2:] - xyxy[0, :2] == pytest.approx(np.array([40, 20]), abs=1e-3)
        moves.append(xyxy[0, :2] - (40, 50))
    assert 6 <= np.abs(moves).max() <= 8
    assert np.min(moves) < 0 < np.max(moves)


def test_what_comes_into_view_is_black():
    image, _, _ = run(Augment(affine=Affine(p=1, rotate=20)), np.full((SIDE, SIDE), 255, np.uint8), seed=1)
    assert image.min() == 0
    assert image[SIDE // 2, SIDE // 2] == 255


def test_images_without_boxes_stay_without():
    for seed in range(20):
        image, xyxy, class_ids = run(EVERYTHING, noise(), seed=seed)
        assert (image.shape, xyxy.shape, class_ids.shape) == ((SIDE, SIDE), (0, 4), (0,))
        assert (xyxy.dtype, class_ids.dtype) == (np.float32, np.int64)


def discs(image: np.ndarray) -> np.ndarray:
    """Per black blob on white: width, height, area and whether it touches the border."""
    _, _, stats, _ = cv2.connectedComponentsWithStats((image == 0).astype(np.uint8))
    x, y, width, height, area = stats[1:].T
    border = (x == 0) | (y == 0) | (x + width == SIDE) | (y + height == SIDE)
    return np.stack([width, height, area, border], axis=1)


def test_a_cutout_is_a_black_disc():
    augmenter = Augmenter(Augment(cutout=Cutout(p=1, holes=1, radius=0.1)))
    widths = []
    for seed in range(60):
        image, _, _ = run(augmenter, np.full((SIDE, SIDE), 200, np.uint8), seed=seed)
        assert set(np.unique(image)) == {0, 200}
        blobs = discs(image)
        assert len(blobs) == 1
        width, height, area, border = blobs[0]
        if not border:
            assert width == height
            assert area == pytest.approx(math.pi * ((width - 1) / 2) ** 2, rel=0.15)
            widths.append(width)
    low, high = 2 * 0.25 * 0.1 * SIDE, 2 * 0.1 * SIDE
    assert low - 1 <= min(widths) < low + 6
    assert high - 6 < max(widths) <= high + 2


def test_one_to_six_holes_are_cut_and_boxes_stay():
    augmenter = Augmenter(Augment(cutout=Cutout(p=1, holes=6, radius=0.05)))
    box = [[10, 10, 120, 120]]
    numbers = []
    for seed in range(150):
        image, xyxy, _ = run(augmenter, np.full((SIDE, SIDE), 200, np.uint8), box, [0], seed)
        assert xyxy.tolist() == box
        numbers.append(len(discs(image)))
    assert set(numbers) == {1, 2, 3, 4, 5, 6}


def test_erasing_replaces_one_rectangle_within_the_bounds_of_its_area():
    augmenter = Augmenter(Augment(erase=Erase(p=1, area=(0.01, 0.1))))
    areas = []
    for seed in range(120):
        image, _, _ = run(augmenter, np.full((SIDE, SIDE), 7, np.uint8), seed=seed)
        rows, columns = np.nonzero(image != 7)
        area = (np.ptp(rows) + 1) * (np.ptp(columns) + 1)
        assert len(rows) >= 0.97 * area
        assert len(np.unique(image[image != 7])) > 40
        areas.append(area / SIDE**2)
    assert 0.008 <= min(areas) < 0.02
    assert 0.08 < max(areas) <= 0.105


def test_probabilities_are_those_of_the_config():
    tries, base = 300, noise()
    sharp = base.astype(float).std()
    flips = Augmenter(Augment(horizontal_flip=0.3))
    assert share(sum((run(flips, base, seed=s)[0] != base).any() for s in range(tries)), tries, 0.3)
    either = Augmenter(Augment(sharpen=0.5, blur=0.25))
    outputs = [run(either, base, seed=s)[0] for s in range(tries)]
    blurred = sum(out.std() < sharp - 5 for out in outputs)
    changed = sum((out != base).any() for out in outputs)
    assert share(changed, tries, 0.75)
    assert share(blurred, tries, 0.25)
    erased = Augmenter(Augment(erase=Erase(p=0.3, area=(0.01, 0.1))))
    assert share(sum((run(erased, base, seed=s)[0] != base).any() for s in range(tries)), tries, 0.3)


def test_each_step_is_drawn_for_itself():
    # A flip shows in the left half, a change of brightness in the level of the darkest pixel.
    augmenter = Augmenter(Augment(horizontal_flip=0.5, brightness_contrast=0.5))
    image = np.full((SIDE, SIDE), 60, np.uint8)
    image[:, : SIDE // 2] = 120
    tries, together = 300, {(flip, change): 0 for flip in (False, True) for change in (False, True)}
    for seed in range(tries):
        out = run(augmenter, image, seed=seed)[0]
        together[bool(out[0, 0] < out[0, -1]), set(np.unique(out)) != {60, 120}] += 1
    assert all(share(count, tries, 0.25) for count in together.values())


def test_brightness_and_contrast_change_by_a_fifth_at_most():
    augmenter = Augmenter(Augment(brightness_contrast=1))
    image = np.tile(np.array([100, 150], np.uint8), (SIDE, SIDE // 2))
    for seed in range(40):
        out = run(augmenter, image, seed=seed)[0].astype(float)
        contrast = (out.max() - out.min()) / 50
        assert 0.78 <= contrast <= 1.22
        assert abs(out.min() - 100 * contrast) <= 0.2 * 255 + 2


def test_the_seed_alone_decides_whatever_ran_before():
    boxes, class_ids = [[10, 20, 60, 90], [70, 30, 120, 80]], [0, 1]
    fresh, used = Augmenter(EVERYTHING), Augmenter(EVERYTHING)
    for seed in range(12):
        for other in range(seed % 3):
            run(used, noise(other), seed=1000 + other)
        np.random.seed(seed)
        first, second = (run(a, noise(), boxes, class_ids, seed) for a in (fresh, used))
        for left, right in zip(first, second, strict=True):
            assert np.array_equal(left, right)
    different = {run(fresh, noise(), boxes, class_ids, seed)[0].tobytes() for seed in range(12)}
    assert len(different) == 12


def test_sixteen_bit_images_pass_as_floats_in_the_unit_interval():
    image = noise().astype(np.float32) / 255
    for seed in range(20):
        out, _, _ = run(EVERYTHING, image, seed=seed)
        assert out.dtype == np.float32
        assert 0 <= out.min() <= out.max() <= 1
