"""A picture of a radiograph with its findings burned in, for every viewer (Secondary Capture)."""

from collections.abc import Mapping, Sequence

import numpy as np
from highdicom.sc import SCImage
from highdicom.sr import CodedConcept
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont
from pydicom.dataset import Dataset
from pydicom.sr.codedict import codes

from siimdet.imaging.grayscale import to_grey
from siimdet.imaging.resize import shrink
from siimdet.serve.dicom_identity import DISCLAIMER, Origin, finish, name_body_part, nameless
from siimdet.serve.dicom_source import Source
from siimdet.serve.results import FoundBox

LONGER_SIDE = 2048
"""Pixels of a picture, at most."""

_COLOUR = (255, 191, 0)
_MIN_TEXT, _MAX_TEXT = 11, 44  # px
_LOSSY = ("LossyImageCompression", "LossyImageCompressionRatio", "LossyImageCompressionMethod")


def capture(
    source: Source, boxes: Sequence[FoundBox], study: Mapping[str, float] | None, origin: Origin, *, number: int
) -> SCImage:
    """The radiograph as the pipeline renders it, with boxes, scores, the study's class and that it is no diagnosis.

    `number` is that of the instance in its series.
    """
    picture = burn_in(to_grey(source.radiograph), boxes, _lines(boxes, study, origin))
    made = SCImage.from_ref_dataset(
        ref_dataset=nameless(source),
        pixel_array=picture,
        photometric_interpretation="RGB",
        bits_allocated=8,
        coordinate_system="PATIENT",
        patient_orientation=("L", "F"),  # asked for by highdicom; the source's own follows
        sop_instance_uid=origin.uid("capture", source.header.SOPInstanceUID),
        instance_number=number,
        transfer_syntax_uid="1.2.840.10008.1.2.1",
        **origin.series("capture", source),
    )
    _describe(made, source, origin)
    finish(made, source, origin)
    return made


def burn_in(grey: NDArray[np.unsignedinteger], boxes: Sequence[FoundBox], lines: Sequence[str]) -> NDArray[np.uint8]:
    """Draw boxes with their scores on an image, below a strip with the lines: nothing of the image is covered by text
    but beside a box.

    Shapes: grey u8[H, W], boxes in its pixels; the result u8[H', W', 3], whose longer side is at most LONGER_SIDE.
    """
    height, width = grey.shape
    image = shrink(grey, LONGER_SIDE)
    font = _font(lines, image.shape[1])
    strip = round(1.4 * font.size * len(lines) + 0.6 * font.size)
    image = shrink(image, LONGER_SIDE - strip) if image.shape[0] + strip > LONGER_SIDE else image
    widest = max(image.shape[1], *(int(font.getlength(line) + font.size) + 1 for line in lines))
    canvas = Image.new("RGB", (widest, image.shape[0] + strip))
    canvas.paste(Image.fromarray(np.asarray(image, np.uint8)).convert("RGB"), (0, strip))
    draw = ImageDraw.Draw(canvas)
    for row, line in enumerate(lines):
        draw.text((font.size / 2, font.size * (0.4 + 1.4 * row)), line, fill=_COLOUR, font=font)
    scale = (image.shape[1] / width, image.shape[0] / height)
    for box in boxes:
        _draw_box(draw, box, scale, strip, font)
    return np.asarray(canvas)


def _lines(boxes: Sequence[FoundBox], study: Mapping[str, float] | None, origin: Origin) -> list[str]:
    count = f"{len(boxes) or 'no'} {'opacity' if len(boxes) == 1 else 'opacities'}"
    lines = [f"{DISCLAIMER.upper()}: {origin.model.name} {origin.model.version}"]
    if study is not None:
        lines.append("study: " + ", ".join(f"{name} {share:.2f}" for name, share in _ranked(study)))
    return [*lines, f"{count} with a score from {origin.threshold:g}"]


def _ranked(study: Mapping[str, float]) -> list[tuple[str, float]]:
    return sorted(study.items(), key=lambda pair: -pair[1])


def _font(lines: Sequence[str], width: int) -> ImageFont.FreeTypeFont:
    """As large as lets the longest line fit, within bounds: in a very small image the picture becomes wider."""
    size = min(_MAX_TEXT, max(_MIN_TEXT, width // 40))
    longest = max(_sized(size).getlength(line) for line in lines) + size
    return _sized(max(_MIN_TEXT, min(size, int(size * width / longest))))


def _sized(size: int) -> ImageFont.FreeTypeFont:
    font = ImageFont.load_default(size)
    assert isinstance(font, ImageFont.FreeTypeFont), "Pillow without FreeType"
    return font


def _draw_box(
    draw: ImageDraw.ImageDraw, box: FoundBox, scale: tuple[float, float], strip: int, font: ImageFont.FreeTypeFont
) -> None:
    x1, x2 = box.x1 * scale[0], box.x2 * scale[0]
    y1, y2 = box.y1 * scale[1] + strip, box.y2 * scale[1] + strip
    line = max(1, round(font.size / 10))
    draw.rectangle((x1, y1, max(x1, x2 - 1), max(y1, y2 - 1)), outline=_COLOUR, width=line)
    above = y1 - 1.4 * font.size
    place = (x1 + line, above if above >= strip else y1 + line)
    draw.text(place, f"{box.score:.2f}", fill=_COLOUR, font=font, stroke_width=line, stroke_fill=(0, 0, 0))


def _describe(made: Dataset, source: Source, origin: Origin) -> None:
    """What it shows and what of, beyond what highdicom writes."""
    header = source.header
    made.BurnedInAnnotation = "YES"
    made.ImageComments = f"{DISCLAIMER}. Boxes with a score from {origin.threshold:g}"
    made.DerivationDescription = "Boxes, scores and classes drawn on the radiograph"
    made.PatientOrientation = header.get("PatientOrientation") or None
    name_body_part(made, source)
    image = Dataset()
    image.ReferencedSOPClassUID, image.ReferencedSOPInstanceUID = header.SOPClassUID, header.SOPInstanceUID
    image.PurposeOfReferenceCodeSequence = [CodedConcept.from_code(codes.DCM.SourceImageForImageProcessingOperation)]
    made.SourceImageSequence = [image]
    if header.get("LossyImageCompression") == "01":  # what was lossy once stays so (PS3.3 C.7.6.1.1.5)
        for keyword in _LOSSY:
            if keyword in header:
                made[keyword] = header[keyword]
    made.DateOfSecondaryCapture, made.TimeOfSecondaryCapture = origin.made.strftime("%Y%m%d %H%M%S").split()
