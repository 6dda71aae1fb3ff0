"""Training images of several data sets as one: true ones and pseudo-labelled ones, or one hospital's and another's."""

import hashlib
from collections.abc import Collection, Sequence
from dataclasses import replace
from typing import Literal

import numpy as np

from siimdet.core.types import ImageRecord
from siimdet.data.dataset import Dataset, by_split
from siimdet.errors import DatasetError

Learnt = Literal["labels", "classes"]
"""What a training takes from its images: labels, or boxes of classes."""


def mix_in(
    dataset: Dataset, others: Sequence[Dataset], *, learnt: Collection[Learnt], withheld: Collection[str]
) -> tuple[Dataset, tuple[ImageRecord, ...]]:
    """The data set with the train images of others added to it, and the records of those to train on.

    What is `learnt` must have the same names in all of them; labels of another space are unknown. Patients
    in `withheld`, those that judge the training, are not trained on. Ids of added images and studies begin
    with mixK. after the K-th of `others`, from 1, and paths are absolute.
    Raises: DatasetError for other names or another bit depth, or if a data set has nothing to add.
    """
    records, boxes = list(dataset.records), dict(dataset.boxes)
    added: list[ImageRecord] = []
    for number, other in enumerate(others, start=1):
        _check(dataset, other, learnt)
        same = other.labels.names == dataset.labels.names
        unknown = np.full(len(dataset.labels), np.nan, np.float32)
        mine = by_split(other, "train")
        if all(record.patient_id in withheld for record in mine):
            found = f"no train image of {other.root} beside the patients that judge the training"
            raise DatasetError(dataset.root, "mix_in", found=found, expected="some to add")
        for record in mine:
            name, study = (f"mix{number}.{own}" for own in (record.image_id, record.study_id))
            path = str(other.root.resolve() / record.path)
            values = record.labels if same else unknown
            records.append(replace(record, image_id=name, study_id=study, path=path, labels=values, fold=None))
            boxes[name] = other.boxes[record.image_id]
            if record.patient_id not in withheld:
                added.append(records[-1])
    prints = [part.fingerprint for part in (dataset, *others)]
    mixed = replace(
        dataset,
        records=tuple(records),  # the withheld ones too: a cache of them serves every fold
        boxes=boxes,
        fingerprint=hashlib.sha256("\n".join(prints).encode()).hexdigest(),
        details={**dataset.details, "mixed_in": prints[1:]},
    )
    return mixed, tuple(added)


def _check(dataset: Dataset, other: Dataset, learnt: Collection[Learnt]) -> None:
    for what in learnt:
        own, theirs = (getattr(part, what).names for part in (dataset, other))
        if own != theirs:
            found, expected = ", ".join(theirs) or "none", f"{', '.join(own) or 'none'} as in {dataset.root}"
            raise DatasetError(other.root, what, found=found, expected=expected)
    if other.bit_depth != dataset.bit_depth:
        expected = f"{dataset.bit_depth} as in {dataset.root}"
        raise DatasetError(other.root, "bit_depth", found=other.bit_depth, expected=expected)
