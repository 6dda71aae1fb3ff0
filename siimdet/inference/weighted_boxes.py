"""Weighted box fusion of whole data sets in one kernel, bit for bit what ensemble_boxes 1.0.9 gives image by image.

Equal bits need its quirks too. An average of boxes is summed and kept in float32, a box that stays alone in float64.
Boxes of equal score come in the order of NumPy's default sort, which is not stable, so that sort is called and not
written anew. Boxes of weighted score 0 that become one have no average: their coordinates are NaN, and all that
follow, which have a score of 0 too, join them. A score divided by a weight of 0 is NaN.

Shapes: N boxes of all images and models, F fused ones, M models, G groups of an image's boxes of one class.
Source: Solovyev et al., arXiv:1910.13302, section 3.
"""

from dataclasses import dataclass
from itertools import pairwise
from typing import Literal, get_args

import numba
import numpy as np
from numpy.typing import NDArray

ConfType = Literal["avg", "max", "box_and_model_avg", "absent_model_aware_avg"]
CONF_TYPES: tuple[ConfType, ...] = get_args(ConfType)
_NEARLY = 1 - 1e-12
"""A quotient above x, however rounded, has a numerator above x times this times the denominator."""


@dataclass(frozen=True, slots=True, eq=False)
class FusedBoxes:
    """Fused boxes of many images, image by image, the highest score first.

    Shapes: images i64[F], xyxy f64[F, 4] in [0, 1] or NaN, scores f64[F] or NaN, class_ids i64[F].
    """

    images: NDArray[np.int64]
    xyxy: NDArray[np.float64]
    scores: NDArray[np.float64]
    class_ids: NDArray[np.int64]


def weighted_boxes(
    images: NDArray[np.int64],
    models: NDArray[np.int64],
    xyxy: NDArray[np.float64],
    scores: NDArray[np.floating],
    class_ids: NDArray[np.int64],
    *,
    weights: NDArray[np.float64],
    min_iou: float,
    conf_type: ConfType = "avg",
    skip_below: float = 0.0,
) -> FusedBoxes:
    """Fuse the boxes of each image and class that overlap by more than `min_iou`, which is in [0, 1].

    Shapes: images i64[N] ascending, models i64[N] ascending within an image, xyxy f64[N, 4] as shares of the image,
    scores f[N] of 0 or more, class_ids i64[N], weights f64[M] of 0 or more. Corners are put in order and
    cut at the image's border; boxes without an area are left out, and those of a score below `skip_below`, compared
    in the scores' own precision.

    A fused box's score comes from the weighted scores of its boxes. avg: their sum by the sum of all weights, their
    mean times M by it where there are more boxes than models. max: the highest by the highest weight.
    box_and_model_avg: their sum by their weights, times the share of all weights that their models have.
    absent_model_aware_avg: their sum by their weights and those of the models that have none of them.
    """
    corners, has_area = _cut(xyxy.astype(np.float64))
    rows = np.flatnonzero((scores >= skip_below) & has_area)
    rows = rows[_by_class(images[rows], class_ids[rows])]
    weighted = scores.astype(np.float64) * weights[models]
    starts = _starts(images[rows], class_ids[rows])
    rows = rows[_falling(weighted[rows], starts)]
    firsts, corners, totals, members = _fuse(
        starts, np.diff(starts).max(), corners[rows], weighted[rows], models[rows], weights, float(min_iou)
    )
    rows = rows[firsts]
    values = _scores(weighted[rows], totals, members, weights, conf_type)
    order = _falling(values, _starts(images[rows]))
    rows = rows[order]
    return FusedBoxes(images[rows], corners[order], values[order], class_ids[rows])


def _scores(
    highest: NDArray[np.float64],
    totals: NDArray[np.float64],
    members: NDArray[np.bool_],
    weights: NDArray[np.float64],
    conf_type: ConfType,
) -> NDArray[np.float64]:
    """Scores f64[F] of fused boxes from highest f64[F], totals f64[F, 3] and members bool[F, M]."""
    score, weight, boxes = totals.T
    mean = highest if conf_type == "max" else score / boxes
    mean = np.where(boxes > 1, mean.astype(np.float32), mean)
    weight = np.where(boxes > 1, weight.astype(np.float32), weight)
    if conf_type == "max":
        return mean / weights.max()
    if conf_type == "avg":
        return mean * np.minimum(boxes, len(weights)) / weights.sum()
    with np.errstate(invalid="ignore"):
        if conf_type == "box_and_model_avg":
            return mean * boxes / weight * _weight_of(members, weights) / weights.sum()
        return mean * boxes / (weight + _weight_of(~members, weights))


def _weight_of(members: NDArray[np.bool_], weights: NDArray[np.float64]) -> NDArray[np.float64]:
    """Sums f64[F] of the weights f64[M] that each row of members bool[F, M] has.

    Each distinct row is summed by itself: with zeros for the others eight and more weights add up in another order.
    """
    sets, own = np.unique(members, axis=0, return_inverse=True)
    return np.array([weights[chosen].sum() for chosen in sets])[own]


def _starts(*columns: NDArray[np.int64]) -> NDArray[np.int64]:
    """Where runs of equal rows start, and the end of the last; columns i64[N]."""
    new = np.any([column[1:] != column[:-1] for column in columns], axis=0)
    return np.concatenate([[0], np.flatnonzero(new) + 1, [len(columns[0])]])


def _falling(values: NDArray[np.float64], starts: NDArray[np.int64]) -> NDArray[np.int64]:
    """The rows of every run by value, the highest first, equal ones as NumPy's default sort leaves them."""
    order = np.empty(len(values), np.int64)
    for start, end in pairwise(starts):
        order[start:end] = start + values[start:end].argsort()[::-1]
    return order


@numba.njit
def _cut(xyxy):
    """Put the corners of xyxy f64[N, 4] in order, cut them to [0, 1], in place; whether an area is left, bool[N]."""
    has_area = np.empty(len(xyxy), np.bool_)
    for n in range(len(xyxy)):
        box = xyxy[n]
        for low, high in ((0, 2), (1, 3)):
            if box[high] < box[low]:
                box[low], box[high] = box[high], box[low]
        for side in range(4):
            if box[side] < 0:
                box[side] = 0
            if box[side] > 1:
                box[side] = 1
        has_area[n] = (box[2] - box[0]) * (box[3] - box[1]) != 0
    return xyxy, has_area


@numba.njit
def _by_class(images, class_ids):
    """Rows i64[N] in which each image's boxes of a class stand together, classes in the order of their first boxes."""
    order = np.empty(len(images), np.int64)
    placed = np.zeros(len(images), np.bool_)
    count = 0
    for first in range(len(images)):
        if placed[first]:
            continue
        for box in range(first, len(images)):
            if images[box] != images[first]:
                break
            if not placed[box] and class_ids[box] == class_ids[first]:
                order[count], placed[box] = box, True
                count += 1
    return order


@numba.njit(error_model="numpy")
def _fuse(starts, room, xyxy, scores, models, weights, min_iou):
    """What each group becomes: rows i64[F] of first boxes, corners f64[F, 4], totals f64[F, 3], members bool[F, M].

    Group g of xyxy f64[N, 4], weighted scores f64[N] and models i64[N] lies at starts[g]:starts[g + 1], the highest
    score first; the largest has `room` boxes. Totals are the sums of score and weight and the number of boxes.
    """
    means, sums, spare = np.empty((5, room)), np.empty((room, 4), np.float32), np.empty(room)
    rows, corners, totals = np.empty(len(xyxy), np.int64), np.empty((len(xyxy), 4)), np.zeros((len(xyxy), 3))
    members = np.zeros((len(xyxy), len(weights)), np.bool_)
    made = 0
    for group in range(len(starts) - 1):
        count, without_mean = 0, -1
        for box in range(starts[group], starts[group + 1]):
            c = without_mean
            if c < 0:
                c = _nearest(means, count, xyxy[box], min_iou, spare)
            if c < 0:
                c, count = count, count + 1
                rows[made + c] = box
            _join(means, sums, c, totals[made + c], xyxy[box], scores[box], weights[models[box]])
            members[made + c, models[box]] = True
            if totals[made + c, 0] == 0 and totals[made + c, 2] > 1:
                without_mean = c
        for c in range(count):
            for side in range(4):
                corners[made + c, side] = means[side, c]
        made += count
    return rows[:made], corners[:made], totals[:made], members[:made]


@numba.njit(error_model="numpy")
def _nearest(means, count, box, min_iou, spare):
    """Which of means[:, :count] overlaps the box most, the first of equals; -1 where none does by more than min_iou."""
    x1, y1, x2, y2 = box[0], box[1], box[2], box[3]
    area, least = (x2 - x1) * (y2 - y1), min_iou * _NEARLY
    # Contiguous rows and no branches become vector instructions; the few candidates that are left are divided.
    left, top, right, bottom, areas = means[0], means[1], means[2], means[3], means[4]
    candidates = 0
    for c in range(count):
        width = max(min(right[c], x2) - max(left[c], x1), 0.0)
        overlap = width * (min(bottom[c], y2) - max(top[c], y1))
        spare[c] = overlap - least * (areas[c] + area - overlap)
        candidates += spare[c] > 0
    best, nearest = min_iou, -1
    for c in range(count if candidates else 0):
        if spare[c] > 0:
            overlap = (min(right[c], x2) - max(left[c], x1)) * (min(bottom[c], y2) - max(top[c], y1))
            iou = overlap / (areas[c] + area - overlap)
            if iou > best:
                best, nearest = iou, c
    return nearest


@numba.njit(error_model="numpy")
def _join(means, sums, c, totals, box, score, weight):
    """Add a box to fused box c of means f64[5, C] (corners, area) and sums f32[C, 4], and to its totals f64[3]."""
    totals[0] += score
    totals[1] += weight
    totals[2] += 1
    for side in range(4):
        if totals[2] == 1:
            sums[c, side] = 0
        sums[c, side] = np.float32(sums[c, side] + score * box[side])
        means[side, c] = box[side] if totals[2] == 1 else np.float32(sums[c, side] / totals[0])
    means[4, c] = (means[2, c] - means[0, c]) * (means[3, c] - means[1, c])
