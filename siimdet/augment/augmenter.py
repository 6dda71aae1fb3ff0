"""Augmentation of greyscale training images; boxes move along. The only albumentations import.

Every draw comes from the seed that the caller passes: the same seed, image and boxes give the same
result, whatever ran before and in whichever process. albumentations draws what takes more than one
number: parts, kernels, rectangles. Its Compose and the passes of its steps over the pixels take several
times as long as what they do (tools/bench_loader.py), so the pixels are moved here: all geometry by one
matrix, and by no interpolation where flips are all there is.
"""

import os
import random
from typing import cast

os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")  # without it the import asks the network for updates

import albumentations as A
import cv2
import numpy as np
from numpy.typing import NDArray

from siimdet.augment.geometry import Matrix, enlarged, flipped, move_boxes, turned, warp
from siimdet.augment.pixels import Disc, blur, brighten, cut_out, sharpen
from siimdet.config import Augment
from siimdet.core.boxes import has_area
from siimdet.core.types import ImageSize

Boxes = NDArray[np.float32]
MIN_VISIBLE = 0.1
"""A box of which less than this part stays in view is a sliver and is dropped."""
MIN_SIDE = 2.0
"""So is one that the border cuts to less than this, in px; a box that is as small by itself stays."""
_ROUNDING = 1e-6
"""Part of a box that the border may seem to cut off by rounding alone."""
LIMIT = 0.2
"""Largest change of contrast, as a factor, and of brightness, as a part of the full range."""


class Augmenter:
    """The transforms of a config, in its order."""

    def __init__(self, augment: Augment) -> None:
        self._augment = augment
        self._sharpen = A.Sharpen()
        self._blur = A.GaussianBlur(blur_limit=(3, 7))
        scale = augment.resized_crop.scale if augment.resized_crop else (1.0, 1.0)
        self._crop = A.RandomResizedCrop(size=(1, 1), scale=scale)  # draws the part alone; its size plays no role
        area = augment.erase.area if augment.erase else (0.0, 0.0)
        self._erase = A.Erasing(scale=area, fill="random", p=1)

    def boxes(
        self, image: NDArray, xyxy: Boxes, class_ids: NDArray[np.int64], *, seed: int
    ) -> tuple[NDArray, Boxes, NDArray[np.int64]]:
        """Augment [H, W], uint8 or f32 in [0, 1], with its boxes f32[N, 4] xyxy px; the size stays.

        Slivers at the border are dropped. Where nothing happens, the image that comes back is the one that came.
        """
        # One stream of draws for all steps: with a seed each, flip, rotation and cut-outs would come together.
        draws = random.Random(seed)
        size = ImageSize(image.shape[1], image.shape[0])
        image, matrix = self._move(image, size, draws)
        image = self._change_greys(image, draws, seed)
        moved, visible = move_boxes(xyxy.astype(np.float64), matrix, size)
        kept = (visible >= MIN_VISIBLE) & ((visible > 1 - _ROUNDING) | (_shorter_side(moved) >= MIN_SIDE))
        moved = moved.astype(np.float32)
        kept &= has_area(moved)  # which rounding takes from a box of a hundred-thousandth of a pixel
        return image, moved[kept], class_ids[kept]

    def _move(self, image: NDArray, size: ImageSize, draws: random.Random) -> tuple[NDArray, Matrix]:
        augment = self._augment
        left_right, up_down = (draws.random() < p for p in (augment.horizontal_flip, augment.vertical_flip))
        matrix, part = flipped(size, left_right=left_right, up_down=up_down), None
        if augment.resized_crop and draws.random() < augment.resized_crop.p:
            self._crop.set_random_state(_NO_ARRAYS, draws)
            part = self._crop.get_params_dependent_on_data({"shape": image.shape}, {})["crop_coords"]
            matrix = enlarged(size, part) @ matrix
        if augment.affine and draws.random() < augment.affine.p:
            affine = augment.affine
            degrees = draws.uniform(-affine.rotate, affine.rotate)
            x, y = (int(draws.uniform(-affine.shift, affine.shift) * side) for side in (size.width, size.height))
            matrix = turned(size, degrees=degrees, shift=(x, y)) @ matrix
            return warp(image, matrix), matrix
        if left_right or up_down:
            image = cv2.flip(image, -1 if left_right and up_down else int(left_right))
        if part is not None:
            x1, y1, x2, y2 = part
            image = cv2.resize(image[y1:y2, x1:x2], (size.width, size.height), interpolation=cv2.INTER_LINEAR)
        return image, matrix

    def _change_greys(self, image: NDArray, draws: random.Random, seed: int) -> NDArray:
        augment = self._augment
        drawn = draws.random()
        if drawn < augment.sharpen:
            self._sharpen.set_random_state(_NO_ARRAYS, draws)
            image = sharpen(image, self._sharpen.get_params()["sharpening_matrix"])
        elif drawn < augment.sharpen + augment.blur:
            self._blur.set_random_state(_NO_ARRAYS, draws)
            kernel = cast(NDArray, self._blur.get_params_dependent_on_data({}, {})["kernel"])
            image = blur(image, kernel)
        if draws.random() < augment.brightness_contrast:
            contrast, brightness = 1 + draws.uniform(-LIMIT, LIMIT), draws.uniform(-LIMIT, LIMIT)
            image = brighten(image, contrast=contrast, brightness=brightness)
        if augment.cutout and draws.random() < augment.cutout.p:
            image = cut_out(image, _discs(draws, image.shape, augment.cutout.holes, augment.cutout.radius))
        if augment.erase and draws.random() < augment.erase.p:
            self._erase.set_random_state(np.random.default_rng(seed), draws)
            image = self._erase(image=image[:, :, None])["image"][:, :, 0]
        return image


_NO_ARRAYS = np.random.default_rng(0)
"""For steps of albumentations that take all their draws from the other generator."""


def _shorter_side(xyxy: NDArray[np.float64]) -> NDArray[np.float64]:
    return (xyxy[:, 2:] - xyxy[:, :2]).min(1, initial=np.inf)


def _discs(draws: random.Random, shape: tuple[int, ...], holes: int, radius: float) -> list[Disc]:
    """1 to `holes` discs of .25 to 1 times the radius, a part of the shorter side."""
    height, width = shape
    return [
        (draws.uniform(0, width), draws.uniform(0, height), draws.uniform(0.25, 1) * radius * min(width, height))
        for _ in range(draws.randint(1, holes))
    ]
