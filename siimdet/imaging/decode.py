"""From the bytes of one frame to stored values, by transfer syntax.

Codecs: NumPy for native pixels, imagecodecs for the rest. jpeg8 reads the JPEG processes of DICOM,
12-bit extended, progressive and lossless ones among them. GDCM is left out: it aborts the process on
JPEG Lossless where BitsStored is 6 of 8.
"""

from dataclasses import dataclass
from pathlib import Path

import imagecodecs
import numpy as np
from numpy.typing import NDArray

from siimdet.errors import ImageError
from siimdet.imaging.codestream import FrameHeader, j2k_code_stream, j2k_header, jpeg_header
from siimdet.imaging.jpegxl import jpegxl_header

EXPLICIT_BIG_ENDIAN = "1.2.840.10008.1.2.2"
DEFLATED = "1.2.840.10008.1.2.1.99"
"""Deflated Explicit VR Little Endian: native pixels, once the file is inflated."""

_NATIVE = frozenset({"1.2.840.10008.1.2", "1.2.840.10008.1.2.1", EXPLICIT_BIG_ENDIAN, DEFLATED})
_RLE = "1.2.840.10008.1.2.5"
_JPEG = frozenset(f"1.2.840.10008.1.2.4.{number}" for number in (50, 51, 53, 55, 57, 70))
_JPEG_LS = frozenset(f"1.2.840.10008.1.2.4.{number}" for number in (80, 81))
_J2K = frozenset(f"1.2.840.10008.1.2.4.{number}" for number in (90, 91, 201, 202, 203))  # 201 on: high throughput
_JPEG_XL = frozenset(f"1.2.840.10008.1.2.4.{number}" for number in (110, 111, 112))
_ENCAPSULATED = {_RLE} | _JPEG | _JPEG_LS | _J2K | _JPEG_XL
SYNTAXES = _NATIVE | _ENCAPSULATED
"""UIDs of the transfer syntaxes that can be decoded."""

_FIELD = "PixelData (7FE0,0010)"


@dataclass(frozen=True, slots=True)
class FrameFormat:
    """What the header says about the one frame."""

    rows: int
    columns: int
    bits_allocated: int
    """8 or 16."""
    signed: bool

    @property
    def pixels(self) -> int:
        """Rows times columns."""
        return self.rows * self.columns


def is_supported(syntax: str) -> bool:
    """Whether `decode_frame` knows a transfer syntax UID."""
    return syntax in SYNTAXES


def is_encapsulated(syntax: str) -> bool:
    """Whether the pixel data are cut into fragments, which must be joined before `decode_frame`."""
    return syntax in _ENCAPSULATED


def decode_frame(
    data: bytes, frame: FrameFormat, *, syntax: str, file: Path | str, words: bool = False
) -> NDArray[np.unsignedinteger]:
    """Decode one frame to stored bit patterns.

    Shapes: u8[rows, columns] or u16[rows, columns], by the bits allocated. `words`: native 8-bit
    pixels are stored two to a 16-bit word, which matters in big endian.
    Raises: ImageError if data are missing, broken or of another size than `frame`.
    """
    if syntax in _NATIVE:
        return _native(data, frame, big_endian=syntax == EXPLICIT_BIG_ENDIAN, words=words, file=file)
    if syntax == _RLE:
        return _run_length(data, frame, file=file)
    return _code_stream(j2k_code_stream(data) if syntax in _J2K else data, frame, syntax=syntax, file=file)


def _native(
    data: bytes, frame: FrameFormat, *, big_endian: bool, words: bool, file: Path | str
) -> NDArray[np.unsignedinteger]:
    expected = frame.pixels * frame.bits_allocated // 8
    if len(data) < expected:
        raise ImageError(file, _FIELD, found=f"{len(data)} bytes", expected=f"{expected} bytes")
    if frame.bits_allocated == 16:
        pixels = np.frombuffer(data, ">u2" if big_endian else "<u2", frame.pixels).astype(np.uint16, copy=False)
    elif big_endian and words:
        pixels = np.frombuffer(data, np.uint8, expected + expected % 2).reshape(-1, 2)[:, ::-1].reshape(-1)[:expected]
    else:
        pixels = np.frombuffer(data, np.uint8, expected)
    return pixels.reshape(frame.rows, frame.columns)


def _run_length(data: bytes, frame: FrameFormat, *, file: Path | str) -> NDArray[np.unsignedinteger]:
    """PS3.5 annex G: one PackBits segment per byte of a pixel, the high bytes first."""
    planes = frame.bits_allocated // 8
    if len(data) < 64:
        raise ImageError(file, _FIELD, found=f"{len(data)} bytes", expected="a run-length header of 64 bytes")
    header = np.frombuffer(data, "<u4", 16)
    if header[0] != planes:
        raise ImageError(file, _FIELD, found=f"{header[0]} run-length segments", expected=f"{planes}")
    starts = [int(start) for start in header[1 : 1 + planes]]
    ends = [*starts[1:], len(data)]
    pixels = np.empty((frame.pixels, planes), np.uint8)
    for plane, (start, end) in enumerate(zip(starts, ends, strict=True)):
        if not 64 <= start <= end <= len(data):
            raise ImageError(file, _FIELD, found=f"a run-length segment at byte {start}", expected=f"64 to {end}")
        pixels[:, planes - 1 - plane] = _unpack_segment(data[start:end], frame.pixels, file=file)
    return pixels.reshape(-1).view("<u2" if planes == 2 else "u1").reshape(frame.rows, frame.columns)


def _unpack_segment(segment: bytes, size: int, *, file: Path | str) -> NDArray[np.uint8]:
    try:
        # Room for what padding bytes unpack to, and for no bomb.
        unpacked = imagecodecs.packbits_decode(segment, out=size + 256)
    except RuntimeError as error:
        raise ImageError(file, _FIELD, found=error, expected=f"{size} run-length coded bytes") from error
    if len(unpacked) < size:
        raise ImageError(file, _FIELD, found=f"{len(unpacked)} run-length coded bytes", expected=f"{size}")
    return np.frombuffer(unpacked, np.uint8, size)


def _code_stream(code: bytes, frame: FrameFormat, *, syntax: str, file: Path | str) -> NDArray[np.unsignedinteger]:
    read_header, decoder = jpeg_header, imagecodecs.jpeg8_decode
    if syntax in _J2K:
        read_header, decoder = j2k_header, imagecodecs.jpeg2k_decode
    elif syntax in _JPEG_LS:
        decoder = imagecodecs.jpegls_decode
    elif syntax in _JPEG_XL:
        read_header, decoder = jpegxl_header, imagecodecs.jpegxl_decode
    try:
        header = read_header(code)
    except ValueError as error:
        raise ImageError(file, _FIELD, found=error, expected=f"a code stream of syntax {syntax}") from error
    _check_header(header, frame, file=file)
    try:
        decoded = decoder(code)
    except (RuntimeError, ValueError) as error:
        raise ImageError(file, _FIELD, found=error, expected=f"a code stream of syntax {syntax}") from error
    if decoded.shape != (frame.rows, frame.columns) or decoded.dtype.kind not in "iu" or decoded.itemsize > 2:
        found = f"{decoded.dtype} of shape {decoded.shape}"
        raise ImageError(file, _FIELD, found=found, expected=f"{frame.rows} rows of {frame.columns} pixels")
    return _patterns(decoded, frame, header.precision)


def _check_header(header: FrameHeader, frame: FrameFormat, *, file: Path | str) -> None:
    if (header.rows, header.columns) != (frame.rows, frame.columns):
        found = f"a code stream of {header.rows} rows and {header.columns} columns"
        raise ImageError(file, _FIELD, found=found, expected=f"{frame.rows} and {frame.columns}, as in the header")
    if header.components != 1:
        raise ImageError(file, _FIELD, found=f"a code stream of {header.components} components", expected="1")
    if not 2 <= header.precision <= frame.bits_allocated:
        found = f"a code stream of {header.precision} bits"
        raise ImageError(file, _FIELD, found=found, expected=f"2 to {frame.bits_allocated} bits (BitsAllocated)")


def _patterns(decoded: NDArray[np.integer], frame: FrameFormat, precision: int) -> NDArray[np.unsignedinteger]:
    """A decoder's numbers as bit patterns of the allocated width.

    Whether a code stream calls its numbers signed says nothing about PixelRepresentation: JPEG cannot
    say it, and writers of JPEG 2000 get it wrong. The header decides, the sign bit is the highest bit.
    """
    unsigned = np.dtype(f"u{frame.bits_allocated // 8}")
    if decoded.dtype.kind == "u" and not frame.signed:
        return decoded.astype(unsigned, copy=False)
    signed = np.dtype(f"i{frame.bits_allocated // 8}")
    patterns = decoded.astype(signed if frame.signed else unsigned)
    spare = frame.bits_allocated - precision
    return ((patterns << spare) >> spare).view(unsigned)
