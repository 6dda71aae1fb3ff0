"""What may happen to grey values, in one pass each: images u8[H, W], or f32[H, W] in [0, 1], stay what they are."""

from collections.abc import Iterable

import cv2
import numpy as np
from numpy.typing import NDArray

Disc = tuple[float, float, float]
"""Centre x, y and radius, in pixels."""


def sharpen(image: NDArray, kernel: NDArray[np.float32]) -> NDArray:
    """Filter by a kernel f32[3, 3]."""
    return _in_range(cv2.filter2D(image, -1, kernel))


def blur(image: NDArray, kernel: NDArray[np.float64]) -> NDArray:
    """Filter rows, then columns, by a kernel f64[K]."""
    return cv2.sepFilter2D(image, -1, kernel, kernel)


def brighten(image: NDArray, *, contrast: float, brightness: float) -> NDArray:
    """Multiply by the contrast and add the brightness, a part of the full range."""
    full = 255 if image.dtype == np.uint8 else 1
    return _in_range(cv2.addWeighted(image, contrast, image, 0, brightness * full))  # the fastest that saturates


def cut_out(image: NDArray, discs: Iterable[Disc]) -> NDArray:
    """Fill discs with black."""
    image = image.copy()
    for x, y, radius in discs:
        cv2.circle(image, (round(x), round(y)), round(radius), 0, -1)
    return image


def _in_range(image: NDArray) -> NDArray:
    # OpenCV saturates bytes itself.
    return image if image.dtype == np.uint8 else np.clip(image, 0, 1)
