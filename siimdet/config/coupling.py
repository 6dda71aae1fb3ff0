"""How boxes and study level become a submission."""

from typing import Annotated, Literal

from pydantic import Field, model_validator

from siimdet.config.base import Positive, Probability, Strict


class OpacityExponents(Strict):
    """Powers in the product that becomes a box's confidence; 0 leaves a factor out."""

    own: Annotated[float, Field(ge=0)] = 1.0
    """Of the box's score."""
    not_negative: Annotated[float, Field(ge=0)] = 0.0
    """Of 1 - p_negative of the study."""
    image_opacity: Annotated[float, Field(ge=0)] = 0.0
    """Of the image's highest box score."""
    p_opacity: Annotated[float, Field(ge=0)] = 0.0
    """Of the probability that the image has a box, by a study run that tells it."""


class NoneExponents(Strict):
    """Powers in the product that becomes the confidence of `none`; 0 leaves a factor out."""

    own: Annotated[float, Field(ge=0)] = 1.0
    """Of p_negative of the study."""
    image_opacity: Annotated[float, Field(ge=0)] = 0.0
    """Of 1 minus the image's highest box score."""
    p_opacity: Annotated[float, Field(ge=0)] = 0.0
    """Of 1 minus the probability that the image has a box, by a study run that tells it."""


class Calibration(Strict):
    """What becomes of a detector's scores before they are fused."""

    temperature: Positive = 1.0
    """The logit of a score is divided by it; 1 leaves scores as they are."""
    knots: tuple[tuple[Probability, Probability], ...] = ()
    """Instead of a temperature: pairs of score, in rising order, and share of hits, with straight lines between."""

    @model_validator(mode="after")
    def _one_kind(self) -> "Calibration":
        scores, shares = [score for score, _ in self.knots], [share for _, share in self.knots]
        if scores != sorted(scores):
            raise ValueError("found knots in another order, expected rising scores")
        if shares != sorted(shares):
            raise ValueError("found a share of hits below the one before it, expected none: ranks would change")
        if self.knots and self.temperature != 1:
            raise ValueError("found a temperature and knots, expected one of them")
        return self


class Coupling(Strict):
    """How boxes and study probabilities become the rows of a submission."""

    kind: Literal["coupling"]
    calibration: tuple[Calibration, ...] | None = None
    """One per detector; scores stay as they are where left out."""
    fusion_iou: Annotated[float, Field(gt=0, lt=1)] = 0.55
    """Boxes of different detectors that overlap by more are one."""
    fusion_weights: tuple[Positive, ...] | None = None
    """One per detector; equal where left out."""
    nms_iou: Annotated[float, Field(gt=0, lt=1)] | None = None
    """Fused boxes that still overlap by more: the best stays. None: all stay."""
    study_from_images: Literal["mean", "max", "opacity"] = "mean"
    """opacity: of a study's images the one that most probably has a box, by a study run that tells it."""
    opacity: OpacityExponents = OpacityExponents()
    none: NoneExponents = NoneExponents()
