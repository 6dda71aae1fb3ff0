"""Where a stored image lies in a model's square input: the one change between their pixels."""

from dataclasses import dataclass
from typing import Literal

import cv2
import numpy as np
from numpy.typing import NDArray

from siimdet.core.boxes import clip_boxes, has_area
from siimdet.core.types import ImageSize

Resize = Literal["stretch", "letterbox", "shorter"]
SHORTER_MARGIN = 8 / 7
"""`shorter` fits the shorter side to this many times the input's side: 256 for a centre of 224."""


@dataclass(frozen=True, slots=True)
class Placement:
    """Where a stored image lies in the model's square: input px = stored px x scale + offset."""

    scale: tuple[float, float]
    offset: tuple[float, float]

    def to_input(self, xyxy: NDArray) -> NDArray[np.float32]:
        """Boxes [N, 4] of the stored image in input pixels; they may reach outside the square."""
        return (np.asarray(xyxy, np.float64) * (self.scale * 2) + (self.offset * 2)).astype(np.float32)

    def to_stored(self, xyxy: NDArray, size: ImageSize) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
        """Boxes [N, 4] of the input in stored pixels, clipped; and bool[N], which of them have an area."""
        boxes = (np.asarray(xyxy, np.float64) - (self.offset * 2)) / (self.scale * 2)
        clipped = clip_boxes(boxes, size).astype(np.float32)
        return clipped, has_area(clipped)


def place(size: ImageSize, side: int, resize: Resize) -> Placement:
    """Where fit_image puts an image of that size."""
    width, height = _scaled(size, side, resize)
    offset = float((side - width) // 2), float((side - height) // 2)
    return Placement((width / size.width, height / size.height), offset)


def fit_image(image: NDArray, side: int, resize: Resize) -> tuple[NDArray, Placement]:
    """Fit [H, W] into a square of `side` px: distorted, padded with black, or cut out of the centre."""
    size = ImageSize(image.shape[1], image.shape[0])
    placement, new = place(size, side, resize), _scaled(size, side, resize)
    shrinks = new[0] < size.width or new[1] < size.height
    scaled = cv2.resize(image, new, interpolation=cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR)
    left, top = map(int, placement.offset)
    square = np.zeros((side, side), image.dtype)
    x1, y1, x2, y2 = max(left, 0), max(top, 0), min(left + new[0], side), min(top + new[1], side)
    square[y1:y2, x1:x2] = scaled[y1 - top : y2 - top, x1 - left : x2 - left]
    return square, placement


def _scaled(size: ImageSize, side: int, resize: Resize) -> tuple[int, int]:
    """Width and height of the whole image at the input's scale."""
    if resize == "stretch":
        return side, side
    longer, shorter = max(size.width, size.height), min(size.width, size.height)
    fitted = side / longer if resize == "letterbox" else side * SHORTER_MARGIN / shorter
    return max(1, round(size.width * fitted)), max(1, round(size.height * fitted))
