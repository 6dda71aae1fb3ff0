"""Whether probabilities are what they say: of the rows that get .8, eight in ten should be true.

Source: Guo et al., On Calibration of Modern Neural Networks, ICML 2017 (bins, expected and maximum calibration error);
Brier, Monthly Weather Review 78, 1950; Wilson, JASA 22, 1927 (the interval of a share).
"""

from dataclasses import dataclass
from statistics import NormalDist

import numpy as np
from numpy.typing import ArrayLike, NDArray

from siimdet.scoring.bootstrap import LEVEL

BINS = 10
_DEVIATIONS = NormalDist().inv_cdf((1 + LEVEL) / 2)


@dataclass(frozen=True, slots=True, eq=False)
class Reliability:
    """What the rows of each bin of probability come to, from low to high; empty bins are left out.

    Shapes, B bins: mean_probability f64[B], observed f64[B] (the share of true rows), counts i64[B], and low f64[B]
    and high f64[B], the Wilson interval of `observed`. `ece` is the mean of |observed - mean_probability| weighted by
    counts, `mce` its maximum, `brier` the mean of (probability - truth)²: half of Brier's own sum over two classes.
    """

    mean_probability: NDArray[np.float64]
    observed: NDArray[np.float64]
    counts: NDArray[np.int64]
    low: NDArray[np.float64]
    high: NDArray[np.float64]
    ece: float
    mce: float
    brier: float


def reliability(probabilities: ArrayLike, truth: ArrayLike, *, bins: int = BINS) -> Reliability | None:
    """The reliability of one class; None if no row is known.

    Bins are equally wide and hold their lower edge; the last one holds 1 too.
    Shapes: probabilities f[N] in [0, 1], truth f[N] of 1, 0 or NaN for unknown, which counts nowhere.
    """
    values, labels = np.asarray(probabilities, np.float64), np.asarray(truth, np.float64)
    known = ~np.isnan(labels)
    values, labels = values[known], labels[known]
    if not len(values):
        return None
    bin_of = np.searchsorted(np.arange(1, bins) / bins, values, side="right")
    counts = np.bincount(bin_of, minlength=bins)
    filled = counts > 0
    counts = counts[filled]
    means, hits = (np.bincount(bin_of, column, minlength=bins)[filled] for column in (values, labels))
    means, observed = means / counts, hits / counts
    gaps = np.abs(observed - means)
    ece, mce, brier = gaps @ counts / counts.sum(), gaps.max(), np.square(values - labels).mean()
    return Reliability(means, observed, counts, *wilson_interval(hits, counts), float(ece), float(mce), float(brier))


def wilson_interval(hits: ArrayLike, counts: ArrayLike) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """The ends f64[B] and f64[B] of the interval of LEVEL about the share that hits f[B] are of counts f[B] >= 1."""
    k, n = np.asarray(hits, np.float64), np.asarray(counts, np.float64)
    z = _DEVIATIONS
    centre = (k + z**2 / 2) / (n + z**2)
    reach = z / (n + z**2) * np.sqrt(k * (n - k) / n + z**2 / 4)
    return np.clip(centre - reach, 0, 1), np.clip(centre + reach, 0, 1)
