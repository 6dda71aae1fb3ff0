"""FROC: the share of the truths that is found, over the false positives that an image costs.

Source: Bunch et al., A free response approach to the measurement and characterization of radiographic-observer
performance, SPIE 127, 1977, for the curve; Setio et al., Medical Image Analysis 42, 2017 (LUNA16), for the rates and
their mean, the competition performance metric. LUNA16's script draws straight lines between the points; here a rate
is worth what a threshold reaches without exceeding it.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from siimdet.scoring.voc import ClassCurve

RATES = (1 / 8, 1 / 4, 1 / 2, 1.0, 2.0, 4.0, 8.0)
"""The usual false positives per image."""


@dataclass(frozen=True, slots=True, eq=False)
class Froc:
    """The curve of one class: a point per distinct score from high to low, after 0 / 0.

    Shapes, P points: false_positives f64[P] per image and sensitivity f64[P]; both never fall.
    """

    false_positives: NDArray[np.float64]
    sensitivity: NDArray[np.float64]

    def at(self, rate: float) -> float:
        """The highest sensitivity at no more than `rate` false positives per image."""
        return float(self.sensitivity[np.searchsorted(self.false_positives, rate, side="right") - 1])

    @property
    def at_rates(self) -> dict[float, float]:
        """Sensitivity at each of RATES."""
        return {rate: self.at(rate) for rate in RATES}

    @property
    def mean_sensitivity(self) -> float:
        """Mean of the sensitivities at RATES."""
        return sum(self.at_rates.values()) / len(RATES)


def froc(curve: ClassCurve, images: int) -> Froc | None:
    """The FROC curve of a class over `images` scored images, those without boxes too; None for a class without truth.

    Raises: ValueError without images.
    """
    if images < 1:
        raise ValueError(f"{images} images, expected 1 or more")
    if not curve.truths:
        return None
    return Froc(
        np.concatenate([[0.0], (curve.detections - curve.hits) / images]), np.concatenate([[0.0], curve.recall])
    )
