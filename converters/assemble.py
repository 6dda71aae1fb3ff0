"""From label rows and converted images to the records, boxes, counts and repairs of a data set."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Literal

import numpy as np

from converters.boxes import clip_item
from converters.item import Done, image_place
from converters.owners import Owners, find_owners
from converters.repair import Repair
from converters.source import Item
from siimdet.core.types import BoxLabels, ImageRecord, ImageSize, Split
from siimdet.data.splits import assign_folds, assign_splits
from siimdet.errors import SourceError

Division = tuple[dict[str, Split], dict[str, int]]
"""Split and, where there are folds, fold by image id."""

SplitBy = Literal["patient", "image"]
"""Whose images stay together in a split: a patient's, or each its own, as reports have it that divide slices."""


def owners_of(items: Sequence[Item], done: Mapping[str, Done]) -> dict[str, Owners]:
    """Study and patient of every image that they are known of."""
    found = {item.image_id: find_owners(item, done.get(item.image_id)) for item in items}
    return {image_id: owners for image_id, owners in found.items() if owners is not None}


def divide(
    items: Sequence[Item],
    owners: Mapping[str, Owners],
    *,
    where: Path,
    split_by: SplitBy,
    folds: int | None,
    seed: int,
) -> Division:
    """Splits by patient or by image, and folds by patient, which all label rows decide, converted or not.

    Raises: SourceError if there are fewer patients than folds.
    """
    known = [item for item in items if item.image_id in owners]
    patients = {item.image_id: owners[item.image_id].patient_id for item in known}
    together = patients if split_by == "patient" else {image_id: image_id for image_id in patients}
    splits = assign_splits(together, {item.image_id: item.official for item in known}, seed=seed)
    if folds is None:
        return splits, {}
    strata = {item.image_id: _stratum(item) for item in known}
    try:
        return splits, assign_folds(patients, strata, splits, folds=folds, seed=seed)
    except ValueError as error:
        found, _, expected = str(error).partition(", expected ")
        raise SourceError(where, "folds", found=found, expected=expected) from None


def assemble(
    items: Sequence[Item], done: Mapping[str, Done], owners: Mapping[str, Owners], division: Division
) -> tuple[list[ImageRecord], dict[str, BoxLabels]]:
    """Records and boxes of the converted images."""
    splits, folds = division
    records, boxes = [], {}
    for item in items:
        if (image := done.get(item.image_id)) is None:
            continue
        stored = ImageSize(*image.stored)
        boxes[item.image_id] = BoxLabels(image.xyxy, item.class_ids, stored)  # type: ignore[arg-type]
        records.append(
            ImageRecord(
                image_id=item.image_id,
                study_id=owners[item.image_id].study_id,
                patient_id=owners[item.image_id].patient_id,
                path=image_place(item.image_id),
                stored=stored,
                original=ImageSize(*image.original),
                labels=item.labels,
                split=splits[item.image_id],
                fold=folds.get(item.image_id),
                source={**item.columns, **image.columns},
            )
        )
    return records, boxes


def count_labels(items: Sequence[Item], owners: Mapping[str, Owners]) -> dict[str, int | None]:
    """Counts of all label rows; patients are None where neither a table nor a converted file tells them all.

    Images that only a test folder tells of are no label rows.
    """
    items = [item for item in items if not np.isnan(item.labels).all()]
    known = [owners[item.image_id] for item in items if item.image_id in owners]
    studies = {owners[item.image_id].study_id if item.image_id in owners else item.study_id for item in items}
    return {
        "images": len(items),
        "studies": len(studies),
        "patients": len({each.patient_id for each in known}) if len(known) == len(items) else None,
        "boxes": sum(len(item.xyxy) for item in items),
        "images_with_boxes": sum(len(item.xyxy) > 0 for item in items),
        "images_without_boxes": sum(len(item.xyxy) == 0 for item in items),
    }


def list_repairs(
    items: Sequence[Item], done: Mapping[str, Done], owners: Mapping[str, Owners], native: ImageSize | None
) -> list[Repair]:
    """Every mended value, of all label rows: those without an image as far as their tables tell."""
    repairs: list[Repair] = []
    for item in items:
        image = done.get(item.image_id)
        repairs += item.repairs
        repairs += [*image.repairs, *owners[item.image_id].repairs] if image else _clippings(item, native)
    return sorted(repairs)


def _clippings(item: Item, native: ImageSize | None) -> list[Repair]:
    if not len(item.xyxy):
        return []
    try:
        return clip_item(item, native)[1]
    except SourceError:
        # A box that is none is a failure of its image, named when that is converted.
        return []


def _stratum(item: Item) -> str:
    return f"{item.labels.tolist()} {len(item.xyxy) > 0}"
