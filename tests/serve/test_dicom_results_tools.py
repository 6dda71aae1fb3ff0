"""Independent programs accept the objects: dciodvfy of dicom3tools, dsrdump and dcmp2pgm of dcmtk."""

import os
import shutil
import subprocess
from datetime import datetime

import cv2
import numpy as np
import pydicom
import pytest

from siimdet.imaging.dicom_write import write_radiograph
from siimdet.imaging.grayscale import to_grey
from siimdet.serve.dicom_identity import ModelIdentity, Origin
from siimdet.serve.dicom_results import study_objects
from siimdet.serve.dicom_source import read_source
from siimdet.serve.results import FoundBox, ImageResult

pytestmark = pytest.mark.pacs

ORIGIN = Origin(ModelIdentity("model", "1", "ab" * 32), 0.5, datetime(2026, 1, 2, 3, 4, 5))
STUDY = {"negative": 0.125, "typical": 0.5, "indeterminate": 0.25, "atypical": 0.125}
ALLOWED = (
    "needed to build DICOMDIR",  # the source has no StudyID, date or time
    "Retired Person Name form",  # names of the source without ^
    "Unrecognized defined term <99SIIMDET>",  # our own codes, which CodingSchemeIdentificationSequence declares
    "only permitted to be empty when actually unknown",  # Laterality, where the source names another body part
)
REAL = (
    *("nih_dx/test1.dcm", "nih_dx/test4.dcm", "rsna/Fake_MONOHR1.dcm", "wg04/RG1_J2KI.dcm", "wg04/RG3_JPLY.dcm"),
    "syntaxes/CTImage.dcm_DeflatedExplicitVRLittleEndianTransferSyntax_1.2.840.10008.1.2.1.99.dcm",
)
PIXELS = np.random.default_rng(0).integers(0, 4096, (300, 200)).astype(np.uint16)
PHANTOMS = {
    "window": (PIXELS, {"window": (2048, 4000), "rescale": (1, -1024)}),
    "table": (PIXELS, {"voi_lut": np.arange(4096, dtype=np.uint16) // 4}),
    "monochrome1": (PIXELS, {"photometric": "MONOCHROME1", "window": (1500, 900)}),
    "signed": (PIXELS.astype(np.int16) - 2048, {"window": (0, 4000)}),
}


def run(tool, *arguments):
    if shutil.which(tool) is None:
        if "SIIMDET_REQUIRE_PACS" in os.environ:
            pytest.fail(f"SIIMDET_REQUIRE_PACS is set, but there is no {tool} on the path")
        pytest.skip(f"no {tool}: it comes with dcmtk or dicom3tools")
    return subprocess.run([tool, *map(str, arguments)], capture_output=True, text=True, errors="replace", check=False)


def make(path, out, study):
    source = read_source(path)
    width, height = source.size.width, source.size.height
    boxes = (
        FoundBox(width * 0.55, height * 0.3, width * 0.8, height * 0.6, 0.87654321, "faster_rcnn"),
        FoundBox(0, 0, width, height, 0.5, "yolo"),
    )
    made = study_objects([source], [ImageResult("image", source.size, boxes if study else ())], study, ORIGIN)
    for number, one in enumerate(made):
        one.save_as(out / f"{number}.dcm", enforce_file_format=True)
    return [out / f"{number}.dcm" for number in range(3)]


def write_phantom(path, name):
    ids = {"patient_id": "P7", "study_uid": "1.2.3", "series_uid": "1.2.3.4", "sop_uid": "1.2.3.4.5"}
    pixels, how = PHANTOMS[name]
    write_radiograph(path, pixels, bits_stored=12, **ids, **how)
    return path


def add_modality_table(path):
    """A modality table of 12 bits from -2048 on, as old plate readers write them."""
    header = pydicom.dcmread(path)
    item = pydicom.Dataset()
    item.add_new("LUTDescriptor", "SS", [4096, -2048, 12])
    item.add_new("LUTData", "OW", np.arange(4095, -1, -1, dtype="<u2").tobytes())
    item.ModalityLUTType = "US"
    header.ModalityLUTSequence = [item]
    header.save_as(path)


def accept(files):
    for file in files:
        done = run("dciodvfy", file)
        complaints = [
            line for line in (done.stdout + done.stderr).splitlines() if line.startswith(("Error", "Warning"))
        ]
        assert [line for line in complaints if not any(words in line for words in ALLOWED)] == [], file.name
        assert not any(line.startswith("Error") for line in complaints)
    done = run("dsrdump", files[0])
    assert done.returncode == 0, done.stderr
    assert 'CONTAINER:(,,"Imaging Measurement Report")' in done.stdout
    assert "Verification Flag   : UNVERIFIED" in done.stdout
    return done.stdout


@pytest.mark.real_data
@pytest.mark.parametrize("place", REAL)
def test_real_sources(shared_data, tmp_path, place):
    shown = accept(make(shared_data / "dicom" / place, tmp_path, STUDY))
    assert shown.count("POLYLINE") == 2
    assert 'appearance on chest radiograph")=(typical,99SIIMDET,"Typical Appearance")' in shown


@pytest.mark.parametrize("name", PHANTOMS)
def test_phantoms(tmp_path, name):
    accept(make(write_phantom(tmp_path / "image.dcm", name), tmp_path, STUDY))


def test_nothing_found(tmp_path):
    shown = accept(make(write_phantom(tmp_path / "image.dcm", "window"), tmp_path, None))
    assert '"Opacity")=(272519000,SCT,"Absent")' in shown


@pytest.mark.parametrize("name", [*PHANTOMS, "modality table"])
def test_another_renderer_shows_the_same_grey_levels(tmp_path, name):
    path = write_phantom(tmp_path / "image.dcm", "signed" if name == "modality table" else name)
    if name == "modality table":
        add_modality_table(path)
    _, state, _ = make(path, tmp_path, STUDY)
    done = run("dcmp2pgm", "-p", state, path, tmp_path / "shown.pgm")
    assert done.returncode == 0, done.stderr
    shown = cv2.imread(str(tmp_path / "shown.pgm"), cv2.IMREAD_UNCHANGED)
    ours = to_grey(read_source(path).radiograph, scaling="window")
    assert np.abs(shown.astype(int) - ours).max() <= 1
