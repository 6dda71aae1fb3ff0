"""The unlabelled test part of SIIM: images to predict, never to train or score on."""

import json

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
