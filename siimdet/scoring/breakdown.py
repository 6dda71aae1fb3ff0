"""AP by size of the boxes and by group of images: where a detector is good, and where it is not.

Matching is siimdet.scoring.voc's, once, over everything. A difference between two parts may come from what is in them.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from siimdet.core.types import LabelSpace
from siimdet.scoring.box_tables import PredictedBoxes, TruthBoxes
from siimdet.scoring.voc import NO_TARGET, ClassCurve, VocScore, class_curve, find_hits, find_matches, score_hits

_OUTSIDE = -1
"""In place of a range: the area lies in none."""


@dataclass(frozen=True, slots=True, eq=False)
class AreaScore:
    """The curve of one class over the truths of area `low` <= area < `high`; the last range holds `high` too."""

    low: float
    high: float
    curve: ClassCurve


@dataclass(frozen=True, slots=True, eq=False)
class GroupScore:
    """The score of the images of one group alone; its curves count the truths by class."""

    name: str
    images: int
    score: VocScore


def ap_by_area(
    truth: TruthBoxes,
    predictions: PredictedBoxes,
    classes: LabelSpace,
    class_id: int,
    *,
    truth_areas: NDArray[np.float64],
    predicted_areas: NDArray[np.float64],
    edges: NDArray[np.float64],
) -> tuple[AreaScore, ...]:
    """The curve of one class for each of B ranges of area.

    A detection counts in the range of the truth that it is compared with, be it a hit or a duplicate; without such a
    truth it is a false positive in the range of its own area. What lies in no range counts nowhere.
    Shapes: truth_areas f64[M] and predicted_areas f64[N] in any unit, of all classes; edges f64[B + 1], rising.
    Raises: ValueError for areas that do not fit the boxes; as find_matches.
    Source: Lin et al., arXiv:1405.0312, and pycocotools, for ignoring what belongs to other ranges.
    """
    if len(truth_areas) != len(truth) or len(predicted_areas) != len(predictions):
        found = f"{len(truth_areas)} and {len(predicted_areas)} areas"
        raise ValueError(f"{found} for {len(truth)} true and {len(predictions)} predicted boxes, expected one each")
    hits, targets = find_matches(truth, predictions, classes)
    ranges = _ranges(truth_areas, edges)
    own = _ranges(predicted_areas, edges)
    aimed = targets != NO_TARGET
    own[aimed] = ranges[targets[aimed]]
    mine, truths = predictions.class_ids == class_id, ranges[truth.class_ids == class_id]
    scores = []
    for number, (low, high) in enumerate(zip(edges[:-1].tolist(), edges[1:].tolist(), strict=True)):
        kept, count = mine & (own == number), int((truths == number).sum())
        curve = class_curve(classes.names[class_id], predictions.scores[kept], hits[kept], count)
        scores.append(AreaScore(low, high, curve))
    return tuple(scores)


def tercile_edges(areas: NDArray[np.float64]) -> NDArray[np.float64]:
    """Edges from 0 to infinity of ranges that hold a third of the areas f64[M] each, as nearly as may be, f64[B + 1].

    Equal areas stay together, no range is empty, and an inner edge is the least area above it: with fewer than three
    different areas there are fewer than three ranges.
    """
    values, counts = np.unique(areas, return_counts=True)
    below = np.cumsum(counts)[:-1]
    thirds = [np.abs(below * 3 - part * len(areas)).argmin() for part in (1, 2) if len(below)]
    return np.concatenate([[0.0], values[1:][np.unique(np.array(thirds, np.int64))], [np.inf]])


def ap_by_group(
    truth: TruthBoxes, predictions: PredictedBoxes, classes: LabelSpace, groups: Sequence[str]
) -> tuple[GroupScore, ...]:
    """The score of each group of images, in the order of the groups' names.

    `groups` names the group of every image number. The score equals that of the group's images alone.
    Raises: ValueError for boxes of an image that has no group; as find_hits.
    """
    images = 1 + max(truth.images.max(initial=-1), predictions.images.max(initial=-1))
    if images > len(groups):
        raise ValueError(f"boxes of image number {images - 1}, expected a group for each, found {len(groups)}")
    hits = find_hits(truth, predictions, classes)
    names, group_of = np.unique(np.array(groups, dtype=object), return_inverse=True)
    true_groups, found_groups = group_of[truth.images], group_of[predictions.images]
    scores = []
    for number, (name, count) in enumerate(zip(names.tolist(), np.bincount(group_of).tolist(), strict=True)):
        kept = found_groups == number
        truths = truth.class_ids[true_groups == number]
        score = score_hits(truths, predictions.class_ids[kept], predictions.scores[kept], hits[kept], classes)
        scores.append(GroupScore(name, count, score))
    return tuple(scores)


def _ranges(areas: NDArray[np.float64], edges: NDArray[np.float64]) -> NDArray[np.int64]:
    """The range of every area, i64[N]."""
    found = np.searchsorted(edges[1:-1], areas, side="right")
    return np.where((areas >= edges[0]) & (areas <= edges[-1]), found, _OUTSIDE)
