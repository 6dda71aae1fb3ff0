"""Fusing the boxes of several detectors, or of one detector's several passes. The only ensemble_boxes import."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from typing import Any, Literal, get_args

import ensemble_boxes
import numpy as np
from numpy.typing import NDArray

from siimdet.core.boxes import has_area, iou_matrix
from siimdet.core.types import Detections, ImageSize
from siimdet.errors import FusionError
from siimdet.inference.weighted_boxes import CONF_TYPES, ConfType, FusedBoxes, weighted_boxes

Method = Literal["wbf", "nms", "soft-nms", "nmw"]
SOFT_NMS_SIGMA, SOFT_NMS_LOWEST = 0.5, 0.001
"""Width of the decay, as in the paper, and the score at which a box is given up."""

MIN_IOU = 0.55
"""Of fusion, where none is given."""
HEAVIEST = 10**6
"""The highest weight of a model: products with scores are summed in float32."""


@dataclass(frozen=True, slots=True, eq=False)
class ModelBoxes:
    """The boxes of several models as columns, image by image and model by model.

    Shapes: `sizes` by image id, sorted. Of N boxes images i64[N] (places in `sizes`), numbers i64[N] of their models,
    xyxy f64[N, 4] as shares of the image, scores f32[N], class_ids i64[N]. `models` is how many there are.
    """

    sizes: Mapping[str, ImageSize]
    models: int
    images: NDArray[np.int64]
    numbers: NDArray[np.int64]
    xyxy: NDArray[np.float64]
    scores: NDArray[np.float32]
    class_ids: NDArray[np.int64]


@dataclass(frozen=True, slots=True, eq=False)
class PixelBoxes:
    """Fused boxes, image by image: images i64[F], xyxy f32[F, 4] in pixels, scores f32[F] above 0, class_ids i64[F]."""

    images: NDArray[np.int64]
    xyxy: NDArray[np.float32]
    scores: NDArray[np.float32]
    class_ids: NDArray[np.int64]


def fuse(
    models: Sequence[Mapping[str, Detections]],
    *,
    method: Method = "wbf",
    min_iou: float | None = None,
    weights: Sequence[float] | None = None,
    conf_type: ConfType | None = None,
    skip_below: float | None = None,
) -> dict[str, Detections]:
    """Fuse each image's boxes across models; an image that a model lacks has no boxes from it.

    Weighted box fusion averages boxes of a class that overlap by more than `min_iou` (None: MIN_IOU),
    weighted by score and model, and lowers the score of what few models see; nmw averages too and keeps
    the best score; nms keeps the best box of those that overlap, soft-nms (Gaussian, without `min_iou`)
    lowers the scores of the rest. All but weighted box fusion multiply scores by the model's share of the
    highest weight. Weighted box fusion alone has a `conf_type`, how scores become one (None: avg; see
    weighted_boxes), and `skip_below`, a score under which boxes are left out (None: none is).
    Boxes of score 0 and those of a model of weight 0 are left out before they fuse.
    Raises: FusionError if models disagree on an image's size or an option does not fit.
    Source: Solovyev et al., arXiv:1910.13302; Bodla et al., arXiv:1704.04503; Zhou et al., ICCVW 2017.
    """
    _check_options(method, min_iou, conf_type, skip_below)
    _check_weights(weights, len(models))
    min_iou = MIN_IOU if min_iou is None else min_iou
    if method == "wbf":
        found = collect(models)
        fused = fuse_weighted(found, min_iou=min_iou, weights=weights, conf_type=conf_type, skip_below=skip_below)
        return by_image(fused, found.sizes)
    sizes = _common_sizes(models)
    return by_image(_in_pixels(_fuse_by_image(models, sizes, weights, min_iou, method), sizes), sizes) if sizes else {}


def collect(models: Sequence[Mapping[str, Detections]]) -> ModelBoxes:
    """What weighted box fusion takes of models, once for many fusions. Raises: FusionError as fuse."""
    sizes = _common_sizes(models)
    found = [
        (image, model, boxes[image_id])
        for image, image_id in enumerate(sizes)
        for model, boxes in enumerate(models)
        if image_id in boxes
    ]
    counts = [len(each) for *_, each in found]
    images = np.repeat(np.array([image for image, *_ in found], np.int64), counts)
    xyxy = np.concatenate([np.zeros((0, 4), np.float32), *(each.xyxy for *_, each in found)])
    return ModelBoxes(
        sizes=sizes,
        models=len(models),
        images=images,
        numbers=np.repeat(np.array([model for _, model, _ in found], np.int64), counts),
        xyxy=xyxy / _extents(sizes)[images],
        scores=np.concatenate([np.zeros(0, np.float32), *(each.scores for *_, each in found)]),
        class_ids=np.concatenate([np.zeros(0, np.int64), *(each.class_ids for *_, each in found)]),
    )


def fuse_weighted(
    found: ModelBoxes,
    *,
    min_iou: float,
    weights: Sequence[float] | None = None,
    conf_type: ConfType | None = None,
    skip_below: float | None = None,
) -> PixelBoxes:
    """Weighted box fusion as fuse, of columns and into columns. Raises: FusionError for options that do not fit."""
    _check_options("wbf", min_iou, conf_type, skip_below)
    _check_weights(weights, found.models)
    shares = np.ones(found.models) if weights is None else np.array(weights, np.float64)
    # The kernel would count boxes without weight in the mean, by which .8 and 0 of one model become .4.
    carries = (found.scores > 0) & (shares[found.numbers] > 0)
    fused = weighted_boxes(
        found.images[carries],
        found.numbers[carries],
        found.xyxy[carries],
        found.scores[carries],
        found.class_ids[carries],
        weights=shares,
        min_iou=min_iou,
        conf_type=conf_type or "avg",
        skip_below=skip_below or 0.0,
    )
    return _in_pixels(fused, found.sizes)


def by_image(fused: PixelBoxes, sizes: Mapping[str, ImageSize]) -> dict[str, Detections]:
    """Boxes by image id, in the order of `sizes`, which numbers the images."""
    places = np.searchsorted(fused.images, np.arange(len(sizes) + 1))
    return {
        image_id: Detections(fused.xyxy[start:end], fused.class_ids[start:end], fused.scores[start:end], size)
        for (image_id, size), (start, end) in zip(sizes.items(), pairwise(places), strict=True)
    }


def _fuse_by_image(
    models: Sequence[Mapping[str, Detections]],
    sizes: Mapping[str, ImageSize],
    weights: Sequence[float] | None,
    min_iou: float,
    method: Method,
) -> FusedBoxes:
    parts = []
    for image, (image_id, size) in enumerate(sizes.items()):
        found = [model.get(image_id, Detections.empty(size)) for model in models]
        xyxy, scores, class_ids = _fuse_image(found, size, method, min_iou, weights)
        order = np.argsort(-scores, kind="stable")
        parts.append((np.full(len(order), image), xyxy[order], scores[order], class_ids[order]))
    images, xyxy, scores, class_ids = (np.concatenate(column) for column in zip(*parts, strict=True))
    return FusedBoxes(images, xyxy, scores, class_ids)


def _fuse_image(
    found: Sequence[Detections], size: ImageSize, method: Method, min_iou: float, weights: Sequence[float] | None
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.int64]]:
    """Boxes as shares of the image, scores and class ids, by a method that is not wbf."""
    # By the highest weight: the library's nms divides by their sum, by which equal weights would lower all scores.
    shares = np.ones(len(found)) if weights is None else np.array(weights, np.float64) / max(weights)
    weighted = [each.scores * share for each, share in zip(found, shares, strict=True)]
    # Boxes without weight would have nmw divide by 0.
    carries = [scores > 0 for scores in weighted]
    if not any(mask.any() for mask in carries):
        return np.zeros((0, 4)), np.zeros(0), np.zeros(0, np.int64)
    extent = np.array([size.width, size.height, size.width, size.height], np.float64)
    run: dict[Method, Any] = {
        "nms": partial(ensemble_boxes.nms, iou_thr=min_iou),
        "soft-nms": _soft_nms,
        "nmw": partial(ensemble_boxes.non_maximum_weighted, iou_thr=min_iou),
    }
    xyxy, scores, class_ids = run[method](
        [np.clip(each.xyxy[mask] / extent, 0, 1) for each, mask in zip(found, carries, strict=True)],
        [scores[mask] for scores, mask in zip(weighted, carries, strict=True)],
        [each.class_ids[mask] for each, mask in zip(found, carries, strict=True)],
    )
    return np.asarray(xyxy).reshape(-1, 4), np.asarray(scores), np.asarray(class_ids).astype(np.int64)


def _in_pixels(fused: FusedBoxes, sizes: Mapping[str, ImageSize]) -> PixelBoxes:
    """In pixels of the images, which `sizes` numbers; what has no area or no score goes."""
    extents = _extents(sizes)[fused.images]
    xyxy = np.clip(fused.xyxy * extents, 0, extents).astype(np.float32)
    kept = has_area(xyxy) & (fused.scores > 0)
    scores = np.clip(fused.scores[kept], 0, 1).astype(np.float32)
    return PixelBoxes(fused.images[kept], xyxy[kept], scores, fused.class_ids[kept])


def _extents(sizes: Mapping[str, ImageSize]) -> NDArray[np.float64]:
    """Width, height, width, height of every image, f64[images, 4]."""
    return np.array([(size.width, size.height) * 2 for size in sizes.values()], np.float64).reshape(-1, 4)


def _soft_nms(
    boxes: Sequence[NDArray], scores: Sequence[NDArray], labels: Sequence[NDArray]
) -> tuple[NDArray, NDArray, NDArray]:
    """Gaussian soft-NMS per class; ensemble_boxes' own returns the scores from before it lowered them."""
    xyxy, class_ids, values = np.concatenate(boxes), np.concatenate(labels), np.concatenate(scores)
    decay = np.exp(-(iou_matrix(xyxy, xyxy) ** 2) / SOFT_NMS_SIGMA)
    decay[class_ids[:, None] != class_ids] = 1
    waiting = np.ones(len(values), bool)
    while waiting.any():
        best = np.where(waiting, values, -1).argmax()
        waiting[best] = False
        values[waiting] *= decay[best, waiting]
    kept = values > SOFT_NMS_LOWEST
    return xyxy[kept], values[kept], class_ids[kept]


def _common_sizes(models: Sequence[Mapping[str, Detections]]) -> dict[str, ImageSize]:
    """Size of every image that any model has, by image id, sorted."""
    return {image_id: _common_size(image_id, models) for image_id in sorted({i for model in models for i in model})}


def _common_size(image_id: str, models: Sequence[Mapping[str, Detections]]) -> ImageSize:
    sizes = {model[image_id].size for model in models if image_id in model}
    if len(sizes) > 1:
        raise FusionError(f"image {image_id}", "size", found=sorted(sizes), expected="one size in all models")
    return sizes.pop()


def _check_options(method: Method, min_iou: float | None, conf_type: ConfType | None, skip_below: float | None) -> None:
    if method not in get_args(Method):
        raise FusionError("fusion", "method", found=method, expected=f"one of {', '.join(get_args(Method))}")
    if method == "soft-nms" and min_iou is not None:
        raise FusionError("fusion", "min_iou", found=min_iou, expected="nothing: only wbf, nms and nmw have it")
    if min_iou is not None and not 0 <= min_iou <= 1:
        raise FusionError("fusion", "min_iou", found=min_iou, expected="a number from 0 to 1")
    for name, value in (("conf_type", conf_type), ("skip_below", skip_below)):
        if method != "wbf" and value is not None:
            raise FusionError("fusion", name, found=value, expected="nothing: only wbf has it")
    if conf_type is not None and conf_type not in CONF_TYPES:
        raise FusionError("fusion", "conf_type", found=conf_type, expected=f"one of {', '.join(CONF_TYPES)}")


def _check_weights(weights: Sequence[float] | None, models: int) -> None:
    if weights is None:
        return
    if len(weights) != models:
        raise FusionError("fusion", "weights", found=len(weights), expected=f"{models}, one per model")
    if not all(0 <= weight <= HEAVIEST for weight in weights) or not any(weights):
        expected = f"numbers from 0 to {HEAVIEST}, one of them above 0"
        raise FusionError("fusion", "weights", found=list(weights), expected=expected)
