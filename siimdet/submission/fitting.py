"""Fitting a coupling: fusion, the way from images to studies, exponents.

The six APs depend on few things each: opacity on the fusion and its exponents, none on its own and the best boxes,
the study classes on the way from images to studies. So each block is fitted given the others: fusion by a grid, on
boxes alone, then Nelder-Mead; every rule with exponents of its own; then fusion and exponents once more.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize

from siimdet.config import Calibration, Coupling, NoneExponents, OpacityExponents
from siimdet.core.labels import STUDY
from siimdet.scoring.box_tables import PredictedBoxes
from siimdet.scoring.calibration import fit_isotonic, fit_temperature
from siimdet.scoring.voc import find_hits
from siimdet.submission.coupling import none_factors, opacity_factors
from siimdet.submission.evidence import Evidence
from siimdet.submission.exponents import Ranked, fit_exponents
from siimdet.submission.table import CLASSES, OPACITY_ID
from siimdet.submission.truth import Truth
from siimdet.submission.uncoupled import NONE_ID, Uncoupled

CalibrationKind = Literal["temperature", "isotonic"]
IOUS = (0.55, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8)
"""Of the grid, the default first."""
FACTORS = (3.0, 10.0)
"""By which the grid weights each detector more, and less, than the others."""
_SIDE = 0.5
"""Of the first simplex: in tenths of IoU, and in logarithms of weight."""
_IOU_BOUNDS, _WEIGHT_BOUNDS = (2.0, 9.0), (np.log(0.01), np.log(100.0))
_CACHED = 8

DEFAULT = Coupling(kind="coupling")
"""Boxes and study level uncoupled, detectors of equal weight."""


@dataclass(frozen=True, slots=True, eq=False)
class ClassRows:
    """A class's predictions, ranked, with the row i64[N] of each, and the rows i64[T] of what is true."""

    ranked: Ranked
    rows: NDArray[np.int64]
    true_rows: NDArray[np.int64]

    def on(self, keep: NDArray[np.bool_]) -> Ranked:
        """On the rows bool[R] alone."""
        mine = keep[self.rows]
        ranked = self.ranked
        return Ranked(ranked.names, ranked.logs[:, mine], ranked.hits[mine], int(keep[self.true_rows].sum()))


@dataclass(frozen=True, slots=True, eq=False)
class Ranks:
    """The six classes under one fusion and one rule."""

    opacity: ClassRows
    none: ClassRows
    studies: tuple[ClassRows, ...]


class Fitter:
    """Fits couplings on parts of the evidence; what does not depend on the part is done once.

    Shapes: fold_of i64[R], the fold of every row of the evidence. `tick` is called for every candidate.
    """

    def __init__(
        self,
        evidence: Evidence,
        fold_of: NDArray[np.int64],
        *,
        calibrate: CalibrationKind | None = None,
        tick: Callable[[], None] = lambda: None,
    ) -> None:
        self.evidence = evidence
        self.fold_of = fold_of
        self.calibrate: CalibrationKind | None = calibrate
        self._tick = tick
        self._ranks = lru_cache(maxsize=_CACHED)(self._rank)
        self._grid: list[tuple[Coupling, dict[int | None, float]]] = []
        self._hits = [_box_hits(columns, evidence.truth) for columns in evidence.detectors]

    def fit(self, held_out: int | None = None) -> Coupling:
        """The coupling of the best mean AP on the rows of all folds but `held_out`."""
        keep = np.ones(len(self.fold_of), bool) if held_out is None else self.fold_of != held_out
        if not self.evidence.detectors:
            return self._with_exponents(DEFAULT, keep)[0]
        coupling = self._refined(self._best_of_grid(held_out, keep), keep)
        rules = [coupling.model_copy(update={"study_from_images": rule}) for rule in self.evidence.rules]
        coupling, _ = max((self._with_exponents(rule, keep) for rule in rules), key=lambda pair: pair[1])
        return self._with_exponents(self._refined(coupling, keep), keep, anew=False)[0]

    def most_ticks(self, *, first: bool) -> int:
        """How many candidates a fit has at most; the first one has the grid, later ones only if they calibrate."""
        detectors = len(self.evidence.detectors)
        if not detectors:
            return 1
        grid = len(list(_fusions(DEFAULT, detectors))) if first or self.calibrate is not None else 0
        return grid + 2 * (1 + _most_tries(detectors)) + len(self.evidence.rules) + 1

    def _best_of_grid(self, held_out: int | None, keep: NDArray[np.bool_]) -> Coupling:
        """The fusion with the best AP of the boxes alone.

        Found for all folds at once, since fusing takes longest, unless each has calibrations of its own.
        """
        if self.calibrate is not None:
            self._grid = self._tried(self._calibrated(self.calibrate, keep), [held_out])
        elif not self._grid:
            self._grid = self._tried(DEFAULT, [None, *np.unique(self.fold_of).tolist()])
        return max(self._grid, key=lambda tried: tried[1][held_out])[0]

    def _tried(self, start: Coupling, parts: list[int | None]) -> list[tuple[Coupling, dict[int | None, float]]]:
        """Every fusion of the grid with the AP of its boxes without each of the folds in `parts`."""
        grid = []
        for coupling in _fusions(start, len(self.evidence.detectors)):
            boxes = self._ranks_under(coupling).opacity
            own = np.eye(len(boxes.ranked.names))[0]
            self._tick()
            kept = {part: self.fold_of != (-1 if part is None else part) for part in parts}
            grid.append((coupling, {part: boxes.on(keep).ap(own) for part, keep in kept.items()}))
        return grid

    def _calibrated(self, kind: CalibrationKind, keep: NDArray[np.bool_]) -> Coupling:
        """The default with a calibration of each detector on the rows bool[R] alone."""
        fitted = []
        for columns, hits in zip(self.evidence.detectors, self._hits, strict=True):
            mine = keep[columns.image_rows[columns.box_images]]
            scores, right = columns.box_scores[mine], hits[mine]
            if kind == "temperature":
                fitted.append(Calibration(temperature=fit_temperature(scores, right)))
            else:
                fitted.append(Calibration(knots=fit_isotonic(scores, right)))
        return DEFAULT.model_copy(update={"calibration": tuple(fitted)})

    def _refined(self, coupling: Coupling, keep: NDArray[np.bool_]) -> Coupling:
        """The coupling with the fusion near its own that is best under its exponents."""

        def score(tried: Coupling) -> float:
            self._tick()
            ranks = self._ranks_under(tried)
            opacity, none = ranks.opacity.on(keep), ranks.none.on(keep)
            return opacity.ap(_vector(coupling.opacity, opacity)) + none.ap(_vector(coupling.none, none))

        return _nelder_mead(coupling, len(self.evidence.detectors), score)

    def _with_exponents(
        self, coupling: Coupling, keep: NDArray[np.bool_], *, anew: bool = True
    ) -> tuple[Coupling, float]:
        """The coupling with the best exponents, near its own unless `anew`, and the sum of the six APs."""
        self._tick()
        ranks = self._ranks_under(coupling)
        near = {field: None if anew else getattr(coupling, field).model_dump() for field in ("opacity", "none")}
        opacity, opacity_ap = fit_exponents(ranks.opacity.on(keep), near=near["opacity"])
        none, none_ap = fit_exponents(ranks.none.on(keep), near=near["none"])
        studies = sum(study.on(keep).ap(np.ones(1)) for study in ranks.studies)
        exponents = {"opacity": OpacityExponents(**opacity), "none": NoneExponents(**none)}
        return coupling.model_copy(update=exponents), opacity_ap + none_ap + studies

    def _ranks_under(self, coupling: Coupling) -> Ranks:
        """By fusion and rule: the ranks do not depend on the exponents."""
        return self._ranks(coupling.model_dump_json(exclude={"opacity", "none"}))

    def _rank(self, fusion_and_rule: str) -> Ranks:
        columns, truth = self.evidence.columns(Coupling.model_validate_json(fusion_and_rule)), self.evidence.truth
        assert columns.ids == truth.ids, "predictions in other rows than the truth"
        rows = columns.image_rows[columns.box_images]
        true = {k: truth.boxes.images[truth.boxes.class_ids == k] for k in range(len(CLASSES))}
        opacity = Ranked.of(opacity_factors(columns), _box_hits(columns, truth), len(true[OPACITY_ID]))
        is_none = np.isin(columns.image_rows, true[NONE_ID])
        none = Ranked.of(none_factors(columns), is_none, len(true[NONE_ID]))
        studies = []
        for k in range(len(STUDY)):
            mine = columns.study_classes == k
            holds = np.isin(columns.study_rows[mine], true[k])
            ranked = Ranked.of({"own": columns.study_scores[mine]}, holds, len(true[k]))
            studies.append(ClassRows(ranked, columns.study_rows[mine], true[k]))
        return Ranks(
            ClassRows(opacity, rows, true[OPACITY_ID]),
            ClassRows(none, columns.image_rows, true[NONE_ID]),
            tuple(studies),
        )


def _box_hits(columns: Uncoupled, truth: Truth) -> NDArray[np.bool_]:
    """Which boxes are hits, bool[N]."""
    rows = columns.image_rows[columns.box_images]
    boxes = PredictedBoxes(rows, np.full(len(rows), OPACITY_ID), columns.xyxy, columns.box_scores)
    return find_hits(truth.boxes, boxes, CLASSES)


def _fusions(start: Coupling, detectors: int) -> Iterator[Coupling]:
    """The grid, the default first: equal weights, and one detector above or below the others."""
    weights: dict[tuple[float, ...] | None, None] = {None: None}
    if detectors > 1:
        for one in range(detectors):
            for factor in (*FACTORS, *(1 / factor for factor in FACTORS)):
                weights[_normalised([factor if k == one else 1.0 for k in range(detectors)])] = None
    for iou in IOUS:
        for given in weights:
            yield start.model_copy(update={"fusion_iou": iou, "fusion_weights": given})


def _nelder_mead(start: Coupling, detectors: int, score: Callable[[Coupling], float]) -> Coupling:
    tried = {(start.fusion_iou, start.fusion_weights): score(start)}

    def with_fusion(iou: float, weights: tuple[float, ...] | None) -> Coupling:
        return start.model_copy(update={"fusion_iou": iou, "fusion_weights": weights})

    def cost(point: NDArray[np.float64]) -> float:
        weights = None if detectors == 1 else _normalised(np.exp([0.0, *point[1:]]).tolist())
        fusion = round(float(point[0]) / 10, 2), weights
        if fusion not in tried:
            tried[fusion] = score(with_fusion(*fusion))
        return -tried[fusion]

    logs = np.log(start.fusion_weights or (1.0,) * detectors)
    point = np.array([10 * start.fusion_iou, *(logs[1:] - logs[0])])
    simplex = np.vstack([point, point + _SIDE * np.eye(len(point))])
    options: dict[str, Any] = {
        "initial_simplex": simplex,
        "xatol": 0.1,
        "fatol": 1e-5,
        "maxfev": _most_tries(detectors),
    }
    bounds = [_IOU_BOUNDS, *[_WEIGHT_BOUNDS] * (len(point) - 1)]
    minimize(cost, point, method="Nelder-Mead", bounds=bounds, options=options)
    return with_fusion(*max(tried, key=tried.__getitem__))


def _most_tries(detectors: int) -> int:
    """Of Nelder-Mead: 15 for the IoU and for every weight but the first."""
    return 15 * detectors


def _normalised(weights: list[float]) -> tuple[float, ...]:
    """Weights in hundredths of the largest, above 0: only their proportions matter."""
    return tuple(max(round(weight / max(weights), 2), 0.01) for weight in weights)


def _vector(exponents: OpacityExponents | NoneExponents, ranked: Ranked) -> NDArray[np.float64]:
    return np.array([getattr(exponents, name) for name in ranked.names])
