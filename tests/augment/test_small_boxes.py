"""Boxes of a few pixels: what the border cuts to a sliver goes, what is small by itself stays."""

import numpy as np

from siimdet.augment import MIN_SIDE, MIN_VISIBLE, Augmenter
from siimdet.config.augment import Affine, Augment, ResizedCrop

SIDE = 128
NOISE = np.random.default_rng(0).integers(0, 256, (SIDE, SIDE), np.uint8)


def run(augment: Augment | Augmenter, image: np.ndarray, boxes: list, seed: int = 0):
    """The image, its boxes and their places in the list that went in."""
    augmenter = augment if isinstance(augment, Augmenter) else Augmenter(augment)
    return augmenter.boxes(image, np.array(boxes, np.float32), np.arange(len(boxes)), seed=seed)


def test_slivers_are_dropped_and_only_they():
    augmenter = Augmenter(Augment(affine=Affine(p=1, rotate=0, shift=0.3)))
    kept, rectangle = 0, np.zeros((SIDE, SIDE), np.uint8)
    rectangle[54:74, :20] = 255
    for seed in range(120):
        image, xyxy, class_ids = run(augmenter, rectangle, [[0, 54, 20, 74]], seed)
        columns = int((image > 127).any(0).sum())
        assert len(xyxy) == len(class_ids)
        if len(xyxy):
            kept += 1
            width, height = xyxy[0, 2:] - xyxy[0, :2]
            assert min(width, height) >= MIN_SIDE
            assert width * height >= MIN_VISIBLE * 400
            assert (xyxy >= 0).all()
        else:
            assert columns <= 3
    assert 0 < kept < 120


def test_small_boxes_stay_where_nothing_moves_them():
    boxes = [[10, 20, 11, 50], [0, 0, 1.5, 1.5], [127, 60, 128, 60.25]]
    for augment in (Augment(), Augment(brightness_contrast=1, sharpen=1)):
        _, xyxy, class_ids = run(augment, NOISE, boxes)
        assert (xyxy.tolist(), class_ids.tolist()) == (boxes, [0, 1, 2])


def test_small_boxes_move_with_the_image_as_long_as_the_border_cuts_none_of_them():
    _, xyxy, _ = run(Augment(horizontal_flip=1), NOISE, [[10, 20, 11, 50], [0, 0, 1.5, 1.5]])
    assert xyxy.tolist() == [[117, 20, 118, 50], [126.5, 0, 128, 1.5]]
    turn = Augmenter(Augment(affine=Affine(p=1, rotate=20)))
    part = Augmenter(Augment(resized_crop=ResizedCrop(p=1, scale=(0.8, 1))))
    for seed in range(40):
        _, turned, _ = run(turn, NOISE, [[60, 64, 61, 64.5]], seed)
        assert (turned[0, 2:] - turned[0, :2] < 1.4).all()
        _, enlarged, _ = run(part, NOISE, [[60, 64, 61, 64.5]], seed)
        assert ((enlarged[0, 2:] - enlarged[0, :2]) / (1, 0.5) < 1.5).all()


def test_of_a_cut_box_less_than_two_pixels_are_dropped_however_small_it_was():
    shift = Augmenter(Augment(affine=Affine(p=1, rotate=0, shift=0.05)))
    kept = []
    for seed in range(120):
        _, xyxy, _ = run(shift, NOISE, [[0, 60, 3, 64], [40, 60, 43, 64]], seed)
        moved = round(xyxy[-1, 0].item()) - 40
        kept.append((moved, len(xyxy) == 2))
    # Moved to the left by 0, 1, 2 px: 3, 2 and 1 px are left.
    assert {(moved, there) for moved, there in kept if moved > -3} == {
        *((0, True), (-1, True), (-2, False)),
        *((right, True) for right in range(1, 7)),
    }


def test_a_box_that_rounding_leaves_without_an_area_is_dropped():
    narrow = np.nextafter(np.float32(1), np.float32(2))  # a 2**-23th of a pixel, which floats near 127 do not resolve
    _, xyxy, class_ids = run(Augment(horizontal_flip=1), NOISE, [[1, 20, narrow, 50]])
    assert (len(xyxy), len(class_ids)) == (0, 0)
