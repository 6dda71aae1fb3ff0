"""Smaller images."""

import cv2
import numpy as np
from numpy.typing import NDArray


def shrink(image: NDArray[np.unsignedinteger], longer_side: int) -> NDArray[np.unsignedinteger]:
    """Reduce an image until its longer side has at most `longer_side` pixels; never enlarge.

    Shapes: u8 or u16 [H, W]. Each new pixel is the mean of the area that it covers (INTER_AREA), so
    that thin lines fade instead of vanishing. The other side is rounded, to 1 pixel at least.
    """
    if longer_side < 1:
        raise ValueError(f"longer side {longer_side}, expected at least 1 pixel")
    height, width = image.shape
    if max(height, width) <= longer_side:
        return image
    scale = longer_side / max(height, width)
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    return np.asarray(cv2.resize(image, size, interpolation=cv2.INTER_AREA), dtype=image.dtype)
