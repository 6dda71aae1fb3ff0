"""Bootstrap intervals: how a figure would vary if other patients had been drawn.

The images of a patient are alike, so patients are drawn, with replacement, each with all images; drawing images would
make intervals too narrow. A resample is never built: it is how often each unit was drawn. Neither a detection's hit
nor a row's decision depends on other images, so they are found once, and a figure of a resample is that figure with
the draws as weights: the value that scoring the duplicated data set would give.

`Resamples` of the same units, samples and seed draw alike, whatever the order of images: the figures of two files over
the same patients are paired, resample by resample.
Source: Efron and Tibshirani, An Introduction to the Bootstrap, 1993, section 13.3 (the percentile interval).
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numba
import numpy as np
from numpy.typing import ArrayLike, NDArray

from siimdet.core.types import LabelSpace
from siimdet.scoring.box_tables import PredictedBoxes, TruthBoxes
from siimdet.scoring.score_steps import step_ends
from siimdet.scoring.voc import find_hits

LEVEL = 0.95
"""Share of the resamples that lies inside an interval."""


@dataclass(frozen=True, slots=True, eq=False)
class Resamples:
    """Draws of as many units as there are. Iterating gives i64[units] a resample, the same ones every time.

    Shapes: unit_of i64[I], the unit of every image (or other row), 0, 1, ... without gaps.
    """

    unit_of: NDArray[np.int64]
    units: int
    samples: int
    seed: int

    @classmethod
    def of(cls, owners: Sequence[str], *, samples: int, seed: int) -> "Resamples":
        """Resamples of the owners: the patient, or the study, of every image, in the images' order."""
        names, unit_of = np.unique(np.array(owners, dtype=object), return_inverse=True)
        return cls(unit_of.astype(np.int64), len(names), samples, seed)

    def __iter__(self) -> Iterator[NDArray[np.int64]]:
        rng = np.random.default_rng(self.seed)
        for _ in range(self.samples):
            yield np.bincount(rng.integers(self.units, size=self.units), minlength=self.units)


@dataclass(frozen=True, slots=True, eq=False)
class ResampledFigures:
    """Figures of S resamples.

    Shapes: values f64[S] by name, NaN where nothing defines the figure. `left_out` is, by class, in how many
    resamples a class had no truth, and its figures no value; classes that had it in all are not in it.
    """

    values: Mapping[str, NDArray[np.float64]]
    left_out: Mapping[str, int]

    def intervals(self) -> dict[str, list[float] | None]:
        """[low, high] by name; None where no resample has the figure."""
        return {name: percentile_interval(values) for name, values in self.values.items()}


def percentile_interval(values: ArrayLike) -> list[float] | None:
    """[low, high] between which LEVEL of the values f64[S] lie, NaN left out; None if nothing remains."""
    known = np.asarray(values, np.float64)
    known = known[~np.isnan(known)]
    return np.quantile(known, [(1 - LEVEL) / 2, (1 + LEVEL) / 2]).tolist() if len(known) else None


def resampled_ap(
    truth: TruthBoxes, predictions: PredictedBoxes, classes: LabelSpace, resamples: Resamples
) -> ResampledFigures:
    """AP by class name, and `mAP`, over the classes that have truth in the resample; siimdet.scoring.voc has the rules.

    Image numbers index `resamples.unit_of`. Raises: ValueError for a class id that `classes` does not have.
    """
    hits = find_hits(truth, predictions, classes)
    ranked = []
    for class_id in range(len(classes)):
        mine = np.flatnonzero(predictions.class_ids == class_id)
        mine = mine[np.argsort(-predictions.scores[mine])]
        truths = resamples.unit_of[truth.images[truth.class_ids == class_id]]
        ends = step_ends(predictions.scores[mine])
        ranked.append((truths, resamples.unit_of[predictions.images[mine]], hits[mine], ends))
    ap = np.array([[_weighted_ap(counts, *columns) for columns in ranked] for counts in resamples])
    return ResampledFigures(
        {**dict(zip(classes.names, ap.T, strict=True)), "mAP": mean_of_known(ap)}, count_left_out(ap, classes)
    )


def mean_of_known(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Mean over the classes that have the figure, f64[S] of f64[S, K] with NaN; NaN where none has."""
    known = ~np.isnan(values)
    counts = known.sum(axis=1)
    sums = np.where(known, values, 0.0).sum(axis=1)
    return np.divide(sums, counts, out=np.full(len(values), np.nan), where=counts > 0)


def count_left_out(values: NDArray[np.float64], classes: LabelSpace) -> dict[str, int]:
    """In how many resamples a class has no figure, of f64[S, K] with NaN; classes of which none lacks it stay out."""
    lacking = np.isnan(values).sum(axis=0).tolist()
    return {name: count for name, count in zip(classes.names, lacking, strict=True) if count}


def described(figures: ResampledFigures, resamples: Resamples, *, unit: str) -> dict[str, Any]:
    """Plain values for JSON: `intervals` by figure, and `bootstrap`, which says of what."""
    return {
        "intervals": figures.intervals(),
        "bootstrap": {
            "samples": resamples.samples,
            "unit": unit,
            "units": resamples.units,
            "level": LEVEL,
            "left_out": dict(figures.left_out),
        },
    }


@numba.njit
def _weighted_ap(counts, truths, units, hits, ends):
    """AP of a class, NaN without truth; truths i64[M] and units i64[N] index counts i64[U], best scores come first."""
    positives = 0
    for unit in truths:
        positives += counts[unit]
    if positives == 0:
        return np.nan
    found, detections = 0, 0
    for p in range(len(units)):
        detections += counts[units[p]]
        found += counts[units[p]] * hits[p]
    # From the lowest score up, so that the envelope is the best precision so far.
    envelope, area = 0.0, 0.0
    for p in range(len(units) - 1, -1, -1):
        if ends[p] and detections > 0:
            envelope = max(envelope, found / detections)
        drawn = counts[units[p]]
        detections -= drawn
        if hits[p]:
            found -= drawn
            area += drawn * envelope
    return area / positives
