"""The header of a JPEG XL code stream: size and bits, read before a decoder allocates for them.

Source: ISO/IEC 18181-1 annex D (bit order, U32, SizeHeader, ImageMetadata); 18181-2 clause 9 (boxes).
"""

from siimdet.imaging.codestream import FrameHeader

_START = b"\xff\x0a"
_BOXED = b"\x00\x00\x00\x0cJXL \x0d\x0a\x87\x0a"
_SIDE_BITS = (9, 13, 18, 30)
# Width to height, by the three bits of a size header; 0 says that the width has bits of its own.
_RATIOS = ((1, 1), (6, 5), (4, 3), (3, 2), (16, 9), (5, 4), (2, 1))
_PRECISIONS = (8, 10, 12)


class _Bits:
    """Bits of the first bytes of a stream, the lowest of each byte first."""

    def __init__(self, data: bytes) -> None:
        self._value, self._left = int.from_bytes(data, "little"), 8 * len(data)

    def take(self, count: int) -> int:
        """The next bits as a number. Raises: ValueError past the end."""
        if count > self._left:
            raise ValueError("a header that is cut off")
        taken = self._value & ((1 << count) - 1)
        self._value >>= count
        self._left -= count
        return taken


def jpegxl_header(code: bytes) -> FrameHeader:
    """Size and bits per sample of a JPEG XL image, bare or in its container; components are taken as 1.

    Colour shows in the shape of what is decoded.
    Raises: ValueError for what is no such image, turns it by an orientation, or holds floats.
    """
    bits = _Bits(_code_stream(code)[2:32])
    small = bits.take(1)
    height = _side(bits, small)
    ratio = bits.take(3)
    width = height * _RATIOS[ratio - 1][0] // _RATIOS[ratio - 1][1] if ratio else _side(bits, small)
    return FrameHeader(height, width, _precision(bits), components=1)


def _side(bits: _Bits, small: int) -> int:
    return 8 * (bits.take(5) + 1) if small else bits.take(_SIDE_BITS[bits.take(2)]) + 1


def _precision(bits: _Bits) -> int:
    if bits.take(1):  # all metadata are the default
        return 8
    if bits.take(1):
        raise ValueError("an orientation, a preview or an animation")
    if bits.take(1):
        raise ValueError("samples of floating point")
    choice = bits.take(2)
    return _PRECISIONS[choice] if choice < 3 else bits.take(6) + 1


def _code_stream(code: bytes) -> bytes:
    """The start of the code stream, out of the boxes around it if there are any."""
    if code.startswith(_START):
        return code
    if not code.startswith(_BOXED):
        raise ValueError("no JPEG XL start marker")
    at = 0
    while at + 8 <= len(code):
        length, kind = int.from_bytes(code[at : at + 4], "big"), code[at + 4 : at + 8]
        content = at + 8
        if length == 1:
            length, content = int.from_bytes(code[at + 8 : at + 16], "big"), at + 16
        if kind in (b"jxlc", b"jxlp"):
            start = content + (4 if kind == b"jxlp" else 0)  # a part has its number first
            if code[start : start + 2] != _START:
                raise ValueError("no JPEG XL start marker in its container")
            return code[start:]
        if length < content - at:
            break
        at += length
    raise ValueError("a container without a JPEG XL code stream")
