"""Boxes and scores to lay over a radiograph without touching it (Grayscale Softcopy Presentation State).

Source: PS3.3 A.33.1; coordinates from 0 at the upper left corner of the first pixel (C.10.5).
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
from highdicom import VOILUT, ModalityLUTTransformation, PresentationLUTTransformation
from highdicom.color import CIELabColor
from highdicom.pr import (
    GraphicAnnotation,
    GraphicLayer,
    GraphicObject,
    GrayscaleSoftcopyPresentationState,
    SoftcopyVOILUTTransformation,
    TextObject,
)
from numpy.typing import NDArray

from siimdet.core.types import ImageSize
from siimdet.imaging.grayscale import grey_table
from siimdet.imaging.radiograph import LookupTable, Radiograph, Window
from siimdet.serve.dicom_identity import DISCLAIMER, Origin, finish, name_body_part, nameless
from siimdet.serve.dicom_source import Source
from siimdet.serve.results import FoundBox
from siimdet.serve.structured_report import corners

_LAYER = "OPACITIES"
_COLOUR = CIELabColor.from_rgb(255, 191, 0)
_LINES = 40  # of text in an image's height
_ASPECT = 8.0  # width of a label by its height


def presentation_state(
    source: Source, boxes: Sequence[FoundBox], origin: Origin, *, number: int
) -> GrayscaleSoftcopyPresentationState:
    """The boxes of one image, each with its score, and a line that says what they are.

    Grey levels are the source's own: its modality and VOI tables or window, and its inversion. `number` is that
    of the instance in its series.
    """
    header = nameless(source)
    layer = GraphicLayer(_LAYER, order=1, description="Boxes with scores", display_color=_COLOUR)
    annotation = GraphicAnnotation(
        referenced_images=[header],
        graphic_layer=layer,
        graphic_objects=[GraphicObject("POLYLINE", corners(box), "PIXEL") for box in boxes] or None,
        text_objects=[_banner(source.size, origin), *(_label(box, source.size) for box in boxes)],
    )
    state = GrayscaleSoftcopyPresentationState(
        referenced_images=[header],
        sop_instance_uid=origin.uid("presentation", header.SOPInstanceUID),
        instance_number=number,
        content_label=_LAYER,
        content_description=f"Opacities with a score from {origin.threshold:g}",
        graphic_annotations=[annotation],
        graphic_layers=[layer],
        **_grey_levels(source.radiograph),
        **origin.series("presentation", source),
    )
    name_body_part(state, source)
    finish(state, source, origin)
    return state


def _banner(size: ImageSize, origin: Origin) -> TextObject:
    place = (0.0, 0.0, float(size.width), size.height / _LINES)
    return TextObject(f"{origin.model.name}: {DISCLAIMER.lower()}", "PIXEL", place, text_justification="LEFT")


def _label(box: FoundBox, size: ImageSize) -> TextObject:
    """The score above its box, or inside where there is no room above."""
    height = size.height / _LINES
    top = box.y1 - height if box.y1 >= height else min(box.y1, size.height - height)
    width = min(_ASPECT * height, float(size.width))
    left = min(box.x1, size.width - width)
    return TextObject(
        f"opacity {box.score:.2f}", "PIXEL", (left, top, left + width, top + height), text_justification="LEFT"
    )


def _grey_levels(radiograph: Radiograph) -> dict[str, Any]:
    """The three transformations of stored values to light, as highdicom's constructor takes them."""
    folds = isinstance(radiograph.modality, LookupTable)
    voi = _folded(radiograph) if folds else _voi(radiograph.voi)
    # A presentation state replaces the image's own polarity, which MONOCHROME1 would else lose.
    shape = "INVERSE" if radiograph.inverted and not folds else "IDENTITY"
    return {
        "modality_lut_transformation": _rescale(radiograph),
        "voi_lut_transformations": None if voi is None else [voi],
        "presentation_lut_transformation": PresentationLUTTransformation(shape),
    }


def _rescale(radiograph: Radiograph) -> ModalityLUTTransformation | None:
    if isinstance(radiograph.modality, LookupTable) or radiograph.modality == (1, 0):
        return None
    slope, intercept = radiograph.modality
    return ModalityLUTTransformation(intercept, slope, "US")


def _voi(shown: LookupTable | Window | None) -> SoftcopyVOILUTTransformation | None:
    if isinstance(shown, Window):
        return SoftcopyVOILUTTransformation(shown.center, shown.width, voi_lut_function=shown.function)
    if shown is None:
        return None
    # Here a table has 8 or 16 bits, an image's may have those between: its white becomes the white of 16.
    white = (1 << max(8, int(shown.entries.max()).bit_length())) - 1
    return _table(shown.first, np.rint(shown.entries * (0xFFFF / white)).astype(np.uint16))


def _folded(radiograph: Radiograph) -> SoftcopyVOILUTTransformation:
    """Modality table, VOI and polarity as one table: a modality table of 12 bits fits no presentation state."""
    size = 1 << 8 * radiograph.pixels.itemsize
    table = grey_table(radiograph, np.ones(size, np.int64), bit_depth=16, scaling="window")
    first = -(1 << radiograph.bits_stored - 1) if radiograph.signed else 0
    values = np.arange(first, first + (1 << radiograph.bits_stored))
    return _table(first, np.asarray(table[values % size], np.uint16))


def _table(first: int, entries: NDArray[np.uint16]) -> SoftcopyVOILUTTransformation:
    item = VOILUT(max(0, first), entries)
    if first < 0:  # which highdicom refuses
        count = len(entries) & 0xFFFF
        item.add_new("LUTDescriptor", "SS", [count - (count >> 15 << 16), first, 16])
    return SoftcopyVOILUTTransformation(voi_luts=[item])
