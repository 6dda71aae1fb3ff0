"""How boxes and study level become a submission."""

from typing import Annotated, Literal

from pydantic import Field

from siimdet.config.base import Positive, Strict


class OpacityExponents(Strict):
    """Powers in the product that becomes a box's confidence; 0 leaves a factor out."""

    own: Annotated[float, Field(ge=0)] = 1.0
    """Of the box's score."""
    not_negative: Annotated[float, Field(ge=0)] = 0.0
    """Of 1 - p_negative of the study."""
    image_opacity: Annotated[float, Field(ge=0)] = 0.0
    """Of the image's highest box score."""


class NoneExponents(Strict):
    """Powers in the product that becomes the confidence of `none`; 0 leaves a factor out."""

    own: Annotated[float, Field(ge=0)] = 1.0
    """Of p_negative of the study."""
    image_opacity: Annotated[float, Field(ge=0)] = 0.0
    """Of 1 minus the image's highest box score."""


class Coupling(Strict):
    """How boxes and study probabilities become the rows of a submission."""

    kind: Literal["coupling"]
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
