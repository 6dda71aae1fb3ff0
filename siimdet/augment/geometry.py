"""Where pixels and boxes go: flips, a crop, rotation and shift as one matrix.

Matrices f64[3, 3] take continuous coordinates (x, y, 1), in which the image covers 0 to its width and height.
"""

import math

import cv2
import numpy as np
from numpy.typing import NDArray

from siimdet.core.types import ImageSize

Matrix = NDArray[np.float64]
Point = tuple[float, float]
_TO_CENTRES = np.array([[1, 0, -0.5], [0, 1, -0.5], [0, 0, 1]])
_FROM_CENTRES = np.array([[1, 0, 0.5], [0, 1, 0.5], [0, 0, 1]])


def flipped(size: ImageSize, *, left_right: bool, up_down: bool) -> Matrix:
    """Mirrors about the middle."""
    matrix = np.eye(3)
    if left_right:
        matrix[0, (0, 2)] = -1, size.width
    if up_down:
        matrix[1, (1, 2)] = -1, size.height
    return matrix


def enlarged(size: ImageSize, part: tuple[int, int, int, int]) -> Matrix:
    """A part x1, y1, x2, y2 stretched to the whole."""
    x1, y1, x2, y2 = part
    x, y = size.width / (x2 - x1), size.height / (y2 - y1)
    return np.array([[x, 0, -x * x1], [0, y, -y * y1], [0, 0, 1]])


def turned(size: ImageSize, *, degrees: float, shift: tuple[int, int]) -> Matrix:
    """A rotation about the centre, anticlockwise to the eye, then a shift in pixels to the right and down."""
    x, y, angle = size.width / 2, size.height / 2, math.radians(degrees)
    c, s = math.cos(angle), math.sin(angle)
    return np.array([[c, s, x - c * x - s * y + shift[0]], [-s, c, y + s * x - c * y + shift[1]], [0, 0, 1]])


def warp(image: NDArray, matrix: Matrix) -> NDArray:
    """The image [H, W] moved by a matrix, interpolated between pixels; what comes into view is black."""
    centred = (_TO_CENTRES @ matrix @ _FROM_CENTRES)[:2]  # OpenCV's coordinates are those of pixel centres
    return cv2.warpAffine(image, centred, image.shape[::-1], flags=cv2.INTER_LINEAR)


def move_boxes(xyxy: NDArray[np.float64], matrix: Matrix, size: ImageSize) -> tuple[NDArray[np.float64], NDArray]:
    """What is in view of boxes f64[N, 4] that a matrix moves: its bounds, and f64[N], its part of the box's area."""
    corners = xyxy[:, [0, 1, 2, 1, 2, 3, 0, 3]].reshape(-1, 4, 2) @ matrix[:2, :2].T + matrix[:2, 2]
    low, high = corners.min(1), corners.max(1)
    bounds, visible = np.concatenate([low, high], axis=1), np.ones(len(xyxy))
    outside = (low < 0).any(1) | (high > (size.width, size.height)).any(1)
    for index in np.flatnonzero(outside).tolist():
        bounds[index], visible[index] = _in_view(corners[index].tolist(), size)
    return bounds, visible


def _in_view(corners: list[Point], size: ImageSize) -> tuple[tuple[float, float, float, float], float]:
    """Bounds of the part of a convex polygon that is in view, and how much of its area that is.

    The box about a turned rectangle, cut at the border, would be wider than what there is to see.
    """
    part = corners
    for axis, limit, sign in ((0, 0, 1), (1, 0, 1), (0, size.width, -1), (1, size.height, -1)):
        part = _cut(part, axis, limit, sign)
    whole, seen = _area(corners), _area(part)
    if not seen > 0 or not whole > 0:
        return (0.0, 0.0, 0.0, 0.0), 0.0
    columns, rows = [x for x, _ in part], [y for _, y in part]
    return (min(columns), min(rows), max(columns), max(rows)), seen / whole


def _cut(polygon: list[Point], axis: int, limit: float, sign: int) -> list[Point]:
    """The part of a polygon on one side of a line parallel to an axis (Sutherland and Hodgman, 1974)."""
    kept: list[Point] = []
    for start, end in zip(polygon, polygon[1:] + polygon[:1], strict=True):
        before, after = sign * (start[axis] - limit), sign * (end[axis] - limit)
        if before >= 0:
            kept.append((start[0], start[1]))
        if before * after < 0:
            share = before / (before - after)
            crossing = [a + share * (b - a) for a, b in zip(start, end, strict=True)]
            crossing[axis] = limit  # exactly, or the rounding would lie outside
            kept.append((crossing[0], crossing[1]))
    return kept


def _area(polygon: list[Point]) -> float:
    pairs = zip(polygon, polygon[1:] + polygon[:1], strict=True)
    return abs(sum(a[0] * b[1] - b[0] * a[1] for a, b in pairs)) / 2
