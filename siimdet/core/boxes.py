"""Box formats, clipping, scaling and overlap, all on continuous pixel coordinates.

Shapes: boxes f64[N, 4] or f32[N, 4]; xyxy = (x1, y1, x2, y2), xywh = (x1, y1, width, height) as in
COCO, cxcywhn = (centre x, centre y, width, height) as fractions of the image as in YOLO.
"""

import numpy as np
from numpy.typing import ArrayLike, NDArray

from siimdet.core.types import ImageSize


def xywh_to_xyxy(xywh: ArrayLike) -> NDArray[np.float64]:
    """COCO's corner and extent to two corners."""
    boxes = _boxes(xywh)
    return np.concatenate([boxes[:, :2], boxes[:, :2] + boxes[:, 2:]], axis=1)


def xyxy_to_xywh(xyxy: ArrayLike) -> NDArray[np.float64]:
    """Two corners to COCO's corner and extent."""
    boxes = _boxes(xyxy)
    return np.concatenate([boxes[:, :2], boxes[:, 2:] - boxes[:, :2]], axis=1)


def xyxy_to_cxcywhn(xyxy: ArrayLike, size: ImageSize) -> NDArray[np.float64]:
    """Two corners in pixels to YOLO's centre and extent as fractions of the image."""
    boxes = _boxes(xyxy) / _extent(size)
    return np.concatenate([(boxes[:, :2] + boxes[:, 2:]) / 2, boxes[:, 2:] - boxes[:, :2]], axis=1)


def cxcywhn_to_xyxy(cxcywhn: ArrayLike, size: ImageSize) -> NDArray[np.float64]:
    """YOLO's fractions to two corners in pixels."""
    boxes = _boxes(cxcywhn)
    half = boxes[:, 2:] / 2
    return np.concatenate([boxes[:, :2] - half, boxes[:, :2] + half], axis=1) * _extent(size)


def scale_boxes(xyxy: ArrayLike, source: ImageSize, target: ImageSize) -> NDArray[np.float64]:
    """Boxes of an image after the image was stretched from `source` to `target` size."""
    return _boxes(xyxy) * (_extent(target) / _extent(source))


def clip_boxes(xyxy: ArrayLike, size: ImageSize) -> NDArray[np.float64]:
    """Boxes cut at the image's border; those wholly outside lose their area."""
    return np.clip(_boxes(xyxy), 0, _extent(size))


def has_area(xyxy: ArrayLike) -> NDArray[np.bool_]:
    """bool[N]: x1 < x2 and y1 < y2, false for NaN."""
    boxes = _boxes(xyxy)
    return np.asarray((boxes[:, 2:] > boxes[:, :2]).all(axis=1))


def iou_matrix(left: ArrayLike, right: ArrayLike) -> NDArray[np.float64]:
    """Intersection over union of every pair: [N, 4] and [M, 4] to [N, M], continuous areas."""
    a, b = _boxes(left)[:, None], _boxes(right)[None]
    overlap = np.clip(np.minimum(a[..., 2:], b[..., 2:]) - np.maximum(a[..., :2], b[..., :2]), 0, None).prod(-1)
    union = (a[..., 2:] - a[..., :2]).prod(-1) + (b[..., 2:] - b[..., :2]).prod(-1) - overlap
    return np.divide(overlap, union, out=np.zeros_like(overlap), where=union > 0)


def _boxes(values: ArrayLike) -> NDArray[np.float64]:
    return np.asarray(values, dtype=np.float64).reshape(-1, 4)


def _extent(size: ImageSize) -> NDArray[np.float64]:
    return np.array([size.width, size.height, size.width, size.height], dtype=np.float64)
