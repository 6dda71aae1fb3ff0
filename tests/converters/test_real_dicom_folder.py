"""Public DICOM files through `convert dicom`: each an image, or refused for the reason that it deserves."""

import numpy as np
import pytest

from converters import SOURCES
from converters.run import ConversionSummary, convert
from siimdet.data.manifest import read_dataset
from siimdet.imaging.png import read_grey

pytestmark = pytest.mark.real_data

REFUSED = {
    "CT0012.fragmented_no_bot_jpeg_baseline.51": "NumberOfFrames (0028,0008): found 2, expected 1",
    "US-YBR_FULL_422-EVRLE": "SamplesPerPixel (0028,0002): found 3, expected 1",
    "no-pixel-data": "PixelData (7FE0,0010): found nothing, expected an image",
    "no-pixel-spacing": (
        "PhotometricInterpretation (0028,0004): found PALETTE COLOR, expected MONOCHROME1 or MONOCHROME2"
    ),
}
SYNTAXES = ("1.2", "1.2.1", "1.2.1.99", "1.2.2", "1.2.5", *(f"1.2.4.{n}" for n in (50, 51, 53, 55, 70, 80, 90, 91)))
"""Ends of the transfer syntaxes of the one CT, uncompressed, deflated, big endian, RLE and JPEG of every kind."""


@pytest.fixture(scope="module")
def dicom(shared_data, tmp_path_factory) -> ConversionSummary:
    return convert(SOURCES["dicom"], shared_data / "dicom", tmp_path_factory.mktemp("dicom"))


@pytest.fixture(scope="module")
def images(dicom) -> dict[str, np.ndarray]:
    root = dicom.dataset.root
    return {r.image_id: read_grey(root / r.path) for r in read_dataset(root, check_files=True).records}


def test_of_33_files_29_become_images_and_4_are_refused_by_name(dicom, rows_of):
    assert (dicom.converted, dicom.failures) == (29, 4)
    rows = rows_of(dicom.dataset.root / "failures.csv")
    assert {image_id: reason for image_id, _, reason in rows} == REFUSED
    assert all(path == f"syntaxes/{image_id}.dcm" for image_id, path, _ in rows)


def test_every_syntax_of_the_one_ct_is_there(images):
    copies = {name.rpartition("_1.2.840.10008.")[2]: image for name, image in images.items() if "CTImage.dcm_" in name}
    assert copies.keys() == set(SYNTAXES)
    truth = images["CTImage"].astype(int)
    for syntax, image in copies.items():
        # The window shows 400 of 65,536 values, so one stored step of the 8-bit copy is 20 grey levels.
        limit = {"1.2.4.50": 12, "1.2.4.51": 2, "1.2.4.53": 2, "1.2.4.55": 2, "1.2.4.91": 2}.get(syntax, 0)
        assert np.abs(image.astype(int) - truth).mean() <= limit, syntax


def test_jpeg_of_twelve_bits_shows_what_the_lossless_files_show(images):
    truth = images["RG3_JPLL"].astype(int)
    for name in ("RG3_J2KR", "RG3_JLSL", "RG3_RLE"):
        assert np.abs(images[name].astype(int) - truth).max() == 0, name
    for name in ("RG3_JPLY", "RG3_J2KI", "RG3_JLSN"):
        assert np.abs(images[name].astype(int) - truth).mean() <= 1.5, name


def test_monochrome1_becomes_bright_bone_and_dark_air(dicom, images):
    (record,) = (r for r in dicom.dataset.records if r.image_id == "RG1_J2KI")
    assert (record.source["photometric"], record.source["bits"]) == ("MONOCHROME1", "15")
    grey = images["RG1_J2KI"]
    height, width = grey.shape
    spine = grey[height // 2 : height * 3 // 4, width * 2 // 5 : width * 3 // 5]
    air_beside_the_neck = grey[height // 40 : height // 12, : width // 12]
    assert spine.mean() > 200 > 60 > air_beside_the_neck.mean()


def test_all_are_images_to_predict(dicom):
    assert {r.split for r in dicom.dataset.records} == {"test"}
    assert dicom.dataset.labels.names == dicom.dataset.classes.names == ()
    assert len({r.patient_id for r in dicom.dataset.records}) == 8
