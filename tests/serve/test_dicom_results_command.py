"""siimdet dicom-results: from prediction files and a tree of DICOM files to results beside each other."""

import csv
import json
import shutil

import numpy as np
import pydicom
import pytest

from converters import SOURCES
from converters.run import convert
from siimdet.cli import run
from siimdet.imaging.dicom_write import write_radiograph

STUDY = "negative 0.1 0 0 1 1 typical 0.6 0 0 1 1 indeterminate 0.2 0 0 1 1 atypical 0.1 0 0 1 1"


def write_image(path, *, study, number, shape=(200, 300)):
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(number).integers(0, 256, shape).astype(np.uint8)
    ids = {"patient_id": "P7", "study_uid": study, "series_uid": f"{study}.1", "sop_uid": f"{study}.1.{number}"}
    write_radiograph(path, pixels, bits_stored=8, **ids)


@pytest.fixture
def raw(tmp_path):
    """SIIM's tree: two studies under names of their own; and a file that only its header names."""
    write_image(tmp_path / "raw/train/aaa/s/i1.dcm", study="1.2.3", number=1)
    write_image(tmp_path / "raw/train/aaa/s/i2.dcm", study="1.2.3", number=2)
    write_image(tmp_path / "raw/train/bbb/s/i3.dcm", study="1.2.4", number=3)
    write_image(tmp_path / "raw/other/export", study="1.2.5", number=4)
    (tmp_path / "raw/notes.txt").write_text("no DICOM")
    return tmp_path / "raw"


def write_csv(path, *rows):
    path.write_text("\n".join(["id,PredictionString", *rows, ""]))
    return str(path)


def dicom_results(tmp_path, predictions, *options):
    return run(
        ["dicom-results", str(predictions), "--raw", str(tmp_path / "raw"), "--out", str(tmp_path / "out"), *options]
    )


def written(tmp_path):
    return sorted(path.relative_to(tmp_path / "out").as_posix() for path in (tmp_path / "out").rglob("*.dcm"))


def failures(tmp_path):
    with open(tmp_path / "out/failures.csv", newline="") as stream:
        return list(csv.reader(stream))[1:]


def regions(path):
    found = pydicom.dcmread(path).iterall()
    return [
        [*np.reshape(e.value, (-1, 2)).min(0), *np.reshape(e.value, (-1, 2)).max(0)]
        for e in found
        if e.tag == 0x00700022
    ]


def test_a_submission_of_siims_tree(tmp_path, raw, capsys):
    rows = [f"aaa_study,{STUDY}", "i1_image,opacity 0.5 10 20 110 120 opacity 0.1 0 0 9 9", "i2_image,none 1 0 0 1 1"]
    path = write_csv(
        tmp_path / "s.csv", *rows, "i3_image,opacity 0.2 1 2 3 4", "1.2.5.1.4_image,opacity 0.3 5 6 300 200"
    )
    assert dicom_results(tmp_path, path) == 0
    assert capsys.readouterr().out == ""
    assert written(tmp_path) == [
        "1.2.4/i3.capture.dcm",
        "1.2.4/i3.presentation.dcm",
        "1.2.4/report.dcm",
        "1.2.5/1.2.5.1.4.capture.dcm",
        "1.2.5/1.2.5.1.4.presentation.dcm",
        "1.2.5/report.dcm",
        "aaa/i1.capture.dcm",
        "aaa/i1.presentation.dcm",
        "aaa/i2.capture.dcm",
        "aaa/i2.presentation.dcm",
        "aaa/report.dcm",
    ]
    assert failures(tmp_path) == []
    assert regions(tmp_path / "out/aaa/report.dcm") == [[10, 20, 110, 120]]
    assert regions(tmp_path / "out/aaa/i2.presentation.dcm") == []
    assert regions(tmp_path / "out/1.2.5/report.dcm") == [[5, 6, 300, 200]]
    report = pydicom.dcmread(tmp_path / "out/aaa/report.dcm")
    assert (report.StudyInstanceUID, report.ManufacturerModelName) == ("1.2.3", "siimdet")
    assert "Typical Appearance" in str(report)
    assert "Typical Appearance" not in str(pydicom.dcmread(tmp_path / "out/1.2.4/report.dcm"))


def test_twice_is_the_same_and_options_are_others(tmp_path, raw):
    path = write_csv(tmp_path / "s.csv", "i3_image,opacity 0.2 1 2 3 4 opacity 0.7 1 2 30 40")

    def uid(*options):
        assert dicom_results(tmp_path, path, *options) == 0
        return pydicom.dcmread(tmp_path / "out/1.2.4/report.dcm").SOPInstanceUID

    assert uid() == uid()
    assert len({uid(), uid("--threshold", "0.5"), uid("--model", "s1")}) == 3
    assert dicom_results(tmp_path, path, "--threshold", "0.5") == 0
    assert regions(tmp_path / "out/1.2.4/report.dcm") == [[1, 2, 30, 40]]


def test_what_is_refused_is_named_and_the_rest_goes_on(tmp_path, raw):
    (raw / "train/aaa/s/i1.dcm").write_bytes((raw / "train/aaa/s/i1.dcm").read_bytes()[:2000])
    rows = [f"aaa_study,{STUDY}", f"ccc_study,{STUDY}", "i1_image,none 1 0 0 1 1", "i2_image,none 1 0 0 1 1"]
    rows += ["gone_image,none 1 0 0 1 1", "i3_image,opacity 0.9 0 0 9000 10"]
    path = write_csv(tmp_path / "s.csv", *rows)
    assert dicom_results(tmp_path, path) == 3
    assert dicom_results(tmp_path, path, "--allow-failures") == 0
    assert written(tmp_path) == ["aaa/i2.capture.dcm", "aaa/i2.presentation.dcm", "aaa/report.dcm"]
    assert [(row[0], row[1]) for row in failures(tmp_path)] == [
        ("ccc", ""),
        ("gone", ""),
        ("i1", "train/aaa/s/i1.dcm"),
        ("i3", "train/bbb/s/i3.dcm"),
    ]
    reasons = {row[0]: row[2] for row in failures(tmp_path)}
    assert reasons["gone"].startswith("image file: found none, expected one DICOM file")
    assert reasons["i3"] == "box: found 0 0 9000 10, expected a box inside the image of 300x200"


def test_two_files_of_a_name_and_two_studies_under_one(tmp_path, raw):
    write_image(raw / "again/i3.dcm", study="1.2.4", number=9)
    write_image(raw / "train/aaa/s/i5.dcm", study="1.2.9", number=5)
    rows = [f"aaa_study,{STUDY}", "i1_image,none 1 0 0 1 1", "i3_image,none 1 0 0 1 1", "i5_image,none 1 0 0 1 1"]
    assert dicom_results(tmp_path, write_csv(tmp_path / "s.csv", *rows)) == 3
    assert [row[0] for row in failures(tmp_path)] == ["aaa", "i3"]
    assert "again/i3.dcm and train/bbb/s/i3.dcm" in failures(tmp_path)[1][2]
    assert "StudyInstanceUID: found 1.2.9, expected 1.2.3" in failures(tmp_path)[0][2]
    assert written(tmp_path) == []


def test_nothing_of_an_earlier_run_stays_among_the_results(tmp_path, raw):
    rows = [f"{image}_image,none 1 0 0 1 1" for image in ("i1", "i2", "i3", "1.2.5.1.4")]
    assert dicom_results(tmp_path, write_csv(tmp_path / "a.csv", f"aaa_study,{STUDY}", *rows)) == 0
    theirs = {path: path.read_bytes() for path in (raw / "train").rglob("*.dcm")}
    shutil.copy(raw / "train/bbb/s/i3.dcm", tmp_path / "out/1.2.4/their.capture.dcm")
    (tmp_path / "out/1.2.5/report.dcm").write_bytes(b"no DICOM")
    (tmp_path / "out/aaa/own.presentation.dcm").mkdir()
    shutil.copy(tmp_path / "out/aaa/report.dcm", tmp_path / "out/aaa/mine.dcm")
    (raw / "train/aaa/s/i1.dcm").write_bytes(b"broken")
    del theirs[raw / "train/aaa/s/i1.dcm"]
    assert dicom_results(tmp_path, write_csv(tmp_path / "b.csv", f"aaa_study,{STUDY}", *rows[:2])) == 3
    assert written(tmp_path) == [
        "1.2.4/their.capture.dcm",
        "1.2.5/report.dcm",
        "aaa/i2.capture.dcm",
        "aaa/i2.presentation.dcm",
        "aaa/mine.dcm",
        "aaa/own.presentation.dcm",
        "aaa/report.dcm",
    ]
    assert {path: path.read_bytes() for path in theirs} == theirs
    (tmp_path / "out/1.2.5/report.dcm").unlink()
    assert dicom_results(tmp_path, write_csv(tmp_path / "c.csv", rows[0])) == 3
    assert written(tmp_path) == ["1.2.4/their.capture.dcm", "aaa/mine.dcm", "aaa/own.presentation.dcm"]


def test_predictions_that_cannot_be_used_leave_the_earlier_results(tmp_path, raw):
    assert dicom_results(tmp_path, write_csv(tmp_path / "a.csv", "i3_image,none 1 0 0 1 1")) == 0
    before = written(tmp_path)
    assert dicom_results(tmp_path, write_csv(tmp_path / "b.csv", f"aaa_study,{STUDY}")) == 2
    assert written(tmp_path) == before != []


@pytest.mark.parametrize("image_id", ["i3", "i3.dcm", "export"])
def test_a_name_is_found_with_and_without_its_suffix(tmp_path, raw, image_id):
    assert dicom_results(tmp_path, write_csv(tmp_path / "s.csv", f"{image_id}_image,none 1 0 0 1 1")) == 0
    assert f"{image_id}.capture.dcm" in written(tmp_path)[0]


def test_a_study_with_two_files_of_one_uid_is_refused_as_a_whole(tmp_path, raw):
    write_image(raw / "train/bbb/s/i6.dcm", study="1.2.4", number=3)
    rows = ["i3_image,none 1 0 0 1 1", "i6_image,none 1 0 0 1 1"]
    assert dicom_results(tmp_path, write_csv(tmp_path / "s.csv", *rows)) == 3
    assert [row[0] for row in failures(tmp_path)] == ["1.2.4"]
    assert "SOPInstanceUID: found 1.2.4.1.3 again" in failures(tmp_path)[0][2]
    assert written(tmp_path) == []


def test_coco_results_come_back_to_the_pixels_of_the_file(tmp_path, raw):
    data = tmp_path / "data"
    convert(SOURCES["dicom"], raw, data, image_size=150, workers=1)
    annotations = json.loads((data / "annotations.json").read_text())
    number = next(image["id"] for image in annotations["images"] if image["file_name"].endswith("i1.png"))
    boxes = [{"image_id": number, "category_id": 1, "bbox": [5, 10, 50, 60], "score": 0.75}]
    results = tmp_path / "boxes.json"
    results.write_text(json.dumps(boxes))
    assert dicom_results(tmp_path, results, "--dataset", str(data)) == 0
    assert [name for name in written(tmp_path) if name.endswith("report.dcm")] == [
        "1.2.3/report.dcm",
        "1.2.4/report.dcm",
        "1.2.5/report.dcm",
    ]
    assert regions(tmp_path / "out/1.2.3/report.dcm") == [[10, 20, 110, 140]]
    assert "COVID-19" not in str(pydicom.dcmread(tmp_path / "out/1.2.3/report.dcm"))


def test_a_file_of_another_size_than_the_data_sets_is_refused(tmp_path, raw):
    data = tmp_path / "data"
    convert(SOURCES["dicom"], raw, data, workers=1)
    write_image(raw / "train/bbb/s/i3.dcm", study="1.2.4", number=3, shape=(100, 100))
    path = write_csv(tmp_path / "s.csv", "i3_image,none 1 0 0 1 1")
    assert dicom_results(tmp_path, path, "--dataset", str(data)) == 3
    assert failures(tmp_path)[0][2] == "Columns x Rows: found 100x100, expected 300x200, as it was predicted on"


@pytest.mark.parametrize(
    ("row", "words"),
    [
        ("../../i1_image,none 1 0 0 1 1", ("id", "../../i1", "an id of A-Z")),
        (f"../aaa_study,{STUDY}", ("id", "../aaa", "an id of A-Z")),
        (
            "aaa_study,typical 0.6 0 0 1 1",
            ("line 2", "typical", "each of negative, typical, indeterminate, atypical once"),
        ),
        (f"aaa_study,{STUDY}", ("no image rows",)),
    ],
)
def test_a_submission_that_cannot_be_used_is_one_line(tmp_path, raw, row, words, capfd):
    assert dicom_results(tmp_path, write_csv(tmp_path / "s.csv", row)) == 2
    _, err = capfd.readouterr()
    assert err.count("\n") == 1
    assert all(word in err for word in ("s.csv", *words)), err
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--model", "a\\b"], ("model", "printable ASCII")),
        (["--threshold", "nan"], ("--threshold", "less than or equal to 1")),
        (["--threshold", "1.5"], ("--threshold", "less than or equal to 1")),
        (["--dataset", "nowhere"], ("nowhere", "found")),
    ],
)
def test_options_that_cannot_be_are_one_line(tmp_path, raw, options, words, capfd):
    path = write_csv(tmp_path / "s.csv", "i1_image,none 1 0 0 1 1")
    assert dicom_results(tmp_path, path, *options) == 2
    _, err = capfd.readouterr()
    assert err.count("\n") == 1
    assert all(word in err for word in words), err
    assert not (tmp_path / "out").exists()


def test_a_raw_folder_that_is_not_there_is_one_line(tmp_path, capfd):
    path = write_csv(tmp_path / "s.csv", "i1_image,none 1 0 0 1 1")
    assert dicom_results(tmp_path, path) == 2
    assert "raw: folder: found" in capfd.readouterr().err
