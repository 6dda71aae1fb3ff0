"""The labels that a classifier learns from, checked before the first epoch."""

import logging
from collections import Counter
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from siimdet.core.types import ImageRecord
from siimdet.data.manifest import Dataset
from siimdet.errors import DatasetError

log = logging.getLogger(__name__)


def exclusive_records(dataset: Dataset, records: Sequence[ImageRecord], part: str) -> tuple[ImageRecord, ...]:
    """The records of exactly one class each; those without any label are left out, and counted in the log.

    Raises: DatasetError for an image of no class or of several, or with some labels unknown.
    """
    kept = []
    for record in records:
        if np.isnan(record.labels).all():
            continue
        if np.isnan(record.labels).any() or record.labels.sum() != 1:
            names = [name for name, value in zip(dataset.labels.names, record.labels, strict=True) if value == 1]
            raise DatasetError(
                dataset.root,
                f"image {record.image_id}",
                found=f"classes {', '.join(names) or 'none'}",
                expected=f"exactly one of {', '.join(dataset.labels.names)}",
            )
        kept.append(record)
    if not kept:
        found, expected = f"{len(records)} images without a label", "some with one"
        raise DatasetError(dataset.root, f"{part} images", found=found, expected=expected)
    if len(kept) < len(records):
        log.info("%s: %d images without a label left out", part, len(records) - len(kept))
    return tuple(kept)


def check_classes(dataset: Dataset, train: Sequence[ImageRecord], *, exclusive: bool) -> None:
    """Every class has an image to learn from; of exclusive classes one without is refused, else it is logged."""
    labels = np.array([record.labels for record in train]).reshape(-1, len(dataset.labels))
    if np.isnan(labels).all():
        found, expected = f"{len(train)} without a known label", "some with one"
        raise DatasetError(dataset.root, "training images", found=found, expected=expected)
    positives = (labels == 1).sum(0)
    missing = [name for name, count in zip(dataset.labels.names, positives, strict=True) if not count]
    if missing and exclusive:
        found = f"none of {', '.join(missing)}"
        raise DatasetError(dataset.root, "training images", found=found, expected="images of every class")
    if missing:
        log.warning("no training image has %s: nothing is learnt about it", ", ".join(missing))


def has_boxes(dataset: Dataset, records: Sequence[ImageRecord]) -> NDArray[np.bool_]:
    """bool[N]: whether each of the records has a box."""
    return np.array([len(dataset.boxes[record.image_id]) > 0 for record in records], bool)


def boxed_images(dataset: Dataset, records: Sequence[ImageRecord]) -> tuple[ImageRecord, ...]:
    """Of every study that has boxes the images that bear them, of the others all.

    In SIIM the boxes of a study are on one of its images; the others read like another class.
    """
    boxed = {record.image_id for record in records if len(dataset.boxes[record.image_id])}
    studies = Counter(record.study_id for record in records if record.image_id in boxed)
    return tuple(record for record in records if record.image_id in boxed or record.study_id not in studies)
