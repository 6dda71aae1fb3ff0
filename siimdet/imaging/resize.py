"""Smaller images."""

from typing import Literal

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image

Resize = Literal["area", "lanczos"]
"""Each new pixel is the mean of the area that it covers, so that thin lines fade instead of vanishing
(INTER_AREA of OpenCV); or Pillow's Lanczos, pixel by pixel what most published PNG copies were made with."""


def shrink(image: NDArray[np.unsignedinteger], longer_side: int, resize: Resize = "area") -> NDArray:
    """Reduce an image until its longer side has at most `longer_side` pixels; never enlarge.

    Shapes: u8 or u16 [H, W], and so the result. The other side is rounded, to 1 pixel at least.
    """
    if longer_side < 1:
        raise ValueError(f"longer side {longer_side}, expected at least 1 pixel")
    height, width = image.shape
    if max(height, width) <= longer_side:
        return image
    scale = longer_side / max(height, width)
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    if resize == "lanczos":
        return _lanczos(image, size)
    return np.asarray(cv2.resize(image, size, interpolation=cv2.INTER_AREA), dtype=image.dtype)


def _lanczos(image: NDArray[np.unsignedinteger], size: tuple[int, int]) -> NDArray[np.unsignedinteger]:
    if image.dtype == np.uint8:
        return np.asarray(Image.fromarray(image).resize(size, Image.Resampling.LANCZOS))
    # Pillow's own 16-bit mode has no such filter; float32 holds every level.
    resized = Image.fromarray(image.astype(np.float32)).resize(size, Image.Resampling.LANCZOS)
    return np.rint(np.clip(np.asarray(resized), 0, 65535)).astype(np.uint16)
