"""From boxes and study probabilities to the rows of a submission.

The exponents are what a coupling file holds, fitted out of fold by siimdet.submission.tune: nothing is tuned here.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from siimdet.config import Calibration, Coupling, NoneExponents, OpacityExponents
from siimdet.core.types import Detections, ImageRecord, Probabilities
from siimdet.errors import ConfigError, FusionError
from siimdet.inference.fusion import ModelBoxes, PixelBoxes, by_image, collect, fuse, fuse_weighted
from siimdet.scoring.calibration import by_knots, by_temperature
from siimdet.submission.table import OPACITY_ID, Submission
from siimdet.submission.uncoupled import NONE_ID, Uncoupled, uncoupled_predictions


def couple(
    records: Sequence[ImageRecord],
    boxes: Mapping[str, Detections],
    studies: Probabilities,
    coupling: Coupling,
    *,
    file: str,
    ids: Sequence[str] | None = None,
    opacity: Probabilities | None = None,
) -> Submission:
    """A submission for the images of `records` and their studies, by coupled_submission.

    `boxes` by image id are in stored pixels, the submission's in original ones. `opacity` f32[I, 1], keyed by image
    id, is the study run's probability that the image has a box. Rows come in the order of `ids`, those of a sample
    file, or sorted.
    Raises: SubmissionError if `ids` are not exactly those of the records; ConfigError as coupled_submission.
    """
    columns = uncoupled_predictions(records, boxes, studies, file=file, ids=ids, opacity=opacity)
    return coupled_submission(columns, coupling)


def fused_boxes(models: Sequence[Mapping[str, Detections]], coupling: Coupling) -> dict[str, Detections]:
    """The boxes of several detectors as one, by image id: calibrated, weighted box fusion, NMS where asked for.

    Raises: FusionError as fused_columns.
    """
    found = collect(models)
    fused = by_image(fused_columns(found, coupling), found.sizes)
    return fused if coupling.nms_iou is None else fuse([fused], method="nms", min_iou=coupling.nms_iou)


def for_one_detector(coupling: Coupling, number: int) -> Coupling:
    """The coupling of several detectors for the boxes of one of them alone, whose place among them is `number`."""
    calibration = coupling.calibration and coupling.calibration[number : number + 1]
    return coupling.model_copy(update={"calibration": calibration, "fusion_weights": None})


def fused_columns(found: ModelBoxes, coupling: Coupling) -> PixelBoxes:
    """The boxes of several detectors as one, before any NMS: calibrated, weighted box fusion.

    Raises: FusionError as siimdet.inference.fusion.fuse, or for another number of calibrations than detectors.
    """
    if coupling.calibration is not None:
        if len(coupling.calibration) != found.models:
            expected = f"{found.models}, one per detector"
            raise FusionError("coupling", "calibration", found=len(coupling.calibration), expected=expected)
        found = replace(found, scores=_calibrated(found, coupling.calibration))
    return fuse_weighted(found, min_iou=coupling.fusion_iou, weights=coupling.fusion_weights)


def coupled_submission(columns: Uncoupled, coupling: Coupling) -> Submission:
    """Put the exponents to the columns; in a row `none` comes before the boxes.

    Raises: ConfigError for an exponent of p_opacity where nothing tells it.
    """
    images, boxes = len(columns.image_rows), len(columns.box_scores)
    rows = np.concatenate([columns.study_rows, columns.image_rows, columns.image_rows[columns.box_images]])
    order = np.argsort(rows, kind="stable")
    classes = [columns.study_classes, np.full(images, NONE_ID), np.full(boxes, OPACITY_ID)]
    scores = [
        columns.study_scores,
        none_scores(columns, coupling.none),
        opacity_scores(columns, coupling.opacity),
    ]
    unit = np.tile([0.0, 0.0, 1.0, 1.0], (len(rows) - boxes, 1))
    return Submission(
        file=columns.file,
        ids=columns.ids,
        rows=rows[order],
        class_ids=np.concatenate(classes)[order],
        scores=np.concatenate(scores)[order],
        xyxy=np.concatenate([unit, columns.xyxy])[order],
    )


def opacity_scores(columns: Uncoupled, exponents: OpacityExponents) -> NDArray[np.float64]:
    """f64[N] of boxes: score^own (1 - p_negative)^not_negative highest^image_opacity p_opacity^p_opacity."""
    return _product(opacity_factors(columns), exponents.model_dump(), "opacity")


def none_scores(columns: Uncoupled, exponents: NoneExponents) -> NDArray[np.float64]:
    """f64[I] of images: p_negative^own (1 - highest)^image_opacity (1 - p_opacity)^p_opacity."""
    return _product(none_factors(columns), exponents.model_dump(), "none")


def opacity_factors(columns: Uncoupled) -> dict[str, NDArray[np.float64]]:
    """What a box's confidence is a product of, f64[N] by the exponent's name; without p_opacity where it is unknown."""
    images = {"not_negative": 1 - columns.p_negative, "image_opacity": columns.highest}
    if columns.p_opacity is not None:
        images["p_opacity"] = columns.p_opacity
    return {"own": columns.box_scores, **{name: values[columns.box_images] for name, values in images.items()}}


def none_factors(columns: Uncoupled) -> dict[str, NDArray[np.float64]]:
    """What the confidence of `none` is a product of, f64[I], as opacity_factors."""
    factors = {"own": columns.p_negative, "image_opacity": 1 - columns.highest}
    return factors if columns.p_opacity is None else {**factors, "p_opacity": 1 - columns.p_opacity}


def _calibrated(found: ModelBoxes, calibrations: Sequence[Calibration]) -> NDArray[np.float32]:
    """The scores f32[N] under the calibration of each box's detector."""
    scores = found.scores.copy()
    for number, calibration in enumerate(calibrations):
        mine = found.numbers == number
        if calibration.knots:
            scores[mine] = by_knots(scores[mine], calibration.knots)
        elif calibration.temperature != 1:
            scores[mine] = by_temperature(scores[mine], calibration.temperature)
    return scores


def _product(
    factors: Mapping[str, NDArray[np.float64]], exponents: Mapping[str, float], field: str
) -> NDArray[np.float64]:
    for name, exponent in exponents.items():
        if exponent and name not in factors:
            found = f"{exponent:g}, of a study run that does not tell it"
            raise ConfigError("coupling", f"{field}.{name}", found=found, expected="0, or a run with auxiliary.opacity")
    product = np.ones(len(factors["own"]))
    for name, values in factors.items():
        if exponents[name]:
            product *= values ** exponents[name]
    return product
