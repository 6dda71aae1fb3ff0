"""Grey image files: lossless PNG out, PNG and JPEG in.

OpenCV reads a file that is cut off as if its missing part were grey, and says so on stderr alone;
so the structure of a file is checked before it is decoded.
"""

import zlib
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from siimdet.core.files import atomic_write
from siimdet.core.types import ImageSize
from siimdet.errors import ImageError
from siimdet.imaging.codestream import jpeg_header
from siimdet.imaging.limits import MAX_FILE_BYTES, MAX_PIXELS, MAX_SIDE

_PNG_START = b"\x89PNG\r\n\x1a\n"
_JPEG_START = b"\xff\xd8"
# Differences from the row above instead of OpenCV's, from the left: radiographs are read in three quarters of the
# time, from files that are as small or smaller (tools/bench_png.py). Its level stays: 1 is slower and larger.
_UP = (cv2.IMWRITE_PNG_FILTER, cv2.IMWRITE_PNG_FILTER_UP, cv2.IMWRITE_PNG_STRATEGY, cv2.IMWRITE_PNG_STRATEGY_RLE)
# An EXIF orientation would turn the image away from its boxes.
_AS_STORED = cv2.IMREAD_GRAYSCALE | cv2.IMREAD_ANYDEPTH | cv2.IMREAD_IGNORE_ORIENTATION


def write_png(path: Path | str, image: NDArray[np.unsignedinteger]) -> None:
    """Write a grey image as PNG, atomically and without loss.

    Shapes: u8 or u16 [H, W].
    """
    if image.ndim != 2 or image.dtype not in (np.uint8, np.uint16) or not image.size:
        raise ValueError(f"image is {image.dtype}{list(image.shape)}, expected u8 or u16 [H, W]")
    _, encoded = cv2.imencode(".png", image, _UP)
    with atomic_write(path, "wb") as stream:
        stream.write(encoded)


def read_grey(path: Path | str) -> NDArray[np.unsignedinteger]:
    """Read a PNG or JPEG file as grey: colour by its luma, transparency and EXIF orientation ignored.

    Shapes: u16[H, W] for PNG of 16 bits, else u8[H, W].
    Raises: ImageError for other formats, broken or cut off files, more than 150 million pixels.
    """
    data = _read_bytes(Path(path))
    size = _size(data, path)
    image = cv2.imdecode(np.frombuffer(data, np.uint8), _AS_STORED)
    if image is None or image.shape != (size.height, size.width):
        found = "data that cannot be decoded" if image is None else f"an image of shape {image.shape}"
        raise ImageError(path, "file", found=found, expected=f"{size.height} rows of {size.width} pixels")
    return np.asarray(image, dtype=np.uint16 if image.itemsize == 2 else np.uint8)


def read_size(path: Path | str) -> ImageSize:
    """Size of a PNG or JPEG file, without decoding its pixels. Raises: ImageError as read_grey does."""
    return _size(_read_bytes(Path(path)), path)


def _size(data: bytes, path: Path | str) -> ImageSize:
    """The size that a whole file claims, within the limits."""
    try:
        if data.startswith(_PNG_START):
            width, height = _png_size(data)
        elif data.startswith(_JPEG_START):
            header = jpeg_header(data)
            width, height = header.columns, header.rows
        else:
            raise ValueError(f"a file that starts with {data[:8]!r}")
    except ValueError as error:
        raise ImageError(path, "file", found=error, expected="a whole PNG or JPEG image") from error
    if not 0 < width * height <= MAX_PIXELS or max(width, height) > MAX_SIDE:
        expected = f"1 to {MAX_PIXELS} pixels, {MAX_SIDE} a side"
        raise ImageError(path, "file", found=f"{height} rows of {width} pixels", expected=expected)
    return ImageSize(width, height)


def _read_bytes(path: Path) -> bytes:
    try:
        size = path.stat().st_size
        if not 0 < size <= MAX_FILE_BYTES:
            raise ImageError(path, "file", found=f"{size} bytes", expected=f"1 to {MAX_FILE_BYTES}")
        return path.read_bytes()
    except OSError as error:
        raise ImageError(path, "file", found=error.strerror or error, expected="a readable file") from error


def _png_size(data: bytes) -> tuple[int, int]:
    """Width and height, after a walk over all chunks with their checksums (PNG, section 5)."""
    at, kind, size = len(_PNG_START), b"", (0, 0)
    while kind != b"IEND":
        length, kind = int.from_bytes(data[at : at + 4], "big"), data[at + 4 : at + 8]
        end = at + 12 + length
        if end > len(data):
            raise ValueError("a PNG that is cut off")
        if zlib.crc32(memoryview(data)[at + 4 : end - 4]) != int.from_bytes(data[end - 4 : end], "big"):
            raise ValueError(f"a PNG with a wrong checksum of its chunk {kind!r}")
        if at == len(_PNG_START):
            if kind != b"IHDR" or length != 13:
                raise ValueError("a PNG without a header")
            size = int.from_bytes(data[at + 8 : at + 12], "big"), int.from_bytes(data[at + 12 : at + 16], "big")
        at = end
    return size
