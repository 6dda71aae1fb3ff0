import numpy as np
import pytest

from siimdet.errors import ImageError
from siimdet.imaging.dicom import write_radiograph
from siimdet.imaging.png import write_png
from siimdet.imaging.radiograph import Radiograph, Window
from siimdet.imaging.raw import read_raw

RAMP = np.arange(4096, dtype=np.uint16).reshape(64, 64)


def test_a_copy_of_eight_bits_is_grey_already_and_one_of_sixteen_is_not(tmp_path):
    write_png(tmp_path / "a.png", RAMP.astype(np.uint8))
    write_png(tmp_path / "b.png", RAMP)
    np.testing.assert_array_equal(read_raw(tmp_path / "a.png", is_dicom=False), RAMP.astype(np.uint8))
    deep = read_raw(tmp_path / "b.png", is_dicom=False)
    assert isinstance(deep, Radiograph)
    np.testing.assert_array_equal(deep.pixels, RAMP)
    assert (deep.bits_stored, deep.voi, deep.patient_id) == (16, None, "")


def test_a_dicom_file_keeps_what_its_header_tells(tmp_path):
    ids = {"patient_id": "P", "study_uid": "1.2", "series_uid": "1.2.3", "sop_uid": "1.2.3.4"}
    write_radiograph(tmp_path / "a", RAMP, bits_stored=12, window=(1000, 500), **ids)
    shown, plain = (read_raw(tmp_path / "a", is_dicom=True, voi=voi) for voi in (1, 0))
    assert isinstance(shown, Radiograph)
    assert isinstance(plain, Radiograph)
    assert (shown.voi, plain.voi, shown.patient_id) == (Window(1000, 500), None, "P")


def test_a_file_is_read_as_what_the_caller_says(tmp_path):
    write_png(tmp_path / "a.dcm", RAMP)
    with pytest.raises(ImageError, match="expected a DICOM file"):
        read_raw(tmp_path / "a.dcm", is_dicom=True)
