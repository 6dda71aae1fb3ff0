"""Splits and folds by patient: nobody's images stand on both sides, whatever the order of the rows."""

import hashlib
from collections import Counter
from collections.abc import Mapping
from typing import Literal

import numpy as np

from siimdet.core.types import SPLITS, Split

Official = Literal["train", "val", "test", "train_val", "train_test"]
"""What a source's official lists say of an image; train_val and train_test are ours to divide."""

VAL_FRACTION = 0.1
TEST_FRACTION = 0.1
OFFICIAL_VAL_FRACTION = 1 / 9
"""Of an official train_val list: with a test list of a tenth this comes to .8/.1/.1 again."""

_DIVISIONS: dict[Official | None, dict[Split, float]] = {
    None: {"test": TEST_FRACTION, "val": VAL_FRACTION},
    "train_val": {"val": OFFICIAL_VAL_FRACTION},
    "train_test": {"test": TEST_FRACTION},
}


def assign_splits(
    patients: Mapping[str, str], official: Mapping[str, Official | None], *, seed: int = 0
) -> dict[str, Split]:
    """Split of every image, given the patient of every image and what official lists say of it.

    Images that a list puts into train, val or test stay there, even where lists share a patient: figures
    stay comparable with published ones, and `inspect` names the patient. The others are divided by
    patient: train_val and train_test as their names say, the unlisted .8/.1/.1; where a list holds some
    of a patient's images, its other images follow. Depends on the ids and the seed only.
    """
    fixed: dict[str, Split] = {image_id: part for image_id, part in official.items() if part in SPLITS}
    chosen: dict[str, Split] = {}
    for image_id, part in sorted(fixed.items()):
        patient = patients[image_id]
        chosen[patient] = "test" if "test" in (part, chosen.get(patient)) else chosen.get(patient, part)
    ours = sorted((image_id, part) for image_id, part in official.items() if part in ("train_val", "train_test"))
    divided = {patients[image_id]: part for image_id, part in ours}
    for part, fractions in _DIVISIONS.items():
        mine = {patient for patient in patients.values() if divided.get(patient) == part} - chosen.keys()
        chosen |= _divide(mine, fractions, seed)
    return {image_id: fixed.get(image_id, chosen[patient]) for image_id, patient in patients.items()}


def assign_folds(
    patients: Mapping[str, str], strata: Mapping[str, str], splits: Mapping[str, Split], *, folds: int, seed: int = 0
) -> dict[str, int]:
    """Fold, from 0, of every image of train and val, grouped by patient and balanced over the strata.

    `strata` is any name per image: study label and has-box, for one. Test images get no fold.
    Raises: ValueError if there are fewer patients than folds.
    Source: scikit-learn's StratifiedGroupKFold.
    """
    # Seconds and 130 MB of import that only folds need; the conversion workers import this file too.
    from sklearn.model_selection import StratifiedGroupKFold

    images = sorted(image_id for image_id, split in splits.items() if split != "test")
    groups = [patients[image_id] for image_id in images]
    if folds < 2 or len(set(groups)) < folds:
        raise ValueError(f"{folds} folds of {len(set(groups))} patients, expected 2 or more and a patient for each")
    names = _merge_rare([strata[image_id] for image_id in images], folds)
    splitter = StratifiedGroupKFold(folds, shuffle=True, random_state=seed)
    numbered = {}
    for fold, (_, held_out) in enumerate(splitter.split(np.zeros(len(images)), names, groups)):
        numbered |= {images[i]: fold for i in held_out.tolist()}
    return numbered


def _divide(patients: set[str], fractions: dict[Split, float], seed: int) -> dict[str, Split]:
    # Ordered by a hash of the id: a patient more or less moves no others but those at a border.
    ordered = sorted(patients, key=lambda patient: (hashlib.sha256(f"{seed}:{patient}".encode()).digest(), patient))
    chosen: dict[str, Split] = {}
    for split, fraction in fractions.items():
        # Few patients still give one each, once train has its own.
        count = max(round(fraction * len(patients)), 1) if len(patients) > len(fractions) else 0
        chosen |= {patient: split for patient in ordered[len(chosen) : len(chosen) + count]}
    return {patient: chosen.get(patient, "train") for patient in ordered}


def _merge_rare(strata: list[str], folds: int) -> list[str]:
    # scikit-learn warns of a stratum with fewer members than folds, and cannot balance it anyway.
    counts = Counter(strata)
    common = max(sorted(counts), key=counts.__getitem__)
    return [name if counts[name] >= folds else common for name in strata]
