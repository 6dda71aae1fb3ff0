"""What may happen to a training image."""

from typing import Annotated, Self

from pydantic import Field, model_validator

from siimdet.config.base import Count, Positive, Probability, Strict


class Affine(Strict):
    """Rotation about the centre and shift, together."""

    p: Probability
    rotate: Annotated[float, Field(ge=0, le=180)]
    """Largest angle, degrees, either way."""
    shift: Annotated[float, Field(ge=0, le=0.5)] = 0.0
    """Largest shift as a fraction of the side."""


class Cutout(Strict):
    """Circular holes, filled with black."""

    p: Probability
    holes: Count
    """Largest number; 1 to this many are cut."""
    radius: Annotated[float, Field(gt=0, le=0.5)]
    """Largest radius as a fraction of the side."""


class Erase(Strict):
    """One rectangle replaced by noise (Zhong et al., arXiv:1708.04896)."""

    p: Probability
    area: tuple[Positive, Annotated[float, Field(gt=0, le=0.3)]]
    """Smallest and largest part of the image."""

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if self.area[0] > self.area[1]:
            raise ValueError(f"found area {list(self.area)}, expected the smaller part first")
        return self


class ResizedCrop(Strict):
    """A random part of the image, stretched to the whole (Szegedy et al., arXiv:1409.4842)."""

    p: Probability
    scale: tuple[Positive, Probability]
    """Smallest and largest part of the area; sides in 3:4 to 4:3."""

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if self.scale[0] > self.scale[1]:
            raise ValueError(f"found scale {list(self.scale)}, expected the smaller part first")
        return self


class Augment(Strict):
    """What may happen to a training image; boxes move along. Everything left out does not happen."""

    horizontal_flip: Probability = 0.0
    vertical_flip: Probability = 0.0
    resized_crop: ResizedCrop | None = None
    affine: Affine | None = None
    sharpen: Probability = 0.0
    """Never together with blur: the two share one draw."""
    blur: Probability = 0.0
    brightness_contrast: Probability = 0.0
    cutout: Cutout | None = None
    erase: Erase | None = None

    @model_validator(mode="after")
    def _one_of(self) -> Self:
        if self.sharpen + self.blur > 1:
            raise ValueError(f"found sharpen + blur = {self.sharpen + self.blur:g}, expected at most 1")
        return self
