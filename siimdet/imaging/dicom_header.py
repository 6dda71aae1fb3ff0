"""What the elements of a DICOM header mean for one grey frame, and which of them cannot be.

Works on plain values; the parser is behind its door in dicom.py.
"""

import math
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

import numpy as np

from siimdet.errors import ImageError
from siimdet.imaging.decode import FrameFormat
from siimdet.imaging.limits import MAX_PIXELS, MAX_SIDE
from siimdet.imaging.radiograph import HeaderIds, LookupTable, Window, stored_values

_MAX_NUMBER = 1e12  # keeps every sum and product of the grey scaling finite and exact enough

TAGS = {
    "SOPInstanceUID": 0x00080018,
    "PatientID": 0x00100020,
    "StudyInstanceUID": 0x0020000D,
    "SeriesInstanceUID": 0x0020000E,
    "SamplesPerPixel": 0x00280002,
    "PhotometricInterpretation": 0x00280004,
    "NumberOfFrames": 0x00280008,
    "Rows": 0x00280010,
    "Columns": 0x00280011,
    "BitsAllocated": 0x00280100,
    "BitsStored": 0x00280101,
    "HighBit": 0x00280102,
    "PixelRepresentation": 0x00280103,
    "PixelPaddingValue": 0x00280120,
    "PixelPaddingRangeLimit": 0x00280121,
    "WindowCenter": 0x00281050,
    "WindowWidth": 0x00281051,
    "RescaleIntercept": 0x00281052,
    "RescaleSlope": 0x00281053,
    "VOILUTFunction": 0x00281056,
    "ModalityLUTSequence": 0x00283000,
    "VOILUTSequence": 0x00283010,
    "PresentationLUTShape": 0x20500020,
    "OverlayBitPosition": 0x60000102,
    "PixelData": 0x7FE00010,
}
"""Every element that is read, and no other; all have a value multiplicity of 1 where this reads one value."""

_VOI = {"VOILUTSequence", "WindowCenter", "WindowWidth"}

TABLE_TAGS = {"LUTDescriptor": 0x00283002, "LUTData": 0x00283006}
"""The elements of an item of ModalityLUTSequence or VOILUTSequence."""


def tag_name(keyword: str) -> str:
    """A keyword with its number, as in `Rows (0028,0010)`."""
    tag = {**TAGS, **TABLE_TAGS}[keyword]
    return f"{keyword} ({tag >> 16:04X},{tag & 0xFFFF:04X})"


@dataclass(frozen=True, slots=True, eq=False)
class Header:
    """The values of one file by keyword: numbers, text, bytes, lists of them, or items of a sequence.

    Elements that are absent or empty are not in `values`.
    """

    file: Path | str
    values: dict[str, object]

    def refuse(self, keyword: str, *, found: object, expected: object) -> NoReturn:
        """Raise ImageError for an element."""
        raise ImageError(self.file, tag_name(keyword), found=found, expected=expected)

    def text(self, keyword: str) -> str:
        """An element as text, empty if it is absent."""
        return str(self.values.get(keyword, "")).strip()

    def number(self, keyword: str, default: float | None = None, *, place: int = 0) -> float:
        """The value of an element at a place, from 0, as a finite number; without a default it must be there."""
        value = self.values.get(keyword, default)
        if isinstance(value, list):
            value = value[place] if place < len(value) else None
        elif place:
            value = None
        if not isinstance(value, (int, float)) or not math.isfinite(value) or abs(value) > _MAX_NUMBER:
            found = "nothing" if value is None else repr(value)
            self.refuse(keyword, found=found, expected="a number")
        return float(value)

    def integer(self, keyword: str, allowed: range, default: int | None = None) -> int:
        """An element as a number of `allowed`; without a default it must be there."""
        value = self.values.get(keyword, default)
        if not isinstance(value, int) or value not in allowed:
            choice = f"{allowed[0]}" if len(allowed) == 1 else f"{allowed[0]} to {allowed[-1]}"
            self.refuse(keyword, found="nothing" if value is None else repr(value), expected=choice)
        return value


def read_ids(header: Header) -> HeaderIds:
    """Patient, study, series and instance."""
    keywords = ("PatientID", "StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID")
    return HeaderIds(*(header.text(keyword) for keyword in keywords))


def read_frame_format(header: Header) -> FrameFormat:
    """Size and bits of the one grey frame that siimdet reads; anything else is refused."""
    if "PixelData" not in header.values:
        header.refuse("PixelData", found="nothing", expected="an image")
    header.integer("SamplesPerPixel", range(1, 2))
    header.integer("NumberOfFrames", range(1, 2), default=1)
    if (photometric := header.text("PhotometricInterpretation")) not in ("MONOCHROME1", "MONOCHROME2"):
        header.refuse("PhotometricInterpretation", found=photometric, expected="MONOCHROME1 or MONOCHROME2")
    rows = header.integer("Rows", range(1, MAX_SIDE + 1))
    columns = header.integer("Columns", range(1, MAX_SIDE + 1))
    if rows * columns > MAX_PIXELS:
        header.refuse("Rows", found=f"{rows} rows of {columns} pixels", expected=f"at most {MAX_PIXELS} pixels")
    if (allocated := header.integer("BitsAllocated", range(1, 65))) not in (8, 16):
        header.refuse("BitsAllocated", found=allocated, expected="8 or 16")
    signed = bool(header.integer("PixelRepresentation", range(2)))
    return FrameFormat(rows, columns, allocated, signed)


def read_bits_stored(header: Header, frame: FrameFormat) -> int:
    """Bits that hold the value, counted from the lowest."""
    stored = header.integer("BitsStored", range(1, frame.bits_allocated + 1))
    header.integer("HighBit", range(stored - 1, stored), default=stored - 1)
    # Overlays in the spare bits are retired, but would come out as white drawings.
    header.integer("OverlayBitPosition", range(1), default=0)
    return stored


def read_inverted(header: Header) -> bool:
    """Whether low values are bright.

    Both elements say the same thing once: Digital X-Ray files of MONOCHROME1 carry INVERSE too
    (PS3.3 C.8.11.3.1.2).
    """
    inverse = header.text("PresentationLUTShape") == "INVERSE"
    return inverse or header.text("PhotometricInterpretation") == "MONOCHROME1"


def read_modality(header: Header) -> LookupTable | tuple[float, float]:
    """The modality table, else the rescale (PS3.3 C.11.1)."""
    if (table := _read_table(header, "ModalityLUTSequence")) is not None:
        return table
    slope = header.number("RescaleSlope", default=1.0)
    if slope == 0:
        header.refuse("RescaleSlope", found=0, expected="a number other than 0")
    return slope, header.number("RescaleIntercept", default=0.0)


def read_voi(header: Header, number: int) -> LookupTable | Window | None:
    """A VOI table by its number from 1, else, where there are no tables, a window (PS3.3 C.11.2).

    None for number 0, and for 1 where the file has neither. A window that no value can pass, WindowWidth
    0 for one, is refused: which values were meant to be seen is unknown, and showing them all would look
    right and differ from every viewer.
    """
    place = number - 1
    if not number or (number == 1 and not _VOI & header.values.keys()):
        return None
    if (table := _read_table(header, "VOILUTSequence", place)) is not None:
        return table
    center, width = header.number("WindowCenter", place=place), header.number("WindowWidth", place=place)
    function = header.text("VOILUTFunction") or "LINEAR"
    if function not in ("LINEAR", "LINEAR_EXACT", "SIGMOID"):
        header.refuse("VOILUTFunction", found=function, expected="LINEAR, LINEAR_EXACT or SIGMOID")
    try:
        return Window(center, width, function)
    except ValueError as error:
        header.refuse("WindowWidth", found=error, expected="at least 1 (LINEAR) or above 0")


def read_padding(header: Header, frame: FrameFormat, bits_stored: int) -> tuple[int, int] | None:
    """First and last stored value of padding, in either order in the file (PS3.3 C.7.5.1.1.2)."""
    if "PixelPaddingValue" not in header.values:
        return None
    ends = []
    for keyword in ("PixelPaddingValue", "PixelPaddingRangeLimit"):
        if keyword in header.values:
            # As a bit pattern: writers confuse the signed and the unsigned form of the element.
            pattern = np.array([header.integer(keyword, range(-32768, 65536))])
            value = stored_values(
                pattern, bits_allocated=frame.bits_allocated, bits_stored=bits_stored, signed=frame.signed
            )
            ends.append(int(value[0]))
    return min(ends), max(ends)


def _read_table(header: Header, keyword: str, place: int = 0) -> LookupTable | None:
    items = header.values.get(keyword)
    if not isinstance(items, list) or not items:
        return None
    if place >= len(items):
        header.refuse(keyword, found=f"{len(items)} tables", expected=f"a table {place + 1}")
    descriptor, entries = items[place].get("LUTDescriptor"), items[place].get("LUTData")
    if not isinstance(descriptor, list) or len(descriptor) != 3 or not all(isinstance(n, int) for n in descriptor):
        header.refuse("LUTDescriptor", found=descriptor, expected=f"three numbers in {keyword}")
    # 65,536 entries do not fit into the element: 0 stands for them.
    count = descriptor[0] & 0xFFFF or 0x10000
    if not isinstance(entries, np.ndarray) or len(entries) < count:
        found = "nothing" if entries is None else f"{len(entries)} entries"
        header.refuse("LUTData", found=found, expected=f"{count} entries in {keyword}")
    return LookupTable(descriptor[1], entries[:count])
