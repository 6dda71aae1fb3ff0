"""No patient stands on both sides of a split or fold, and neither row order nor strangers change anything."""

import random
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from siimdet.core.types import SPLITS
from siimdet.data.splits import assign_folds, assign_splits

PATIENTS = st.dictionaries(
    st.text("abc123", min_size=1, max_size=4), st.text("xyz", min_size=1, max_size=3), min_size=1, max_size=60
)
SEEDS = st.integers(0, 5)


def shuffled(mapping: dict, seed: int) -> dict:
    pairs = list(mapping.items())
    random.Random(seed).shuffle(pairs)
    return dict(pairs)


def sides_per_patient(patients: dict[str, str], sides: dict) -> list[int]:
    found: dict[str, set] = {}
    for image_id, side in sides.items():
        found.setdefault(patients[image_id], set()).add(side)
    return [len(each) for each in found.values()]


@given(patients=PATIENTS, seed=SEEDS, order=SEEDS)
def test_splits_keep_patients_together_whatever_the_order(patients, seed, order):
    splits = assign_splits(patients, {}, seed=seed)
    assert splits.keys() == patients.keys()
    assert set(sides_per_patient(patients, splits)) == {1}
    assert assign_splits(shuffled(patients, order), {}, seed=seed) == splits


@given(patients=PATIENTS, seed=SEEDS, order=SEEDS, folds=st.integers(2, 5))
def test_folds_keep_patients_together_whatever_the_order(patients, seed, order, folds):
    splits = assign_splits(patients, {}, seed=seed)
    strata = {image_id: image_id[0] for image_id in patients}
    held = {patients[image_id] for image_id, split in splits.items() if split != "test"}
    if len(held) < folds:
        with pytest.raises(ValueError, match=f"{folds} folds of {len(held)} patients"):
            assign_folds(patients, strata, splits, folds=folds, seed=seed)
        return
    numbers = assign_folds(patients, strata, splits, folds=folds, seed=seed)
    assert numbers.keys() == {image_id for image_id, split in splits.items() if split != "test"}
    assert set(numbers.values()) <= set(range(folds))
    assert set(sides_per_patient(patients, numbers)) == {1}
    reordered = [shuffled(mapping, order) for mapping in (patients, strata, splits)]
    assert assign_folds(*reordered, folds=folds, seed=seed) == numbers


def test_a_thousand_patients_are_divided_by_tenths():
    patients = {f"image{i}": f"patient{i}" for i in range(1000)}
    splits = assign_splits(patients, {})
    assert Counter(splits.values()) == {"train": 800, "val": 100, "test": 100}
    assert splits != assign_splits(patients, {}, seed=1)


def test_one_patient_more_moves_hardly_any_other():
    patients = {f"image{i}": f"patient{i}" for i in range(1000)}
    before, after = assign_splits(patients, {}), assign_splits(patients | {"new": "stranger"}, {})
    assert sum(before[image_id] != after[image_id] for image_id in patients) <= 2


@pytest.mark.parametrize(
    ("count", "expected"),
    [
        (1, {"train": 1}),
        (2, {"train": 2}),
        (3, {"train": 1, "val": 1, "test": 1}),
        (5, {"train": 3, "val": 1, "test": 1}),
    ],
)
def test_few_patients_still_fill_the_splits(count, expected):
    assert Counter(assign_splits({str(i): str(i) for i in range(count)}, {}).values()) == expected


def test_official_lists_keep_their_test_and_share_out_train_val():
    patients = {f"image{i}": f"patient{i // 2}" for i in range(200)}
    official = {image_id: "test" if int(image_id[5:]) >= 180 else "train_val" for image_id in patients}
    splits = assign_splits(patients, official)
    assert {image_id for image_id, split in splits.items() if split == "test"} == {f"image{i}" for i in range(180, 200)}
    assert Counter(splits.values()) == {"train": 160, "val": 20, "test": 20}
    assert set(sides_per_patient(patients, splits)) == {1}


def test_folds_balance_the_strata():
    patients = {f"image{i}": f"patient{i}" for i in range(300)}
    strata = {image_id: "rare" if int(image_id[5:]) % 10 == 0 else "common" for image_id in patients}
    numbers = assign_folds(patients, strata, dict.fromkeys(patients, "train"), folds=3)
    assert Counter((numbers[i], strata[i]) for i in patients) == {
        (fold, name): count for fold in range(3) for name, count in (("rare", 10), ("common", 90))
    }


def test_a_stratum_smaller_than_the_folds_is_no_obstacle():
    patients = {f"image{i}": f"patient{i}" for i in range(20)}
    strata = {image_id: "only one" if image_id == "image7" else "common" for image_id in patients}
    assert Counter(assign_folds(patients, strata, dict.fromkeys(patients, "train"), folds=5).values()) == {
        fold: 4 for fold in range(5)
    }


PARTS = st.sampled_from([None, "train", "val", "test", "train_val", "train_test"])


@given(patients=PATIENTS, parts=st.lists(PARTS, min_size=60, max_size=60), seed=SEEDS, order=SEEDS)
def test_official_parts_are_kept_and_all_else_goes_by_patient(patients, parts, seed, order):
    official = dict(zip(patients, parts, strict=False))
    splits = assign_splits(patients, official, seed=seed)
    assert all(splits[image_id] == part for image_id, part in official.items() if part in SPLITS)
    ours = {image_id: split for image_id, split in splits.items() if official[image_id] not in SPLITS}
    assert set(sides_per_patient(patients, ours)) <= {1}
    listed = {patients[image_id]: splits[image_id] for image_id, part in official.items() if part in SPLITS}
    in_test = {patients[image_id] for image_id, part in official.items() if part == "test"}
    for image_id in ours:
        if patients[image_id] in in_test:
            assert splits[image_id] == "test"
        elif patients[image_id] in listed:
            assert splits[image_id] in {
                part for other, part in official.items() if patients[other] == patients[image_id] and part in SPLITS
            }
    assert assign_splits(shuffled(patients, order), shuffled(official, order), seed=seed) == splits


def test_lists_that_share_a_patient_keep_their_images_and_the_others_follow():
    patients = {"a": "p", "b": "p", "c": "p", "d": "q", "e": "q"}
    official = {"a": "train", "b": "val", "c": "test", "d": "val", "e": None}
    assert assign_splits(patients, official) == {"a": "train", "b": "val", "c": "test", "d": "val", "e": "val"}
    assert assign_splits(patients, official | {"b": None, "a": "train_val"})["b"] == "test"


def test_a_train_part_without_test_gives_a_tenth_of_its_patients():
    patients = {f"image{i}": f"patient{i // 2}" for i in range(400)}
    official = {image_id: "val" if int(image_id[5:]) >= 200 else "train_test" for image_id in patients}
    splits = assign_splits(patients, official)
    assert Counter(splits.values()) == {"train": 180, "val": 200, "test": 20}
    assert set(sides_per_patient(patients, splits)) == {1}
