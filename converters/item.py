"""The work on one image, in a worker process: read, judge, shrink, write."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from converters.boxes import place_boxes
from converters.image import Grey, RawImage
from converters.repair import Repair
from converters.source import Failure, Item
from siimdet.core.types import ImageSize
from siimdet.errors import ImageError, SourceError, UserError
from siimdet.imaging.png import write_png
from siimdet.imaging.resize import Resize, shrink


@dataclass(frozen=True, slots=True)
class Settings:
    """What holds for every image of a conversion."""

    out: Path
    load: Callable[[Path, Grey], RawImage]
    native: ImageSize | None
    image_size: int | None
    """Bound of the longer side, in pixels."""
    resize: Resize
    grey: Grey


@dataclass(frozen=True, slots=True, eq=False)
class Task:
    """One image to convert; `place` is its path below the raw folder, for reports."""

    item: Item
    path: Path
    place: str


@dataclass(frozen=True, slots=True)
class Done:
    """What became of an image, as plain values that JSON keeps exactly.

    Shapes: sizes are (width, height); xyxy [N][4] px of the stored image. `columns` are the source
    columns, and `study_id` and `patient_id` the ids, that its file told; an id is empty where it told none.
    """

    image_id: str
    study_id: str
    patient_id: str
    stored: tuple[int, int]
    original: tuple[int, int]
    xyxy: list[list[float]]
    columns: dict[str, str]
    repairs: list[Repair]
    file_bytes: int


def image_place(image_id: str) -> str:
    """Path of a stored image below the data set's folder."""
    return f"images/{image_id}.png"


def label_place(image_id: str) -> str:
    """Path of an image's YOLO labels below the data set's folder."""
    return f"labels/{image_id}.txt"


def convert_item(settings: Settings, task: Task) -> Done | Failure:
    """Convert one image, or say why it is refused; nothing is written then."""
    item = task.item
    try:
        image = settings.load(task.path, settings.grey)
        if image.pixels.min() == image.pixels.max():
            raise ImageError(task.path, "pixels", found="one grey level", expected="an image of something")
        original = _original_size(item, image, settings.native)
        pixels = shrink(image.pixels, settings.image_size, settings.resize) if settings.image_size else image.pixels
        stored = ImageSize(pixels.shape[1], pixels.shape[0])
        boxes, clipped = place_boxes(item, original, stored)
    except UserError as error:
        return Failure(item.image_id, task.place, error.reason)
    path = settings.out / image_place(item.image_id)
    write_png(path, pixels)
    return Done(
        image_id=item.image_id,
        study_id=image.study_id,
        patient_id=image.patient_id,
        stored=(stored.width, stored.height),
        original=(original.width, original.height),
        xyxy=boxes.xyxy.tolist(),
        columns=image.columns,
        repairs=[*clipped, *_scalings(item, image)],
        file_bytes=path.stat().st_size,
    )


def _original_size(item: Item, image: RawImage, native: ImageSize | None) -> ImageSize:
    """The size in whose pixels the boxes are published."""
    if native is not None:
        return native
    found, told = image.size, item.copy_original
    if told is None:
        # A copy that was found by its stem may be of any size; one that the labels name is what they are about.
        if len(item.xyxy) and item.place is None and not image.is_dicom:
            unknown = f"unknown for this {found.width}x{found.height} copy"
            raise SourceError(
                item.image_id,
                "original size",
                found=unknown,
                expected="its original width and height beside the labels",
            )
        return found
    # Software that obeys EXIF turns an image before it is labelled; a DICOM file is the original itself.
    turned = told != found and (told.width, told.height) == (found.height, found.width)
    if turned or (image.is_dicom and told != found):
        kind = "a DICOM file" if image.is_dicom else "a copy"
        expected = f"{told.width}x{told.height} as the labels say"
        raise SourceError(
            item.image_id, "original size", found=f"{kind} of {found.width}x{found.height}", expected=expected
        )
    return told


def _scalings(item: Item, image: RawImage) -> list[Repair]:
    return [Repair(item.image_id, "scaling", "window", "minmax")] if image.scaled_otherwise else []
