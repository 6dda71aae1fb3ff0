"""A converted data set in memory, and the ways to take parts of it."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from siimdet.core.types import BoxLabels, ImageRecord, LabelSpace, Split
from siimdet.errors import DatasetError

MANIFEST = "manifest.csv"
ANNOTATIONS = "annotations.json"
HEADER = "dataset.json"


@dataclass(frozen=True, slots=True, eq=False)
class Dataset:
    """What a converter wrote: a record and the boxes of every image, sorted by image id.

    Shapes: a record's labels f32[K] follow `labels`; `boxes[image_id]` are in stored pixels with
    class ids of `classes`, one entry per image, empty where there is no box.
    """

    root: Path
    source: str
    labels: LabelSpace
    classes: LabelSpace
    bit_depth: int
    records: tuple[ImageRecord, ...]
    boxes: Mapping[str, BoxLabels]
    fingerprint: str
    """SHA-256 over manifest.csv and annotations.json."""
    details: Mapping[str, Any] = field(default_factory=dict)
    """The rest of dataset.json: counts, preprocessing, splits, SHA-256 of the label tables."""


def by_split(dataset: Dataset, split: Split) -> tuple[ImageRecord, ...]:
    """The records of one split, sorted by image id."""
    return tuple(record for record in dataset.records if record.split == split)


def scored_split(dataset: Dataset) -> Split:
    """The split that predictions are made and scored on unless another is asked for: test where it is labelled."""
    test = by_split(dataset, "test")
    return "test" if test and len(labelled_test(dataset)) == len(test) else "val"


def labelled_test(dataset: Dataset) -> tuple[ImageRecord, ...]:
    """The test images of which every label is known."""
    return tuple(record for record in by_split(dataset, "test") if not np.isnan(record.labels).any())


def filled_split(dataset: Dataset, split: Split | None) -> tuple[ImageRecord, ...]:
    """The records of a split, or of `scored_split` for None. Raises: DatasetError if there are none."""
    name = split or scored_split(dataset)
    records = by_split(dataset, name)
    if not records:
        raise DatasetError(dataset.root / MANIFEST, "split", found=f"no {name} images", expected="one at least")
    return records


def scored_records(dataset: Dataset, split: Split | None, predicted: Collection[str]) -> tuple[ImageRecord, ...]:
    """The records that predictions of these images are scored on: `filled_split`, or for None what they are all of.

    That is the default split, else val, else the folds that they are of: out-of-fold predictions, or those of a fold's
    run. Images that the data set lacks play no part; those of no such part are scored on the default split.
    Raises: DatasetError as filled_split.
    """
    records = filled_split(dataset, split)
    if split is not None:
        return records
    known = set(predicted) & {record.image_id for record in dataset.records}
    folds = {record.fold for record in dataset.records if record.image_id in known} - {None}
    folded = tuple(record for record in dataset.records if record.fold in folds)
    parts = (records, by_split(dataset, "val"), folded)
    return next((part for part in parts if known <= {record.image_id for record in part}), records)


def training_split(
    dataset: Dataset, *, fold: int | None = None, exclude_patients: Collection[str] = ()
) -> tuple[tuple[ImageRecord, ...], tuple[ImageRecord, ...]]:
    """The records to train on and those to validate on; never any of `test`.

    With a fold, its images validate and those of every other fold train; without, the split column
    decides. The images of `exclude_patients` are left out of both.
    Raises: DatasetError if the data set has no such fold or nothing is left to train on.
    """
    known = {record.fold for record in dataset.records if record.fold is not None}
    if fold is not None and fold not in known:
        found = f"folds {', '.join(map(str, sorted(known)))}" if known else "no folds"
        raise DatasetError(dataset.root / MANIFEST, "fold", found=found, expected=f"fold {fold} (convert --folds K)")
    excluded = set(exclude_patients)
    train, val = [], []
    for record in dataset.records:
        if record.split == "test" or record.patient_id in excluded:
            continue
        validates = record.split == "val" if fold is None else record.fold == fold
        (val if validates else train).append(record)
    if not train:
        found = f"none of {len(dataset.records)} images"
        raise DatasetError(dataset.root / MANIFEST, "split", found=found, expected="images to train on")
    return tuple(train), tuple(val)
