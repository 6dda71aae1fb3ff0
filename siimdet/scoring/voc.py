"""PASCAL VOC 2010 average precision at IoU > 0.5, the score of the SIIM-FISABIO-RSNA competition.

A detection counts against one truth only: the one of its image and class that it overlaps most (the
first in the truth's own order if two overlap equally). It is a candidate if that overlap exceeds
0.5. A truth is hit by its highest-scored candidate; every other detection is a false positive, even
where a second truth would have done. AP is the area under the monotone envelope of the
precision-recall curve, every point of it (Everingham et al., IJCV 2010, section 4.2; the VOC 2010
development kit's VOCap.m). Areas are continuous: no + 1 on widths.

Row order plays no part. A detection's truth depends on nothing but the boxes, so candidates of
different truths never compete. Where several candidates of a truth share the highest score, exactly
one is the hit, and which one changes nothing, because equal scores form one step: the curve has one
point per distinct score, taken after all detections of that score. The curve is thus a function of
the counts per score alone, to the last digit.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numba
import numpy as np
from numpy.typing import NDArray

from siimdet.core.types import BoxLabels, Detections, LabelSpace
from siimdet.scoring.box_tables import PredictedBoxes, TruthBoxes, box_tables
from siimdet.scoring.score_steps import area_under_envelope, score_steps

MIN_IOU = 0.5
"""A match overlaps by more than this."""

NO_TARGET = -1
"""In the targets of find_matches: no truth is overlapped enough."""


@dataclass(frozen=True, slots=True)
class OperatingPoint:
    """What a class does when only detections with score >= threshold are shown."""

    threshold: float
    precision: float
    recall: float
    f1: float
    false_positives_per_image: float

    @property
    def sensitivity(self) -> float:
        """Share of the true boxes that are found: recall under its clinical name."""
        return self.recall


@dataclass(frozen=True, slots=True, eq=False)
class ClassCurve:
    """One class's curve, a point per distinct score from high to low.

    Shapes, S points: scores f64[S], hits i64[S] and detections i64[S], both counted down to and
    including that score. `truths` is the number of true boxes; `ap` is None if there are none.
    """

    name: str
    truths: int
    scores: NDArray[np.float64]
    hits: NDArray[np.int64]
    detections: NDArray[np.int64]
    ap: float | None

    @property
    def precision(self) -> NDArray[np.float64]:
        """Share of the detections that are hits, f64[S], without the envelope."""
        return self.hits / self.detections

    @property
    def recall(self) -> NDArray[np.float64]:
        """Share of the truths that are hit, f64[S]; NaN for a class without truth."""
        return self.hits / self.truths if self.truths else np.full(len(self.hits), np.nan)

    def operating_point(self, images: int) -> OperatingPoint | None:
        """The threshold of the best F1 (the highest one on ties) over `images` scored images.

        None for a class without truth, or of which no truth is ever hit.
        """
        if not len(self.hits) or not self.hits[-1]:
            return None
        f1 = 2 * self.hits / (self.detections + self.truths)
        best = int(f1.argmax())
        return OperatingPoint(
            threshold=float(self.scores[best]),
            precision=float(self.precision[best]),
            recall=float(self.recall[best]),
            f1=float(f1[best]),
            false_positives_per_image=float((self.detections[best] - self.hits[best]) / images),
        )


@dataclass(frozen=True, slots=True, eq=False)
class VocScore:
    """Every class's curve, in the order of the label space."""

    curves: tuple[ClassCurve, ...]

    @property
    def ap(self) -> dict[str, float | None]:
        """AP by class name; None for a class without truth."""
        return {curve.name: curve.ap for curve in self.curves}

    @property
    def mean_ap(self) -> float | None:
        """Mean over the classes that have truth; None if none has."""
        known = [curve.ap for curve in self.curves if curve.ap is not None]
        return sum(known) / len(known) if known else None

    @property
    def without_truth(self) -> tuple[str, ...]:
        """Names of the classes that the mean leaves out."""
        return tuple(curve.name for curve in self.curves if curve.ap is None)


def voc_map(truth: TruthBoxes, predictions: PredictedBoxes, classes: LabelSpace) -> VocScore:
    """VOC 2010 AP of every class over all images at once; the module's docstring has the rules.

    Raises: as find_hits.
    """
    hits = find_hits(truth, predictions, classes)
    return score_hits(truth.class_ids, predictions.class_ids, predictions.scores, hits, classes)


def score_hits(
    truths: NDArray[np.int64],
    class_ids: NDArray[np.int64],
    scores: NDArray[np.float64],
    hits: NDArray[np.bool_],
    classes: LabelSpace,
) -> VocScore:
    """Every class's curve from class ids of truths i64[M] and of predictions i64[N], whose hits bool[N] are known."""
    counts = np.bincount(truths, minlength=len(classes)).tolist()
    columns = _by_class(class_ids, len(classes), scores, hits)
    return VocScore(tuple(class_curve(*each) for each in zip(classes.names, *columns, counts, strict=True)))


def detection_ap(
    truth: Mapping[str, BoxLabels], predictions: Mapping[str, Detections], classes: LabelSpace
) -> VocScore:
    """voc_map of a detector over the images of `truth`, by image id, those without boxes included.

    An image that `predictions` lacks is one in which nothing was found.
    Raises: as box_tables and find_hits.
    """
    return voc_map(*box_tables(truth, predictions), classes)


def class_curve(name: str, scores: NDArray[np.float64], hits: NDArray[np.bool_], truths: int) -> ClassCurve:
    """The curve and AP of one class from scores f64[N], without NaN, and hits bool[N] in any order."""
    steps, found, detections = score_steps(scores, hits)
    ap = area_under_envelope(found, detections) / truths if truths else None
    return ClassCurve(name, truths, steps, found, detections, ap)


def _by_class(
    class_ids: NDArray[np.int64], classes: int, scores: NDArray[np.float64], hits: NDArray[np.bool_]
) -> list[list[NDArray]]:
    """Scores and hits of every class, lists of f64[N_k] and bool[N_k], by one pass over all N."""
    counts = np.bincount(class_ids, minlength=classes)
    ends = np.cumsum(counts)
    columns = _grouped(class_ids, ends - counts, scores, hits)
    return [np.split(column, ends[:-1])[:classes] for column in columns]  # without classes there is a rest


@numba.njit
def _grouped(class_ids, places, scores, hits):
    """scores f64[N] and hits bool[N] with each class's together; places i64[K] is where a class begins."""
    sorted_scores, sorted_hits = np.empty_like(scores), np.empty_like(hits)
    for p in range(len(scores)):
        place = places[class_ids[p]]
        places[class_ids[p]] += 1
        sorted_scores[place], sorted_hits[place] = scores[p], hits[p]
    return sorted_scores, sorted_hits


def find_hits(truth: TruthBoxes, predictions: PredictedBoxes, classes: LabelSpace) -> NDArray[np.bool_]:
    """Which predictions are hits, bool[N]. Raises: as find_matches."""
    return _matched(truth, predictions, classes, np.empty(0, np.int64))


def find_matches(
    truth: TruthBoxes, predictions: PredictedBoxes, classes: LabelSpace
) -> tuple[NDArray[np.bool_], NDArray[np.int64]]:
    """Which predictions are hits, bool[N], and the truth that each is compared with, i64[N], NO_TARGET without any.

    Both depend on the boxes of the prediction's own image and class alone.
    Raises: ValueError for a class id that `classes` does not have.
    """
    targets = np.empty(len(predictions), np.int64)
    return _matched(truth, predictions, classes, targets), targets


def _matched(
    truth: TruthBoxes, predictions: PredictedBoxes, classes: LabelSpace, targets: NDArray[np.int64]
) -> NDArray[np.bool_]:
    """Hits as find_matches; its targets come into `targets`, i64[N] or empty."""
    for columns in (truth, predictions):
        if len(columns) and columns.class_ids.max() >= len(classes):
            raise ValueError(f"class id {columns.class_ids.max()}, expected one of {classes.name}'s {len(classes)}")
    # Truths are grouped by class and image, each group in its own order.
    images = 1 + max(truth.images.max(initial=-1), predictions.images.max(initial=-1))
    groups = truth.class_ids * images + truth.images
    starts = np.concatenate([[0], np.cumsum(np.bincount(groups, minlength=len(classes) * images))])
    order = np.argsort(groups, kind="stable")
    columns = (predictions.images, predictions.class_ids, predictions.xyxy, predictions.scores)
    return _match(truth.xyxy[order], order, starts, images, *columns, MIN_IOU, targets)


@numba.njit
def _match(truth, order, starts, number, images, class_ids, xyxy, scores, min_iou, targets):
    """Hits bool[N] of the predictions' columns; targets i64[N] are written, unless they are empty.

    Truth f64[M, 4] of class c and image i lies at starts[g]:starts[g + 1] with g = c * number + i; order i64[M] holds
    the rows that it came from.
    """
    hits = np.zeros(len(xyxy), np.bool_)
    holder = np.full(len(truth), -1)
    for p in range(len(xyxy)):
        x1, y1, x2, y2 = xyxy[p, 0], xyxy[p, 1], xyxy[p, 2], xyxy[p, 3]
        best, target = min_iou, -1
        group = class_ids[p] * number + images[p]
        for t in range(starts[group], starts[group + 1]):
            width = min(x2, truth[t, 2]) - max(x1, truth[t, 0])
            height = min(y2, truth[t, 3]) - max(y1, truth[t, 1])
            if width > 0 and height > 0:
                overlap = width * height
                area = (truth[t, 2] - truth[t, 0]) * (truth[t, 3] - truth[t, 1])
                iou = overlap / ((x2 - x1) * (y2 - y1) + area - overlap)
                if iou > best:
                    best, target = iou, t
        if len(targets):
            targets[p] = order[target] if target >= 0 else NO_TARGET
        if target >= 0 and (holder[target] < 0 or scores[p] > scores[holder[target]]):
            if holder[target] >= 0:
                hits[holder[target]] = False
            holder[target] = p
            hits[p] = True
    return hits
