"""A random part of the image, enlarged to the whole: boxes go along, parts and sides are as configured."""

import numpy as np
import pytest

from siimdet.augment import Augmenter
from siimdet.config.augment import Augment, ResizedCrop

SIDE = 128


def noise() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (SIDE, SIDE), np.uint8)


def run(scale: tuple[float, float], image: np.ndarray, boxes: list, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    augmenter = Augmenter(Augment(resized_crop=ResizedCrop(p=1, scale=scale)))
    out, xyxy, _ = augmenter.boxes(image, np.array(boxes, np.float32), np.arange(len(boxes)), seed=seed)
    assert (out.shape, out.dtype) == (image.shape, image.dtype)
    return out, xyxy


def test_boxes_after_a_crop_bound_the_enlarged_rectangle():
    image = np.zeros((SIDE, SIDE), np.uint8)
    image[50:70, 40:80] = 255
    for seed in range(60):
        out, xyxy = run((0.3, 0.9), image, [[40, 50, 80, 70]], seed)
        columns, rows = np.flatnonzero((out > 127).any(0)), np.flatnonzero((out > 127).any(1))
        assert xyxy[0] == pytest.approx([columns[0], rows[0], columns[-1] + 1, rows[-1] + 1], abs=1.5)


def test_crops_have_the_configured_parts_of_the_area_and_sides_up_to_four_to_three():
    parts, ratios = [], []
    for seed in range(200):
        _, xyxy = run((0.25, 0.5), noise(), [[0, 0, SIDE, SIDE], [60, 60, 68, 68]], seed)
        assert xyxy[0].tolist() == [0, 0, SIDE, SIDE]
        if len(xyxy) == 2 and xyxy[1].min() > 0 and xyxy[1].max() < SIDE:  # all of the mark is in view
            width, height = xyxy[1, 2:] - xyxy[1, :2]
            parts.append(64 / (width * height))
            ratios.append(height / width)
    assert len(parts) > 100
    assert 0.245 < min(parts) < 0.28
    assert 0.47 < max(parts) < 0.51
    assert 0.74 < min(ratios) < 0.8
    assert 1.26 < max(ratios) < 1.36


def test_a_crop_of_everything_changes_nothing():
    image, xyxy = run((1, 1), noise(), [[3, 4, 50, 60]])
    assert (image == noise()).all()
    assert xyxy[0] == pytest.approx([3, 4, 50, 60], abs=1e-4)


def test_images_of_floats_stay_in_the_unit_interval():
    image = noise().astype(np.float32) / 255
    for seed in range(10):
        out, _ = run((0.1, 1), image, [[0, 0, SIDE, SIDE]], seed)
        assert 0 <= out.min() <= out.max() <= 1
