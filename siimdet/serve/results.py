"""What is found in a study, as values: what the server answers, and what DICOM results are made of."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from siimdet.core.labels import STUDY
from siimdet.core.types import ImageSize


@dataclass(frozen=True, slots=True)
class FoundBox:
    """A box in original pixels, x1 < x2 and y1 < y2; `detector` names what found it."""

    x1: float
    y1: float
    x2: float
    y2: float
    score: float
    detector: str


@dataclass(frozen=True, slots=True)
class ImageResult:
    """What is found in an image of `size`, its original one; without a finding `boxes` is empty."""

    image_id: str
    size: ImageSize
    boxes: tuple[FoundBox, ...]

    def as_dict(self) -> dict[str, Any]:
        """id, width, height and boxes, as the server answers."""
        boxes = [asdict(box) for box in self.boxes]
        return {"id": self.image_id, "width": self.size.width, "height": self.size.height, "boxes": boxes}


@dataclass(frozen=True, slots=True)
class StudyResult:
    """What is found in a study's images, and the probabilities of its four classes by name."""

    images: tuple[ImageResult, ...]
    study: Mapping[str, float]

    def __post_init__(self) -> None:
        if tuple(self.study) != STUDY.names:
            raise ValueError(f"study classes {', '.join(self.study)}, expected {', '.join(STUDY.names)}")

    @property
    def top(self) -> str:
        """The most probable class of the study."""
        return max(self.study, key=self.study.__getitem__)

    def as_dict(self) -> dict[str, Any]:
        """images and study, as the server answers."""
        return {"images": [image.as_dict() for image in self.images], "study": dict(self.study)}
