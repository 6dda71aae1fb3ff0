"""Compressed frames that agree with their header, and those that must be refused before they are decoded."""

import struct

import imagecodecs
import numpy as np
import pydicom
import pytest
from pydicom.encaps import encapsulate

from siimdet.errors import ImageError
from siimdet.imaging.codestream import j2k_header, jpeg_header
from siimdet.imaging.dicom import read_radiograph, write_radiograph
from siimdet.imaging.jpegxl import jpegxl_header

IDS = {"patient_id": "P-1", "study_uid": "1.2.826.1", "series_uid": "1.2.826.1.1", "sop_uid": "1.2.826.1.1.1"}
PIXELS = np.random.default_rng(0).integers(0, 4096, (32, 24)).astype(np.uint16)
JPEG_LS, J2K, JPEG = "1.2.840.10008.1.2.4.80", "1.2.840.10008.1.2.4.90", "1.2.840.10008.1.2.4.70"
RLE, HTJ2K, JPEG_XL = "1.2.840.10008.1.2.5", "1.2.840.10008.1.2.4.201", "1.2.840.10008.1.2.4.110"


@pytest.fixture
def path(tmp_path):
    write_radiograph(tmp_path / "a.dcm", PIXELS, **IDS, bits_stored=12)
    return tmp_path / "a.dcm"


def reason(path) -> str:
    with pytest.raises(ImageError) as error:
        read_radiograph(path)
    return error.value.reason


def edit(path, **values):
    dataset = pydicom.dcmread(path)
    for keyword, value in values.items():
        setattr(dataset, keyword, value)
    save(path, dataset, dataset.file_meta.TransferSyntaxUID)


def wrapped(path, code, syntax):
    dataset = pydicom.dcmread(path)
    dataset.PixelData = encapsulate([code])
    dataset["PixelData"].VR = "OB"
    save(path, dataset, syntax)


def save(path, dataset, syntax):
    # pydicom writes no syntax that it does not know, JPEG XL for one: another of equal length takes its place.
    dataset.file_meta.TransferSyntaxUID = HTJ2K if syntax == JPEG_XL else syntax
    dataset.save_as(path)
    if syntax == JPEG_XL:
        path.write_bytes(path.read_bytes().replace(HTJ2K.encode(), JPEG_XL.encode(), 1))


ENCODED = {
    JPEG: imagecodecs.jpeg8_encode(PIXELS, bitspersample=12, lossless=True, predictor=1),
    JPEG_LS: imagecodecs.jpegls_encode(PIXELS),
    J2K: imagecodecs.jpeg2k_encode(PIXELS, codecformat="j2k", bitspersample=12, reversible=True),
    HTJ2K: imagecodecs.htj2k_encode(PIXELS),
    JPEG_XL: imagecodecs.jpegxl_encode(PIXELS, lossless=True, bitspersample=12, usecontainer=False),
}


@pytest.mark.parametrize("syntax", ENCODED)
def test_code_streams(path, syntax):
    code = ENCODED[syntax]
    wrapped(path, code, syntax)
    np.testing.assert_array_equal(read_radiograph(path).pixels, PIXELS)
    wrapped(path, code[: len(code) // 2], syntax)
    assert "PixelData (7FE0,0010): found" in reason(path)
    wrapped(path, b"\0" * 100, syntax)
    assert "start marker" in reason(path)
    wrapped(path, code, syntax)
    edit(path, Rows=31)
    assert "found a code stream of 32 rows and 24 columns, expected 31 and 24" in reason(path)
    edit(path, Rows=32, BitsAllocated=8, BitsStored=8, HighBit=7)
    assert "expected 2 to 8 bits (BitsAllocated)" in reason(path)


@pytest.mark.parametrize("syntax", [JPEG, J2K])
def test_code_stream_in_colour(path, syntax):
    image = np.zeros((32, 24, 3), np.uint8)
    code = imagecodecs.jpeg8_encode(image) if syntax == JPEG else imagecodecs.jpeg2k_encode(image, codecformat="j2k")
    wrapped(path, code, syntax)
    assert "found a code stream of 3 components, expected 1" in reason(path)


@pytest.mark.parametrize("shape", [(8, 8), (256, 32), (300, 400), (2000, 1000), (9000, 16)])
@pytest.mark.parametrize("bits", [8, 12, 16])
def test_jpeg_xl_headers(shape, bits):
    pixels = np.zeros(shape, np.uint8 if bits == 8 else np.uint16)
    for boxed in (False, True):
        code = imagecodecs.jpegxl_encode(pixels, lossless=True, bitspersample=bits, usecontainer=boxed)
        header = jpegxl_header(code)
        assert (header.rows, header.columns, header.precision) == (*shape, bits)


@pytest.mark.parametrize(
    ("code", "message"),
    [
        (b"\xff\x0a", "cut off"),
        (b"\x00\x00\x00\x0cJXL \x0d\x0a\x87\x0a" + b"\x00\x00\x00\x02ftyp", "container without"),
        (b"\x00\x00\x00\x0cJXL \x0d\x0a\x87\x0a" + b"\x00\x00\x00\x0cjxlcABCD", "start marker in its container"),
    ],
)
def test_broken_jpeg_xl_headers(code, message):
    with pytest.raises(ValueError, match=message):
        jpegxl_header(code)


def test_jpeg_xl_in_colour(path):
    wrapped(path, imagecodecs.jpegxl_encode(np.zeros((32, 24, 3), np.uint8)), JPEG_XL)
    assert "found uint8 of shape (32, 24, 3), expected 32 rows of 24 pixels" in reason(path)


def test_jp2_container_is_unwrapped(path):
    wrapped(path, imagecodecs.jpeg2k_encode(PIXELS, codecformat="jp2", reversible=True), J2K)
    np.testing.assert_array_equal(read_radiograph(path).pixels, PIXELS)


@pytest.mark.parametrize("pixels", [PIXELS - np.uint16(2048), (PIXELS.astype(np.int16) - 2048)])
def test_header_decides_about_the_sign(path, pixels):
    code = imagecodecs.jpeg2k_encode(pixels, codecformat="j2k", reversible=True)
    wrapped(path, code, J2K)
    edit(path, PixelRepresentation=1, BitsStored=16, HighBit=15)
    np.testing.assert_array_equal(read_radiograph(path).pixels.view(np.int16), PIXELS.astype(np.int16) - 2048)


def test_two_kilobytes_of_jpeg_2000_that_claim_a_wall(path):
    code = bytearray(ENCODED[J2K])
    struct.pack_into(">2I", code, 8, 16000, 16000)
    struct.pack_into(">2I", code, 24, 16000, 16000)
    wrapped(path, bytes(code), J2K)
    assert "found a code stream of 16000 rows and 16000 columns" in reason(path)
    struct.pack_into(">2I", code, 24, 1, 1)
    with pytest.raises(ValueError, match="256000000 tiles"):
        j2k_header(bytes(code))


def test_progressive_jpeg_of_a_thousand_scans():
    frame = b"\xff\xd8\xff\xc2" + struct.pack(">HBHHB", 11, 8, 4, 4, 1) + b"\x01\x11\0"
    with pytest.raises(ValueError, match="1000 scans"):
        jpeg_header(frame + b"\xff\xda\0\x08\1\1\0\0\0\0" * 1000 + b"\xff\xd9")


def test_run_length_bomb(path):
    segment = b"\x81\0" * 100_000
    header = struct.pack("<16I", 2, 64, 64 + len(segment), *[0] * 13)
    wrapped(path, header + segment * 2, RLE)
    assert "PixelData (7FE0,0010): found" in reason(path)


@pytest.mark.parametrize("starts", [(2, 64, 50), (2, 64, 1 << 31), (1, 64, 0), (2, 0, 80)])
def test_run_length_headers(path, starts):
    wrapped(path, struct.pack("<16I", *starts, *[0] * 13) + bytes(200), RLE)
    assert "run-length segment" in reason(path)
