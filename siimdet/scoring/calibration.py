"""From a detector's scores to the share of such boxes that are hits, so that the scores of several can be averaged.

Shapes: scores f[N] in [0, 1], hits bool[N].
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit, logit

# What fits is imported where it does: a server, which applies, would wait for it at every start.

_EDGE = 1e-6
"""Scores are kept so far from 0 and 1, where a logit has no end."""
_LOG_BOUNDS = (np.log(0.05), np.log(20.0))
_DECIMALS = 6


def fit_temperature(scores: NDArray[np.floating], hits: NDArray[np.bool_]) -> float:
    """The temperature of the least log loss, .05 to 20; 1 without hits or without misses.

    Source: Guo et al., On Calibration of Modern Neural Networks, ICML 2017.
    """
    from scipy.optimize import minimize_scalar

    if hits.all() or not hits.any():
        return 1.0
    logits = _logits(scores)
    signs = np.where(hits, 1.0, -1.0)

    def loss(log_temperature: float) -> float:
        return float(np.logaddexp(0, -signs * logits / np.exp(log_temperature)).mean())

    found: Any = minimize_scalar(loss, bounds=_LOG_BOUNDS, method="bounded")
    return round(float(np.exp(found.x)), 3)


def by_temperature(scores: NDArray[np.floating], temperature: float) -> NDArray[np.float64]:
    """Scores whose logit is divided by the temperature, f64[N]; their order stays."""
    return expit(_logits(scores) / temperature)


def fit_isotonic(scores: NDArray[np.floating], hits: NDArray[np.bool_]) -> tuple[tuple[float, float], ...]:
    """Knots (score, share of hits) of the rising step function of least squares; none without hits or without misses.

    Source: Zadrozny and Elkan, KDD 2002; scikit-learn's IsotonicRegression.
    """
    from sklearn.isotonic import IsotonicRegression

    if hits.all() or not hits.any():
        return ()
    model = IsotonicRegression(y_min=0, y_max=1).fit(scores.astype(np.float64), hits.astype(np.float64))
    x, y = (np.round(values, _DECIMALS).tolist() for values in (model.X_thresholds_, model.y_thresholds_))
    return tuple(zip(x, y, strict=True))


def by_knots(scores: NDArray[np.floating], knots: Sequence[tuple[float, float]]) -> NDArray[np.float64]:
    """Scores on straight lines between the knots, level beyond them, f64[N]; on a level stretch they become equal."""
    x, y = np.array(knots, np.float64).reshape(-1, 2).T
    return np.interp(scores, x, y) if len(x) else scores.astype(np.float64)


def _logits(scores: NDArray[np.floating]) -> NDArray[np.float64]:
    return logit(np.clip(scores.astype(np.float64), _EDGE, 1 - _EDGE))
