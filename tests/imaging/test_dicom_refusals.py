"""Files that must end in a named reason: never a picture, a hang or gigabytes."""

import resource
import struct
import zlib

import numpy as np
import pydicom
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence

from siimdet.errors import ImageError
from siimdet.imaging.dicom import read_header_ids, read_radiograph, write_radiograph
from siimdet.imaging.grayscale import to_grey
from siimdet.imaging.radiograph import Window

IDS = {"patient_id": "P-1", "study_uid": "1.2.826.1", "series_uid": "1.2.826.1.1", "sop_uid": "1.2.826.1.1.1"}
PIXELS = np.random.default_rng(0).integers(0, 4096, (32, 24)).astype(np.uint16)


@pytest.fixture
def path(tmp_path):
    write_radiograph(tmp_path / "a.dcm", PIXELS, **IDS, bits_stored=12, window=(2048, 4096))
    return tmp_path / "a.dcm"


def reason(path) -> str:
    with pytest.raises(ImageError) as error:
        read_radiograph(path)
    assert str(error.value).startswith(f"{path}: ")
    return error.value.reason


def edit(path, **values):
    """Set elements, or remove those whose value is None; the reader is to be surprised, not the writer."""
    dataset = pydicom.dcmread(path)
    with pydicom.config.disable_value_validation():
        for keyword, value in values.items():
            if value is None:
                del dataset[keyword]
            else:
                setattr(dataset, keyword, value)
        dataset.save_as(path)


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ({"PixelData": None}, "PixelData (7FE0,0010): found nothing, expected an image"),
        ({"Rows": None}, "Rows (0028,0010): found nothing, expected 1 to 65535"),
        ({"Columns": 0}, "Columns (0028,0011): found 0, expected 1 to 65535"),
        ({"Rows": 65535, "Columns": 65535}, "Rows (0028,0010): found 65535 rows of 65535 pixels, expected at most"),
        ({"Rows": 33}, "PixelData (7FE0,0010): found 1536 bytes, expected 1584 bytes"),
        ({"SamplesPerPixel": 3}, "SamplesPerPixel (0028,0002): found 3, expected 1"),
        ({"NumberOfFrames": 2}, "NumberOfFrames (0028,0008): found 2, expected 1"),
        ({"PhotometricInterpretation": "RGB"}, "PhotometricInterpretation (0028,0004): found RGB, expected MONO"),
        ({"PhotometricInterpretation": None}, "PhotometricInterpretation (0028,0004): found nothing, expected MONO"),
        ({"BitsAllocated": 32}, "BitsAllocated (0028,0100): found 32, expected 8 or 16"),
        ({"BitsStored": 17}, "BitsStored (0028,0101): found 17, expected 1 to 16"),
        ({"BitsStored": None}, "BitsStored (0028,0101): found nothing, expected 1 to 16"),
        ({"HighBit": 15}, "HighBit (0028,0102): found 15, expected 11"),
        ({"PixelRepresentation": 2}, "PixelRepresentation (0028,0103): found 2, expected 0 to 1"),
        ({"WindowWidth": 0}, "WindowWidth (0028,1051): found LINEAR window of width 0, expected at least 1"),
        ({"WindowWidth": None}, "WindowWidth (0028,1051): found nothing, expected a number"),
        ({"WindowCenter": "nan"}, "WindowCenter (0028,1050): found nan, expected a number"),
        ({"VOILUTFunction": "CUBIC"}, "VOILUTFunction (0028,1056): found CUBIC, expected LINEAR"),
        ({"RescaleSlope": 0}, "RescaleSlope (0028,1053): found 0, expected a number other than 0"),
        ({"RescaleIntercept": "1e300"}, "RescaleIntercept (0028,1052): found 1e+300, expected a number"),
    ],
)
def test_headers(path, values, expected):
    edit(path, **values)
    assert expected in reason(path)


def test_number_that_is_text(path):
    path.write_bytes(path.read_bytes().replace(b"DS\x04\x002048", b"DS\x04\x00abcd"))
    assert "WindowCenter (0028,1050): found" in reason(path)


def test_another_window_than_the_first(path):
    edit(path, WindowCenter=[40, 300], WindowWidth=[400, 1500])
    assert read_radiograph(path).voi == read_radiograph(path, voi=1).voi == Window(40, 400)
    assert read_radiograph(path, voi=2).voi == Window(300, 1500)
    assert read_radiograph(path, voi=0).voi is None
    with pytest.raises(ImageError, match=r"WindowCenter \(0028,1050\): found nothing, expected a number"):
        read_radiograph(path, voi=3)
    edit(path, WindowCenter=None, WindowWidth=None)
    assert read_radiograph(path).voi is None


def test_overlay_in_the_spare_bits(path):
    dataset = pydicom.dcmread(path)
    dataset.add_new(0x60000102, "US", 12)
    dataset.save_as(path)
    assert "OverlayBitPosition (6000,0102): found 12, expected 0" in reason(path)


@pytest.mark.parametrize(
    ("descriptor", "data", "expected"),
    [
        (None, b"\0\0", "LUTDescriptor (0028,3002): found None"),
        ([2, 0], b"\0\0", "LUTDescriptor (0028,3002): found [2, 0]"),
        ([4, 0, 16], None, "LUTData (0028,3006): found nothing, expected 4 entries"),
        ([0, 0, 16], b"\0\0", "LUTData (0028,3006): found 1 entries, expected 65536 entries"),
    ],
)
def test_broken_tables(path, descriptor, data, expected):
    item = Dataset()
    if descriptor:
        item.add_new("LUTDescriptor", "US", descriptor)
    if data:
        item.add_new("LUTData", "OW", data)
    edit(path, VOILUTSequence=Sequence([item]))
    assert expected in reason(path)


def test_table_sequence_of_megabytes(path):
    item = Dataset()
    item.add_new("LUTData", "OW", bytes(2 << 20))
    edit(path, VOILUTSequence=Sequence([item]))
    assert "VOILUTSequence (0028,3010): found 2097172 bytes, expected at most 1048576" in reason(path)


@pytest.mark.parametrize("data", [b"", b"\0" * 64, b"\0" * 128 + b"DICM", b"\0" * 128 + b"DICM" + b"\xff" * 64])
def test_no_dicom(tmp_path, data):
    path = tmp_path / "a.dcm"
    path.write_bytes(data)
    assert reason(path)
    with pytest.raises(ImageError):
        read_header_ids(path)


def test_missing_file_and_folder(tmp_path):
    assert "No such file" in reason(tmp_path / "none.dcm")
    assert "Is a directory" in reason(tmp_path)


def test_file_that_is_too_large(tmp_path):
    path = tmp_path / "a.dcm"
    with open(path, "wb") as stream:
        stream.truncate((256 << 20) + 1)
    assert "found 268435457 bytes" in reason(path)


def test_unknown_transfer_syntax(path):
    path.write_bytes(path.read_bytes().replace(b"1.2.840.10008.1.2.1\0", b"1.2.840.10008.1.2.9\0"))
    assert "TransferSyntaxUID (0002,0010): found 1.2.840.10008.1.2.9" in reason(path)


@pytest.mark.parametrize("syntax", ["explicit", "implicit", "rle", "jpeg-lossless"])
def test_every_cut_is_noticed(tmp_path, syntax):
    path = tmp_path / "a.dcm"
    write_radiograph(path, PIXELS, **IDS, bits_stored=12, syntax=syntax)
    whole = path.read_bytes()
    # The last 8 bytes of encapsulated pixels are a delimiter and hold nothing.
    end = len(whole) - (8 if syntax in ("rle", "jpeg-lossless") else 0)
    for length in range(0, end - 1, 5):
        path.write_bytes(whole[:length])
        assert reason(path)


@pytest.mark.parametrize("syntax", ["explicit", "rle", "jpeg-lossless"])
def test_flipped_bytes_end_in_a_picture_or_a_reason(tmp_path_factory, syntax):
    path = tmp_path_factory.mktemp("flips") / "a.dcm"
    write_radiograph(path, PIXELS, **IDS, bits_stored=12, syntax=syntax, window=(2048, 4096), padding=0)
    whole = path.read_bytes()

    @settings(max_examples=150, suppress_health_check=list(HealthCheck))
    @given(st.lists(st.tuples(st.integers(132, len(whole) - 1), st.integers(0, 255)), min_size=1, max_size=6))
    def check(flips):
        data = bytearray(whole)
        for at, value in flips:
            data[at] = value
        path.write_bytes(data)
        try:
            image = read_radiograph(path)
        except ImageError as error:
            assert error.reason
        else:
            assert to_grey(image).shape == image.pixels.shape

    check()


def deflated(path, data):
    raw = path.read_bytes()
    at = raw.index(b"1.2.840.10008.1.2.1\0")
    raw = raw[:at] + b"1.2.840.10008.1.2.1.99" + raw[at + 20 :]  # two bytes longer: so are element and group
    raw = raw[: at - 2] + struct.pack("<H", 22) + raw[at:]
    length = struct.unpack_from("<I", raw, 140)[0] + 2
    path.write_bytes(raw[:140] + struct.pack("<I", length) + raw[144 : 144 + length] + data)


def test_deflated_bomb(path):
    deflater = zlib.compressobj(9, wbits=-15)
    bomb = b"".join(deflater.compress(bytes(1 << 20)) for _ in range(300)) + deflater.flush()
    deflated(path, bomb)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    assert "found more when inflated, expected at most 268435456 bytes" in reason(path)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 600 << 10  # KiB


def test_deflated_and_cut_off(path):
    deflated(path, zlib.compressobj(wbits=-15).compress(b""))
    assert "found a deflated data set that is cut off" in reason(path)
    deflated_garbage = b"\xff" * 32
    path.write_bytes(path.read_bytes() + deflated_garbage)
    assert "file: found error: Error -3" in reason(path)


def test_a_million_elements(path):
    whole = path.read_bytes()
    path.write_bytes(whole + struct.pack("<HH2sH", 0x7FE1, 1, b"LO", 0) * 1_000_000)
    assert "more than 500000 elements" in reason(path)


def test_sequences_nested_without_end(path):
    nested = (
        struct.pack("<HH2sHI", 0x0008, 0x1140, b"SQ", 0, 0xFFFFFFFF) + struct.pack("<HHI", 0xFFFE, 0xE000, 0xFFFFFFFF)
    ) * 5000
    whole = path.read_bytes()
    at = whole.index(struct.pack("<HH2s", 0x0010, 0x0010, b"PN"))
    path.write_bytes(whole[:at] + nested + whole[at:])
    assert "RecursionError" in reason(path)


def test_ids_are_handed_on_as_they_are(tmp_path):
    path = tmp_path / "a.dcm"
    write_radiograph(path, PIXELS, **{**IDS, "patient_id": "../../x"}, bits_stored=12)
    assert read_header_ids(path).patient_id == "../../x"
    edit(path, PatientID=None)
    assert read_header_ids(path).patient_id == ""
