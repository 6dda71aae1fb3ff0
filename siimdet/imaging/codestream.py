"""The headers of compressed images, read before a decoder sees them.

A decoder allocates what the code stream asks for, not what the file around it says: 2 kB of
JPEG 2000 can claim 16,000 × 16,000 pixels.
"""

import struct
from dataclasses import dataclass

_J2K_START = b"\xff\x4f\xff\x51"
_END = b"\xff\xd9"
_NOT_FRAMES = (0xC4, 0xC8, 0xCC)  # Huffman tables, extensions, arithmetic conditioning
_PROGRESSIVE = (0xC2, 0xC6, 0xCA, 0xCE)
_SOF_LS = 0xF7
_SCAN = 0xDA
_MAX_SCANS = 100
_MAX_TILES = 16_384


@dataclass(frozen=True, slots=True)
class FrameHeader:
    """Size in pixels, bits per sample and number of components of a code stream."""

    rows: int
    columns: int
    precision: int
    components: int


def jpeg_header(code: bytes) -> FrameHeader:
    """The frame header of a JPEG, JPEG Lossless or JPEG-LS code stream.

    Raises: ValueError for what is no such stream, is cut off, or takes more passes than any real one.
    Source: ISO/IEC 10918-1 annex B, ISO/IEC 14495-1 annex C.
    """
    if code[:2] != b"\xff\xd8":
        raise ValueError("no JPEG start marker")
    header, kind, at = None, 0, 2
    while at + 10 <= len(code):
        marker, length = code[at + 1], int.from_bytes(code[at + 2 : at + 4], "big")
        if code[at] != 0xFF:
            raise ValueError(f"no marker at byte {at}")
        if marker == _SCAN:
            break
        if marker == _SOF_LS or (0xC0 <= marker <= 0xCF and marker not in _NOT_FRAMES):
            precision, rows, columns, components = struct.unpack_from(">BHHB", code, at + 4)
            header, kind = FrameHeader(rows, columns, precision, components), marker
        at += 1 if marker == 0xFF else 2 + length  # fill bytes may precede a marker
    if header is None:
        raise ValueError("no frame header")
    # Each scan of a progressive JPEG passes over the whole image: a small file could keep a core for hours.
    # Other JPEGs have one scan a component, and counting takes longer than reading all the rest.
    several = kind in _PROGRESSIVE or header.components > 1
    if several and (scans := code.count(b"\xff\xda")) > _MAX_SCANS:
        raise ValueError(f"{scans} scans")
    # Decoders fill what is missing with grey and report success. The bytes of a scan cannot look like the marker.
    if code.rfind(_END, at) < 0:
        raise ValueError("no end marker: cut off")
    return header


def j2k_header(code: bytes) -> FrameHeader:
    """The size segment of a JPEG 2000 code stream.

    Raises: ValueError for what is no such stream or is cut into more tiles than any real one.
    Source: ISO/IEC 15444-1 A.5.1.
    """
    if code[:4] != _J2K_START or len(code) < 45:
        raise ValueError("no JPEG 2000 start marker")
    x1, y1, x0, y0, tile_x, tile_y, tile_x0, tile_y0, components = struct.unpack_from(">8IH", code, 8)
    depth, step_x, step_y = struct.unpack_from(">3B", code, 42)
    if not (x0 < x1 and y0 < y1 and tile_x and tile_y) or (step_x, step_y) != (1, 1):
        raise ValueError("impossible image, tile or sampling size")
    tiles = -(-(x1 - tile_x0) // tile_x) * -(-(y1 - tile_y0) // tile_y)
    if tiles > _MAX_TILES:
        raise ValueError(f"{tiles} tiles")
    return FrameHeader(y1 - y0, x1 - x0, (depth & 0x7F) + 1, components)


def j2k_code_stream(data: bytes) -> bytes:
    """The code stream alone, where a writer wrapped it into a JP2 file against PS3.5 A.4.4."""
    start = data.find(_J2K_START, 0, 4096)
    return data[start:] if start > 0 else data
