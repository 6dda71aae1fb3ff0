"""The work on one image, in a worker process: read, judge, shrink, write."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from converters.boxes import place_boxes
from converters.image import RawImage
from converters.source import Failure, Item, Repair
from siimdet.core.files import check_id
from siimdet.core.types import ImageSize
from siimdet.errors import SourceError, UserError
from siimdet.imaging.png import write_png
from siimdet.imaging.resize import shrink


@dataclass(frozen=True, slots=True)
class Settings:
    """What holds for every image of a conversion."""

    out: Path
    load: Callable[[Path, int], RawImage]
    native: ImageSize | None
    image_size: int | None
    """Bound of the longer side, in pixels."""
    bit_depth: int


@dataclass(frozen=True, slots=True, eq=False)
class Task:
    """One image to convert; `place` is its path below the raw folder, for reports."""

    item: Item
    path: Path
    place: str


@dataclass(frozen=True, slots=True)
class Done:
    """What became of an image, as plain values that JSON keeps exactly.

    Shapes: sizes are (width, height); xyxy [N][4] px of the stored image.
    """

    image_id: str
    patient_id: str
    stored: tuple[int, int]
    original: tuple[int, int]
    xyxy: list[list[float]]
    repairs: list[Repair]
    file_bytes: int


def image_place(image_id: str) -> str:
    """Path of a stored image below the data set's folder."""
    return f"images/{image_id}.png"


def convert_item(settings: Settings, task: Task) -> Done | Failure:
    """Convert one image, or say why it is refused; nothing is written then."""
    item = task.item
    try:
        image = settings.load(task.path, settings.bit_depth)
        original = _original_size(item, image, settings.native)
        pixels = shrink(image.pixels, settings.image_size) if settings.image_size else image.pixels
        stored = ImageSize(pixels.shape[1], pixels.shape[0])
        boxes, clipped = place_boxes(item, original, stored)
        patient_id, guessed = _patient(item, image)
    except UserError as error:
        return Failure(item.image_id, task.place, error.reason)
    path = settings.out / image_place(item.image_id)
    write_png(path, pixels)
    return Done(
        image_id=item.image_id,
        patient_id=patient_id,
        stored=(stored.width, stored.height),
        original=(original.width, original.height),
        xyxy=boxes.xyxy.tolist(),
        repairs=[*item.repairs, *clipped, *guessed],
        file_bytes=path.stat().st_size,
    )


def _original_size(item: Item, image: RawImage, native: ImageSize | None) -> ImageSize:
    """The size in whose pixels the boxes are published."""
    if native is not None:
        return native
    if image.is_dicom:
        return image.size
    if item.copy_original is None and len(item.xyxy):
        found = f"unknown for this {image.size.width}x{image.size.height} copy"
        raise SourceError(item.image_id, "original size", found=found, expected="a row in the table of sizes")
    return item.copy_original or image.size


def _patient(item: Item, image: RawImage) -> tuple[str, list[Repair]]:
    patient_id = item.patient_id or image.patient_id
    if not patient_id:
        # The next larger group that is known to hold one patient only.
        return item.study_id, [Repair(item.image_id, "patient_id", "", item.study_id)]
    return check_id(patient_id, file=item.image_id, field="patient_id"), []
