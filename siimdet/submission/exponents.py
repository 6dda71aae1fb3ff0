"""The exponents of a coupling that give the best AP on some rows.

AP depends on the order of confidences alone, so exponents matter up to a common factor: they are fitted with sum 1, a
weighted geometric mean. Confidences that were fitted on different folds then share one scale and can be pooled.
AP is piecewise constant in them: a coarse grid finds the region, Nelder-Mead the place.
Source: Nelder and Mead, Comput. J. 7 (1965), by scipy.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize

from siimdet.scoring.voc import class_curve

_STEPS = 5
"""The grid has the exponents 0, 1/5 ... 1."""
_SIDE = 0.1
"""Of the first simplex: half a step of the grid."""
_DECIMALS = 3


@dataclass(frozen=True, slots=True, eq=False)
class Ranked:
    """Predictions of a class whose confidence is a product of powers.

    Shapes: logs f64[E, N], the logarithm of every factor (-inf of 0), hits bool[N]. `truths` is how many are true,
    `names` are the factors', `own` the first: it alone is the default.
    """

    names: tuple[str, ...]
    logs: NDArray[np.float64]
    hits: NDArray[np.bool_]
    truths: int

    @classmethod
    def of(cls, factors: Mapping[str, NDArray[np.float64]], hits: NDArray[np.bool_], truths: int) -> "Ranked":
        """From the factors f64[N] in [0, 1] by name."""
        with np.errstate(divide="ignore"):
            logs = np.log(list(factors.values()))
        return cls(tuple(factors), logs, hits, truths)

    def ap(self, exponents: NDArray[np.float64]) -> float:
        """AP with exponents f64[E]; 0 without truth."""
        # A product with a factor 0 is 0, whatever the others, unless that factor's exponent is 0: then it is left out.
        used = exponents > 0
        return class_curve("", exponents[used] @ self.logs[used], self.hits, self.truths).ap or 0.0


def fit_exponents(ranked: Ranked, *, near: Mapping[str, float] | None = None) -> tuple[dict[str, float], float]:
    """The exponents by name, of three decimals and sum 1, and their AP; the default where nothing is better.

    Without `near`, exponents from which to go on unless the default is better, the grid comes first.
    """
    tried: dict[tuple[float, ...], float] = {}

    def cost(point: NDArray[np.float64]) -> float:
        exponents = _rounded(point)
        if exponents not in tried:
            tried[exponents] = ranked.ap(np.array(exponents))
        return -tried[exponents]

    # The default comes first, so that of equal ones it stays.
    default = tuple(float(name == ranked.names[0]) for name in ranked.names)
    for point in _grid(len(default)) if near is None else (default, [near[name] for name in ranked.names]):
        cost(np.array(point))
    start = np.array(max(tried, key=tried.__getitem__))
    simplex = np.vstack([start, np.maximum(start + _SIDE * (np.eye(len(start)) - 0.5 * (start > 0)), 0)])
    minimize(
        cost,
        start,
        method="Nelder-Mead",
        bounds=[(0, 1)] * len(start),
        options={"initial_simplex": np.clip(simplex, 0, 1), "xatol": 0.005, "fatol": 1e-5, "maxfev": 25 * len(start)},
    )
    best = max(tried, key=tried.__getitem__)
    return dict(zip(ranked.names, best, strict=True)), tried[best]


def _grid(count: int) -> Iterator[tuple[float, ...]]:
    """Points of sum 1, the default (1, 0 ...) first."""
    for parts in _parts(_STEPS, count):
        yield tuple(part / _STEPS for part in parts)


def _parts(total: int, count: int) -> Iterator[tuple[int, ...]]:
    if count == 1:
        yield (total,)
        return
    for first in range(total, -1, -1):
        for rest in _parts(total - first, count - 1):
            yield (first, *rest)


def _rounded(point: NDArray[np.float64]) -> tuple[float, ...]:
    """Exponents of three decimals whose sum is 1; the default for a point of zeros."""
    total = point.sum()
    if total <= 0:
        return (1.0, *(0.0 for _ in point[1:]))
    shares = np.round(point / total, _DECIMALS)
    shares[shares.argmax()] += 1 - shares.sum()
    return tuple(np.round(shares, _DECIMALS).tolist())
