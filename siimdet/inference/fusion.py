"""Fusing the boxes of several detectors, or of one detector's several passes. The only ensemble_boxes import."""

from collections.abc import Mapping, Sequence
from typing import Any, Literal

import ensemble_boxes
import numpy as np
from numpy.typing import NDArray

from siimdet.core.boxes import has_area, iou_matrix
from siimdet.core.types import Detections, ImageSize
from siimdet.errors import FusionError

Method = Literal["wbf", "nms", "soft-nms", "nmw"]
SOFT_NMS_SIGMA, SOFT_NMS_LOWEST = 0.5, 0.001
"""Width of the decay, as in the paper, and the score at which a box is given up."""


def fuse(
    models: Sequence[Mapping[str, Detections]],
    *,
    method: Method = "wbf",
    min_iou: float = 0.55,
    weights: Sequence[float] | None = None,
) -> dict[str, Detections]:
    """Fuse each image's boxes across models; an image that a model lacks has no boxes from it.

    Weighted box fusion averages boxes of a class that overlap by more than `min_iou`, weighted by
    score and model, and lowers the score of what few models see; nmw averages too and keeps the best
    score; nms keeps the best box of those that overlap, soft-nms (Gaussian, without `min_iou`) lowers
    the scores of the rest. A box of score 0 carries no weight and is left out.
    Raises: FusionError if models disagree on an image's size or the weights do not fit.
    Source: Solovyev et al., arXiv:1910.13302; Bodla et al., arXiv:1704.04503; Zhou et al., ICCVW 2017.
    """
    if weights is not None and len(weights) != len(models):
        raise FusionError("fusion", "weights", found=len(weights), expected=f"{len(models)}, one per model")
    ids = sorted({image_id for model in models for image_id in model})
    fused = {}
    for image_id in ids:
        size = _common_size(image_id, models)
        found = [model.get(image_id, Detections.empty(size)) for model in models]
        fused[image_id] = _fuse_image(found, size, method, min_iou, weights)
    return fused


def _fuse_image(
    found: Sequence[Detections], size: ImageSize, method: Method, min_iou: float, weights: Sequence[float] | None
) -> Detections:
    carries = [f.scores > 0 for f in found]
    if not any(mask.any() for mask in carries):
        return Detections.empty(size)
    extent = np.array([size.width, size.height, size.width, size.height], np.float64)
    boxes = [np.clip(f.xyxy[mask] / extent, 0, 1) for f, mask in zip(found, carries, strict=True)]
    scores = [f.scores[mask] for f, mask in zip(found, carries, strict=True)]
    labels = [f.class_ids[mask] for f, mask in zip(found, carries, strict=True)]
    run: dict[Method, Any] = {
        "wbf": ensemble_boxes.weighted_boxes_fusion,
        "nms": ensemble_boxes.nms,
        "soft-nms": _soft_nms,
        "nmw": ensemble_boxes.non_maximum_weighted,
    }
    xyxy, values, class_ids = run[method](boxes, scores, labels, weights=weights, iou_thr=min_iou)
    xyxy = np.clip(np.asarray(xyxy).reshape(-1, 4) * extent, 0, extent).astype(np.float32)
    kept = has_area(xyxy)
    values = np.clip(np.asarray(values), 0, 1)
    order = np.argsort(-values[kept], kind="stable")
    return Detections(xyxy[kept][order], np.asarray(class_ids)[kept][order].astype(np.int64), values[kept][order], size)


def _soft_nms(
    boxes: Sequence[NDArray],
    scores: Sequence[NDArray],
    labels: Sequence[NDArray],
    *,
    weights: Sequence[float] | None,
    iou_thr: float,
) -> tuple[NDArray, NDArray, NDArray]:
    """Gaussian soft-NMS per class; ensemble_boxes' own returns the scores from before it lowered them."""
    shares = np.ones(len(boxes)) if weights is None else np.divide(weights, np.sum(weights))
    xyxy, class_ids = np.concatenate(boxes), np.concatenate(labels)
    values = np.concatenate([s.astype(np.float64) * share for s, share in zip(scores, shares, strict=True)])
    decay = np.exp(-(iou_matrix(xyxy, xyxy) ** 2) / SOFT_NMS_SIGMA)
    decay[class_ids[:, None] != class_ids] = 1
    waiting = np.ones(len(values), bool)
    while waiting.any():
        best = np.where(waiting, values, -1).argmax()
        waiting[best] = False
        values[waiting] *= decay[best, waiting]
    kept = values > SOFT_NMS_LOWEST
    return xyxy[kept], values[kept], class_ids[kept]


def _common_size(image_id: str, models: Sequence[Mapping[str, Detections]]) -> ImageSize:
    sizes = {model[image_id].size for model in models if image_id in model}
    if len(sizes) > 1:
        raise FusionError(f"image {image_id}", "size", found=sorted(sizes), expected="one size in all models")
    return sizes.pop()
