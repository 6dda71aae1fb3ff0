"""Judging published boxes: clip what is partly outside, refuse what is no box."""

import numpy as np
from numpy.typing import NDArray

from converters.repair import Repair
from converters.source import Item
from siimdet.core.boxes import clip_boxes, scale_boxes
from siimdet.core.types import BoxLabels, ImageSize
from siimdet.errors import SourceError

# Where the image's size is not known yet, only the left and upper border can cut.
_ENDLESS = ImageSize(2**31, 2**31)


def clip_item(item: Item, size: ImageSize | None) -> tuple[NDArray[np.float64], list[Repair]]:
    """An item's boxes f64[N, 4] clipped to an image in whose pixels they are, and what that changed.

    Without a size only negative coordinates are clipped.
    Raises: SourceError for a box that is NaN, inverted, without area or wholly outside.
    """
    clipped = clip_boxes(np.nan_to_num(item.xyxy), size or _ENDLESS)
    repairs = []
    for number, (before, after) in enumerate(zip(item.xyxy, clipped, strict=True), start=1):
        _check(item.image_id, number, before, after, size)
        if (before != after).any():
            repairs.append(Repair(item.image_id, f"box {number} xyxy", _text(before), _text(after)))
    return clipped, repairs


def place_boxes(item: Item, original: ImageSize, stored: ImageSize) -> tuple[BoxLabels, list[Repair]]:
    """An item's boxes in the pixels of the stored image, clipped to the original one.

    Raises: SourceError as clip_item does, and for a box that the stored image is too small for.
    """
    clipped, repairs = clip_item(item, original)
    try:
        boxes = BoxLabels(scale_boxes(clipped, original, stored), item.class_ids, stored)  # type: ignore[arg-type]
    except ValueError as error:
        raise SourceError(item.image_id, "box", found=error, expected="an area in the stored image") from None
    return boxes, repairs


def _check(image_id: str, number: int, before: NDArray, after: NDArray, size: ImageSize | None) -> None:
    field = f"box {number}"
    if not np.isfinite(before).all():
        raise SourceError(image_id, field, found=_text(before), expected="finite numbers")
    if (before[2:] < before[:2]).any():
        raise SourceError(image_id, field, found=f"inverted {_text(before)}", expected="x1 < x2 and y1 < y2")
    if (before[2:] == before[:2]).any():
        raise SourceError(image_id, field, found=f"zero-sized {_text(before)}", expected="x1 < x2 and y1 < y2")
    if (after[2:] <= after[:2]).any():
        extent = f"{size.width}x{size.height} image" if size else "image"
        raise SourceError(image_id, field, found=_text(before), expected=f"not wholly outside the {extent}")


def _text(box: NDArray) -> str:
    return " ".join(f"{value:.10g}" for value in box)
