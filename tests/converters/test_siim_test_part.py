"""The unlabelled test part of SIIM: images to predict, never to train or score on."""

import json
from pathlib import Path

import numpy as np
import pytest

from converters import SOURCES
from converters.run import convert
from siimdet.data.dataset import by_split, scored_split
from siimdet.data.manifest import read_dataset
from siimdet.data.splits import assign_splits
from siimdet.imaging.dicom_write import write_radiograph


@pytest.fixture
def with_test(siim_raw):
    for number, (study, image, patient) in enumerate((("t1", "x1", "p8"), ("t1", "x2", "p8"), ("t2", "y1", "p9"))):
        path = siim_raw / "test" / study / f"r{number}" / f"{image}.dcm"
        path.parent.mkdir(parents=True)
        write_radiograph(
            path,
            np.random.default_rng(number).integers(0, 4096, (60, 70), dtype=np.uint16),
            patient_id=patient,
            study_uid=f"1.9.{number}",
            series_uid=f"1.8.{number}",
            sop_uid=f"1.7.{number}",
            bits_stored=12,
        )
    return siim_raw


def test_test_files_are_the_test_split_with_unknown_labels(with_test, tmp_path):
    convert(SOURCES["siim"], with_test, tmp_path / "out", workers=1)
    dataset = read_dataset(tmp_path / "out")
    test = by_split(dataset, "test")
    assert [(r.image_id, r.study_id, r.patient_id) for r in test] == [
        ("x1", "t1", "p8"),
        ("x2", "t1", "p8"),
        ("y1", "t2", "p9"),
    ]
    assert all(np.isnan(r.labels).all() for r in test)
    assert {r.image_id for r in dataset.records if r.split != "test"} == {"a1", "a2", "b1", "c1"}
    assert scored_split(dataset) == "val"


def test_label_counts_leave_them_out(with_test, tmp_path):
    convert(SOURCES["siim"], with_test, tmp_path / "out", workers=1)
    counts = json.loads((tmp_path / "out" / "dataset.json").read_text())["counts"]
    assert (counts["labels"]["images"], counts["labels"]["studies"], counts["labels"]["patients"]) == (4, 3, 2)
    assert counts["converted"]["images"] == 7


def test_a_patient_of_both_parts_is_test_throughout():
    patients = {"a": "p1", "b": "p1", "c": "p2"}
    splits = assign_splits(patients, {"a": "train_val", "b": "test", "c": "train_val"})
    assert splits["a"] == splits["b"] == "test"
    assert splits["c"] != "test"


SAMPLE = "id,PredictionString\nt1_study,negative 1 0 0 1 1\nx1_image,none 1 0 0 1 1\nx2_image,none 1 0 0 1 1\n"


def sample(raw: Path, text: str = SAMPLE) -> Path:
    (raw / "sample_submission.csv").write_text(text)
    return raw


def test_sample_submission_says_which_images_the_test_has(with_test, tmp_path, rows_of):
    raw = sample(with_test, f"\ufeff{SAMPLE}gone_image,none 1 0 0 1 1\n".replace("\n", "\r\n"))
    summary = convert(SOURCES["siim"], raw, tmp_path / "out", workers=1)
    test = by_split(summary.dataset, "test")
    assert [(r.image_id, r.study_id, r.patient_id) for r in test] == [("x1", "t1", "p8"), ("x2", "t1", "p8")]
    reason = "image file: found none, expected gone with one of .dcm, .png, .jpg, .jpeg"
    assert rows_of(tmp_path / "out" / "failures.csv") == [["gone", "", reason]]


def test_without_test_files_the_sample_counts_for_nothing(siim_raw, tmp_path):
    summary = convert(SOURCES["siim"], sample(siim_raw), tmp_path / "out", workers=1)
    assert {r.image_id for r in summary.dataset.records} == {"a1", "a2", "b1", "c1"}
    assert summary.failures == 0
    assert {item.official for item in SOURCES["siim"].read(siim_raw).items} == {None}


def test_labelled_images_are_train_and_val_where_there_is_a_test_part(with_test):
    parts = {item.image_id: item.official for item in SOURCES["siim"].read(with_test).items}
    assert parts == dict.fromkeys(("a1", "a2", "b1", "c1"), "train_val") | dict.fromkeys(("x1", "x2", "y1"), "test")


def test_hidden_files_and_what_is_no_image_are_no_test_images(with_test):
    for name in ("._x1.dcm", ".DS_Store", "notes.txt"):
        (with_test / "test" / "t1" / "r0" / name).write_bytes(b"x")
    assert sum(item.official == "test" for item in SOURCES["siim"].read(with_test).items) == 3


def test_an_image_of_both_parts_is_refused(with_test, complaint_of):
    source = with_test / "test" / "t1" / "r0"
    (source / "a1.dcm").write_bytes((source / "x1.dcm").read_bytes())
    assert complaint_of("siim", with_test).startswith("train_image_level.csv:2: id: found a1_image again, expected an")


@pytest.mark.parametrize(
    ("old", "new", "complaint"),
    [
        ("x1_image", "x1", ":3: id: found 'x1', expected an id that ends in '_image'"),
        ("x1_image", "../x1_image", ":3: id: found '../x1', expected an id of A-Z"),
        ("id,", "name,", ": header: found columns name, PredictionString, expected a column 'id'"),
    ],
)
def test_broken_samples(with_test, complaint_of, old, new, complaint):
    sample(with_test, SAMPLE.replace(old, new, 1))
    assert complaint_of("siim", with_test).startswith(f"sample_submission.csv{complaint}")


def test_a_test_file_whose_name_can_be_no_id_is_named(with_test, complaint_of):
    source = with_test / "test" / "t1" / "r0"
    (source / "x1.dcm").rename(source / "x 1.dcm")
    assert complaint_of("siim", with_test).startswith("test/t1/r0/x 1.dcm: file name: found 'x 1', expected an id of")
