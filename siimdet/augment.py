"""Augmentation of greyscale training images; boxes move along. The only albumentations import.

Every draw comes from the seed that the caller passes: the same seed, image and boxes give the same
result, whatever ran before and in whichever process.
"""

import os
import random

os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")  # without it the import asks the network for updates

import albumentations as A
import cv2
import numpy as np
from numpy.typing import NDArray

from siimdet.config import Augment

Boxes = NDArray[np.float32]
MIN_VISIBLE = 0.1
"""A box of which less than this part stays in view, or less than MIN_SIDE px, is a sliver and is dropped."""
MIN_SIDE = 2.0


class CircularCutout(A.DualTransform):
    """1 to `holes` discs filled with black; boxes stay. albumentations' own CoarseDropout is rectangular."""

    def __init__(self, holes: int, radius: float, p: float) -> None:
        super().__init__(p=p)
        self.holes = holes
        self.radius = radius

    def get_params_dependent_on_data(self, params: dict, data: dict) -> dict:
        """Draw centres and radii, in pixels."""
        height, width = params["shape"][:2]
        number = self.py_random.randint(1, self.holes)
        discs = [
            (
                self.py_random.uniform(0, width),
                self.py_random.uniform(0, height),
                self.py_random.uniform(0.25, 1) * self.radius * min(width, height),
            )
            for _ in range(number)
        ]
        return {"discs": discs}

    def apply(self, img: NDArray, discs: list[tuple[float, float, float]], **params: object) -> NDArray:
        """Fill the discs."""
        image = np.ascontiguousarray(img).copy()
        for x, y, radius in discs:
            cv2.circle(image, (round(x), round(y)), round(radius), 0, -1)
        return image

    def apply_to_bboxes(self, bboxes: NDArray, discs: object, **params: object) -> NDArray:
        """Boxes stay."""
        return bboxes


class ResizedCrop(A.RandomResizedCrop):
    """A random part of the image, sides in 3:4 to 4:3, stretched to the image's own size; boxes move along."""

    def __init__(self, scale: tuple[float, float], p: float) -> None:
        super().__init__(size=(1, 1), scale=scale, p=p)  # the size of what comes in takes its place

    def apply(self, img: NDArray, crop_coords: tuple[int, int, int, int], **params: object) -> NDArray:
        """Cut the part out and enlarge it."""
        x1, y1, x2, y2 = crop_coords
        height, width = img.shape[:2]
        return cv2.resize(img[y1:y2, x1:x2], (width, height), interpolation=cv2.INTER_LINEAR).reshape(img.shape)


class Augmenter:
    """The transforms of a config."""

    def __init__(self, augment: Augment) -> None:
        self._steps = A.Compose(
            [*_steps(augment), A.NoOp()],  # Compose warns when none of its steps can take boxes, and NoOp can
            bbox_params=A.BboxParams(
                format="pascal_voc",
                label_fields=["class_ids"],
                min_visibility=MIN_VISIBLE,
                min_width=MIN_SIDE,
                min_height=MIN_SIDE,
                clip=True,
            ),
        )

    def boxes(
        self, image: NDArray, xyxy: Boxes, class_ids: NDArray[np.int64], *, seed: int
    ) -> tuple[NDArray, Boxes, NDArray[np.int64]]:
        """Augment [H, W], uint8 or f32 in [0, 1], with its boxes f32[N, 4] xyxy px; the size stays.

        Slivers at the border are dropped.
        """
        # set_random_seed gives every step the same seed: flip, rotation and cut-outs then come together or not at all.
        self._steps.set_random_state(np.random.default_rng(seed), random.Random(seed))
        out = self._steps(image=image[:, :, None], bboxes=xyxy.astype(np.float64), class_ids=class_ids)
        return (
            out["image"][:, :, 0],
            np.asarray(out["bboxes"], dtype=np.float32).reshape(-1, 4),
            np.asarray(out["class_ids"], dtype=np.int64).reshape(-1),
        )


def _steps(augment: Augment) -> list[A.BasicTransform | A.BaseCompose]:
    steps: list[A.BasicTransform | A.BaseCompose] = []
    if augment.horizontal_flip:
        steps.append(A.HorizontalFlip(p=augment.horizontal_flip))
    if augment.vertical_flip:
        steps.append(A.VerticalFlip(p=augment.vertical_flip))
    if augment.resized_crop:
        steps.append(ResizedCrop(augment.resized_crop.scale, p=augment.resized_crop.p))
    if augment.affine:
        shift = augment.affine.shift
        steps.append(
            A.Affine(
                rotate=(-augment.affine.rotate, augment.affine.rotate),
                translate_percent=(-shift, shift),
                rotate_method="largest_box",  # "ellipse" cuts 5-13 px off rectangles
                p=augment.affine.p,
            )
        )
    if augment.sharpen + augment.blur:
        # OneOf normalises its members' p: the sum is the chance that either happens.
        members = [A.Sharpen(p=augment.sharpen), A.GaussianBlur(blur_limit=(3, 7), p=augment.blur)]
        steps.append(A.OneOf([m for m in members if m.p], p=augment.sharpen + augment.blur))
    if augment.brightness_contrast:
        steps.append(A.RandomBrightnessContrast(p=augment.brightness_contrast))  # both limits are .2
    if augment.cutout:
        steps.append(CircularCutout(augment.cutout.holes, augment.cutout.radius, p=augment.cutout.p))
    if augment.erase:
        steps.append(A.Erasing(scale=augment.erase.area, fill="random", p=augment.erase.p))
    return steps
