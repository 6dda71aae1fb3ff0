"""Training images of several data sets as one: true ones and pseudo-labelled ones, or one hospital's and another's."""

import hashlib
from collections.abc import Collection, Sequence
from dataclasses import replace

import numpy as np

from siimdet.core.types import ImageRecord
from siimdet.data.dataset import Dataset, by_split
from siimdet.errors import DatasetError


def mix_in(
    dataset: Dataset, others: Sequence[Dataset], *, labels: bool, withheld: Collection[str]
) -> tuple[Dataset, tuple[ImageRecord, ...]]:
    """The data set with the train images of others added to it, and the records of those.

    `labels`: the labels of the images are learnt, and must be those of the data set; otherwise its
    classes of boxes must, and labels of another space are unknown. Images of patients in `withheld`,
    those that judge the training, stay out. An added image is called mixK.ID after the K-th of
    `others`, from 1, and its path is absolute.
    Raises: DatasetError for other classes, or if a data set has nothing to add.
    """
    records, boxes = list(dataset.records), dict(dataset.boxes)
    added: list[ImageRecord] = []
    for number, other in enumerate(others, start=1):
        _check_spaces(dataset, other, labels=labels)
        same = other.labels.names == dataset.labels.names
        unknown = np.full(len(dataset.labels), np.nan, np.float32)
        mine = [record for record in by_split(other, "train") if record.patient_id not in withheld]
        if not mine:
            found = f"no train image of {other.root} beside the patients that validate"
            raise DatasetError(dataset.root, "mix_in", found=found, expected="some to add")
        for record in mine:
            name = f"mix{number}.{record.image_id}"
            path = str((other.root / record.path).resolve())
            values = record.labels if same else unknown
            added.append(replace(record, image_id=name, path=path, labels=values, fold=None))
            boxes[name] = other.boxes[record.image_id]
    prints = [part.fingerprint for part in (dataset, *others)]
    mixed = replace(
        dataset,
        records=(*records, *added),
        boxes=boxes,
        bit_depth=max(part.bit_depth for part in (dataset, *others)),
        fingerprint=hashlib.sha256("\n".join(prints).encode()).hexdigest(),
        details={**dataset.details, "mixed_in": prints[1:]},
    )
    return mixed, tuple(added)


def _check_spaces(dataset: Dataset, other: Dataset, *, labels: bool) -> None:
    what = "labels" if labels else "classes"
    own, theirs = (getattr(part, what).names for part in (dataset, other))
    if own != theirs:
        found, expected = ", ".join(theirs) or "none", f"{', '.join(own)} as in {dataset.root}"
        raise DatasetError(other.root, what, found=found, expected=expected)
