"""What a form may hold: nothing is left out in silence, and the files are of one study."""

from pathlib import Path

import numpy as np
import pytest

from siimdet.imaging.dicom import write_radiograph
from siimdet.imaging.radiograph import HeaderIds
from siimdet.serve.one_study import belonging, stranger

pytestmark = pytest.mark.timeout(180)

A, B = ("files", ("a", b"")), ("files", ("b", b""))


@pytest.mark.parametrize(
    ("query", "parts", "detail"),
    [
        ("", [A, ("file", ("b", b""))], "file: found this field, expected files and detector"),
        ("", [A, ("wait", (None, "1"))], "wait: found this field, expected files and detector"),
        ("", [A, ("Detector", (None, "yolo"))], "Detector: found this field, expected files and detector"),
        ("", [A, ("x" * 99, (None, ""))], f"{'x' * 40}: found this field, expected files and detector"),
        ("", [A, *[("detector", (None, "yolo"))] * 2], "detector: found it twice, expected it once"),
        ("?wait=1&detector=yolo", [A], "detector: found this query key, expected wait"),
        ("?wait=1&wait=0", [A], "wait: found it twice, expected it once"),
    ],
)
def test_what_is_not_asked_for_is_refused_by_name(running, query, parts, detail):
    answer = running.ask("POST", f"/api/predict{query}", files=parts)
    assert (answer.status_code, answer.json()) == (422, {"detail": detail})


def test_several_files_and_one_detector_are_no_repetition(running, png):
    parts = [("files", ("a", png(1))), ("files", ("b", png(2))), ("detector", (None, "yolo"))]
    assert len(running.ask("POST", "/api/predict?wait=1", files=parts).json()["images"]) == 2


def test_a_broken_form_is_no_line_of_the_log(running):
    before = running.log.read_text()
    headers = {"Content-Type": "multipart/form-data; boundary=x"}
    assert running.ask("POST", "/api/predict", content=b"--\x89Doe^Jane", headers=headers).status_code == 400
    assert running.log.read_text() == before


def radiograph(folder: Path, *, patient="P1", study="1.2", instance="1.2.1") -> bytes:
    """A DICOM file; another instance, another picture."""
    pixels = np.random.default_rng(len(instance)).integers(0, 4096, (32, 32)).astype(np.uint16)
    path = folder / "a.dcm"
    series = f"{study}.0"
    write_radiograph(
        path, pixels, patient_id=patient, study_uid=study, series_uid=series, sop_uid=instance, bits_stored=12
    )
    return path.read_bytes()


@pytest.mark.parametrize(
    ("other", "reason"),
    [
        ({"study": "1.3"}, "StudyInstanceUID: found another than file 1's, expected the images of one study"),
        ({"patient": "P2"}, "PatientID: found another patient's than file 1's, expected the images of one patient"),
        ({"instance": "1.2.1"}, "SOPInstanceUID: found that of file 1, expected an image of its own"),
    ],
)
def test_files_of_two_studies_are_refused(running, png, tmp_path, other, reason):
    first = radiograph(tmp_path, instance="1.2.1")
    second = radiograph(tmp_path, **{"instance": "1.2.1.1", "patient": "P1 ", **other})
    answer = running.post(first, png(), second)
    assert (answer.status_code, answer.json()) == (422, {"detail": f"file 3: {reason}"})


def test_files_of_one_study_pass_with_pictures_and_without_a_patient(running, png, tmp_path):
    files = [radiograph(tmp_path, instance="1.2.1"), png(), radiograph(tmp_path, instance="1.2.1.1", patient="")]
    assert running.post(*files).status_code == 200


def test_every_file_before_counts_and_no_value_is_kept():
    told = [belonging(HeaderIds(patient, "1.2", "", "")) for patient in ("", "P1", "P2")]
    assert stranger(told[1], told[:1]) is None
    assert stranger(told[2], told[:2]) == (
        "PatientID: found another patient's than file 2's, expected the images of one patient"
    )
    assert "P1" not in str(told)
