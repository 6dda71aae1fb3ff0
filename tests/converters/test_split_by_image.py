"""Splits by image: slices of one patient on both sides, on purpose and said."""

import json
from collections import Counter, defaultdict

import pytest

from converters import SOURCES
from converters.run import convert
from siimdet.data.audit import audit

SCANS = [f"train/{name}/scan{number}" for name in ("covid", "non-covid") for number in range(10)]


@pytest.fixture
def mia(tmp_path, pictures):
    """Train: 20 scans of 5 slices; validation: one scan of 5."""
    places = [f"{scan}/{slice_}.png" for scan in [*SCANS, "validation/covid/scan0"] for slice_ in range(5)]
    return pictures(tmp_path / "raw", *places)


def parts_of(records) -> dict[str, Counter]:
    found: dict[str, Counter] = defaultdict(Counter)
    for record in records:
        found[record.patient_id][record.split] += 1
    return found


def test_test_is_a_tenth_of_the_training_slices_and_validation_stays(mia, tmp_path):
    dataset = convert(SOURCES["mia-cov19d"], mia, tmp_path / "out", workers=1, split_by="image").dataset
    parts = parts_of(dataset.records)
    assert parts.pop("validation-covid-scan0") == {"val": 5}
    assert sum(parts.values(), Counter()) == {"train": 90, "test": 10}
    shared = sorted(patient for patient, counts in parts.items() if len(counts) > 1)
    assert len(shared) >= 5
    leaks = audit(dataset, [])["within"]["patients_across_splits"]
    assert [leak["patient_id"] for leak in leaks] == shared
    assert json.loads((tmp_path / "out" / "dataset.json").read_text())["splits"]["split_by"] == "image"


def test_by_default_test_is_a_tenth_of_the_training_scans(mia, tmp_path):
    dataset = convert(SOURCES["mia-cov19d"], mia, tmp_path / "out", workers=1).dataset
    parts = parts_of(dataset.records)
    assert parts.pop("validation-covid-scan0") == {"val": 5}
    assert Counter(tuple(counts.items()) for counts in parts.values()) == {(("train", 5),): 18, (("test", 5),): 2}
    assert audit(dataset, [])["within"]["patients_across_splits"] == []
    assert json.loads((tmp_path / "out" / "dataset.json").read_text())["splits"]["split_by"] == "patient"


def test_folds_stay_by_patient(mia, tmp_path):
    dataset = convert(SOURCES["mia-cov19d"], mia, tmp_path / "out", workers=1, split_by="image", folds=3).dataset
    folds = defaultdict(set)
    for record in dataset.records:
        assert (record.fold is None) == (record.split == "test")
        if record.fold is not None:
            folds[record.patient_id].add(record.fold)
    assert {len(numbers) for numbers in folds.values()} == {1}
    assert set.union(*folds.values()) == {0, 1, 2}


def test_sources_without_parts_are_divided_by_image_too(tmp_path, pictures):
    raw = pictures(tmp_path / "raw", *(f"{name}/p{i // 5}_{i}.png" for name in ("a", "b") for i in range(50)))
    options = {"workers": 1, "patient_pattern": r"^(p\d+)_", "split_by": "image"}
    records = convert(SOURCES["folders"], raw, tmp_path / "out", **options).dataset.records
    assert Counter(record.split for record in records) == {"train": 80, "val": 10, "test": 10}


def test_official_parts_stay(nih_raw, tmp_path):
    records = convert(SOURCES["nih"], nih_raw, tmp_path / "out", workers=1, split_by="image").dataset.records
    assert Counter(record.split for record in records) == {"train": 4, "val": 1, "test": 1}
    assert [record.image_id for record in records if record.split == "test"] == ["00000004_000"]
