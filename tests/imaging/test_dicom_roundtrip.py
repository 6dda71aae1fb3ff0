"""What write_radiograph writes, pydicom and read_radiograph read."""

import io

import imagecodecs
import numpy as np
import pydicom
import pytest
from pydicom.encaps import generate_frames
from pydicom.pixels import pixel_array

from siimdet.imaging.dicom import read_header_ids, read_radiograph, write_radiograph
from siimdet.imaging.radiograph import HeaderIds, LookupTable, Window

IDS = {"patient_id": "P-1", "study_uid": "1.2.826.1", "series_uid": "1.2.826.1.1", "sop_uid": "1.2.826.1.1.1"}
SHAPE = (61, 47)  # odd on purpose: padding bytes, runs that end with a row


def noise(dtype, bits):
    rng = np.random.default_rng(bits)
    low = -(1 << bits - 1) if np.dtype(dtype).kind == "i" else 0
    pixels = rng.integers(low, low + (1 << bits), SHAPE).astype(dtype)
    pixels[:20] = pixels[0, 0]  # long runs
    return pixels


def stored(image):
    return image.pixels.view(f"i{image.pixels.itemsize}") if image.signed else image.pixels


def other_decoder(path):
    """Not GDCM, which pydicom prefers: it aborts the test run on JPEG Lossless of 6 of 8 bits."""
    dataset = pydicom.dcmread(path)
    if dataset.file_meta.TransferSyntaxUID == pydicom.uid.JPEGLosslessSV1:
        return imagecodecs.jpegsof3_decode(next(generate_frames(dataset.PixelData, number_of_frames=1)))
    encapsulated = dataset.file_meta.TransferSyntaxUID.is_encapsulated
    return pixel_array(dataset, decoding_plugin="pydicom" if encapsulated else "")


LOSSLESS = [
    (syntax, dtype, bits)
    for syntax in ("explicit", "implicit", "rle", "jpeg-lossless")
    for dtype, bits in (("u1", 8), ("u1", 6), ("u2", 10), ("u2", 12), ("u2", 16), ("i2", 12), ("i2", 16))
    if not (syntax == "jpeg-lossless" and dtype == "i2")
]


@pytest.mark.parametrize(("syntax", "dtype", "bits"), LOSSLESS)
def test_lossless_syntaxes(tmp_path, syntax, dtype, bits):
    pixels = noise(dtype, bits)
    write_radiograph(tmp_path / "a.dcm", pixels, **IDS, bits_stored=bits, syntax=syntax)
    image = read_radiograph(tmp_path / "a.dcm")
    np.testing.assert_array_equal(stored(image), pixels)
    assert (image.bits_stored, image.signed, image.inverted) == (bits, dtype == "i2", False)
    np.testing.assert_array_equal(other_decoder(tmp_path / "a.dcm"), pixels)


def test_jpeg_lossless_uses_the_first_predictor(tmp_path):
    write_radiograph(tmp_path / "a.dcm", noise("u2", 12), **IDS, bits_stored=12, syntax="jpeg-lossless")
    code = next(generate_frames(pydicom.dcmread(tmp_path / "a.dcm").PixelData, number_of_frames=1))
    scan = code.index(b"\xff\xda")
    assert code[scan + 7] == 1  # after length, one component and its table: the selection value


def test_jpeg_baseline_is_close(tmp_path):
    ramp = np.add.outer(np.arange(64), np.arange(80)).astype(np.uint8)
    write_radiograph(tmp_path / "a.dcm", ramp, **IDS, bits_stored=8, syntax="jpeg")
    image = read_radiograph(tmp_path / "a.dcm")
    assert np.abs(image.pixels.astype(int) - ramp).max() <= 3
    assert pydicom.dcmread(tmp_path / "a.dcm").LossyImageCompression == "01"


@pytest.mark.parametrize("syntax", ["explicit", "implicit"])
def test_values_that_show_the_pixels(tmp_path, syntax):
    table = np.linspace(0, 65535, 65536)[::-1].astype(np.uint16)
    options = {"rescale": (1.5, -1024), "window": (40.5, 400), "padding": -2000}
    path = tmp_path / "a.dcm"
    write_radiograph(path, noise("i2", 12), **IDS, bits_stored=12, photometric="MONOCHROME1", syntax=syntax, **options)
    image = read_radiograph(path)
    assert (image.modality, image.voi, image.padding) == ((1.5, -1024.0), Window(40.5, 400), (-2000, -2000))
    assert image.inverted
    assert image.ids == read_header_ids(path) == HeaderIds(*IDS.values())
    assert (image.patient_id, image.study_uid, image.series_uid, image.sop_uid) == tuple(IDS.values())
    write_radiograph(path, noise("u2", 16), **IDS, bits_stored=16, syntax=syntax, voi_lut=table, **{"window": (1, 2)})
    lut = read_radiograph(path).voi
    assert isinstance(lut, LookupTable) and lut.first == 0  # the table comes before the window
    np.testing.assert_array_equal(lut.entries, table)


@pytest.mark.parametrize("syntax", ["explicit", "implicit", "rle", "jpeg-lossless", "jpeg"])
def test_same_arguments_same_bytes(tmp_path, syntax):
    for name in ("a", "b"):
        write_radiograph(tmp_path / name, noise("u1", 8), **IDS, bits_stored=8, syntax=syntax)
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


@pytest.mark.parametrize(
    ("pixels", "options", "message"),
    [
        (np.zeros((2, 2), np.float32), {}, "expected u8, u16 or i16"),
        (np.zeros((2, 2, 3), np.uint8), {}, "expected u8, u16 or i16"),
        (np.full((2, 2), 9, np.uint8), {"bits_stored": 3}, "do not fit into 3 bits"),
        (np.zeros((2, 2), np.uint8), {"bits_stored": 9}, "expected 1 to 8"),
        (np.zeros((2, 2), np.uint16), {"syntax": "jpeg"}, "expected uint8"),
        (np.zeros((2, 2), np.int16), {"syntax": "jpeg-lossless"}, "expected unsigned"),
        (np.zeros((2, 2), np.uint8), {"syntax": "zip"}, "expected one of"),
    ],
)
def test_pixels_that_cannot_be_written(tmp_path, pixels, options, message):
    with pytest.raises(ValueError, match=message):
        write_radiograph(tmp_path / "a.dcm", pixels, **{**IDS, "bits_stored": 8, **options})
    assert not list(tmp_path.iterdir())


def rewritten(path, syntax):
    dataset = pydicom.dcmread(path)
    if syntax == pydicom.uid.ExplicitVRBigEndian:
        dataset.PixelData = np.frombuffer(dataset.PixelData, "<u2").astype(">u2").tobytes()
        for item in dataset.get("VOILUTSequence", []):
            item.LUTData = np.frombuffer(item.LUTData, "<u2").astype(">u2").tobytes()
    dataset.file_meta.TransferSyntaxUID = syntax
    buffer = io.BytesIO()
    little = syntax != pydicom.uid.ExplicitVRBigEndian
    pydicom.dcmwrite(buffer, dataset, implicit_vr=False, little_endian=little)
    path.write_bytes(buffer.getvalue())


@pytest.mark.parametrize("syntax", [pydicom.uid.ExplicitVRBigEndian, pydicom.uid.DeflatedExplicitVRLittleEndian])
def test_big_endian_and_deflated(tmp_path, syntax):
    path, pixels, table = tmp_path / "a.dcm", noise("u2", 12), np.arange(4096, dtype=np.uint16)[::-1]
    write_radiograph(path, pixels, **IDS, bits_stored=12, voi_lut=table)
    rewritten(path, syntax)
    image = read_radiograph(path)
    np.testing.assert_array_equal(image.pixels, pixels)
    assert isinstance(image.voi, LookupTable)
    np.testing.assert_array_equal(image.voi.entries, table)
    assert read_header_ids(path).patient_id == "P-1"


def test_big_endian_words_of_two_8_bit_pixels(tmp_path):
    path, pixels = tmp_path / "a.dcm", noise("u1", 8)
    write_radiograph(path, pixels, **IDS, bits_stored=8)
    rewritten(path, pydicom.uid.ExplicitVRBigEndian)
    np.testing.assert_array_equal(read_radiograph(path).pixels, pixels)


def test_tables_of_8_bits_packed_into_words(tmp_path):
    path, table = tmp_path / "a.dcm", np.arange(255, -1, -1, dtype=np.uint8)
    write_radiograph(path, noise("u1", 8), **IDS, bits_stored=8, voi_lut=table.astype(np.uint16))
    dataset = pydicom.dcmread(path)
    dataset.VOILUTSequence[0].LUTData = table.tobytes()
    dataset.ModalityLUTSequence = dataset.VOILUTSequence
    del dataset.VOILUTSequence
    dataset.save_as(path)
    image = read_radiograph(path)
    assert isinstance(image.modality, LookupTable)
    np.testing.assert_array_equal(image.modality.entries, table)
    assert image.voi is None
