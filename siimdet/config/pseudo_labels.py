"""Which predictions on unlabelled images become labels to train on."""

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from siimdet.config.base import Count, Probability, Strict


class PseudoLabels(Strict):
    """Thresholds; a probability or score that equals one has reached it.

    Source of the rule and of the defaults: the winner of SIIM-FISABIO-RSNA, N. B. Dung,
    github.com/dungnb1333/SIIM-COVID19-Detection, 4.2.4; `negative` is ours.
    """

    kind: Literal["pseudo_labels"]
    study_from_images: Literal["mean", "max"] = "mean"
    """How the probabilities of a study's images become the study's."""
    positive: Annotated[float, Field(gt=0, le=1)] = 0.7
    """An image is positive if 1 - p_negative of its study reaches this, `finding` is reached, and it has a box."""
    finding: Probability = 0.7
    """Of a positive image's study the most probable class but negative must reach this; 0: it need not."""
    negative: Annotated[float, Field(gt=0, le=1)] | None = 0.9
    """An image is negative, without boxes, if p_negative of its study reaches this. None: no image is."""
    study: Probability = 0.7
    """A kept image's study has its class as label if the class reaches this, otherwise unknown."""
    box_score: Probability = 0.2
    """Boxes are kept from this score on."""
    most_boxes: Count | None = 2
    """Boxes kept per image, the best ones. None: all."""

    @model_validator(mode="after")
    def _no_image_is_both(self) -> Self:
        if self.negative is not None and self.negative <= 1 - self.positive:
            raise ValueError(
                f"found negative {self.negative} and positive {self.positive}, expected a sum above 1, "
                "so that no image is both"
            )
        return self
