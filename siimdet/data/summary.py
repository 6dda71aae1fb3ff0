"""Counts of a data set: what `inspect` prints."""

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from siimdet.core.types import SPLITS, BoxLabels, ImageRecord
from siimdet.data.dataset import HEADER, Dataset, by_split
from siimdet.data.distributions import count_labels, distributions
from siimdet.errors import DatasetError


def summarise(dataset: Dataset) -> dict[str, Any]:
    """Counts as plain JSON values: overall, per split, fold, label and box class, and the range of sizes.

    `labels` holds the images with 1, 0 and unknown per label; `published` repeats the counts of the
    source's label tables, of which a partial download converts fewer. `distributions` are those of
    siimdet.data.distributions.
    Raises: DatasetError if the `counts` of dataset.json are no counts.
    """
    folds = Counter(record.fold for record in dataset.records if record.fold is not None)
    class_ids = Counter(i for boxes in dataset.boxes.values() for i in boxes.class_ids.tolist())
    return {
        "source": dataset.source,
        "bit_depth": dataset.bit_depth,
        "fingerprint": dataset.fingerprint,
        **count_images(dataset.records, dataset.boxes),
        "splits": {split: count_images(by_split(dataset, split), dataset.boxes) for split in SPLITS},
        "folds": {str(fold): folds[fold] for fold in sorted(folds)},
        "labels": count_labels(dataset.records, dataset.labels),
        "classes": {name: class_ids[i] for i, name in enumerate(dataset.classes.names)},
        "sizes": {
            "stored": _sizes([(r.stored.width, r.stored.height) for r in dataset.records]),
            "original": _sizes([(r.original.width, r.original.height) for r in dataset.records]),
        },
        "published": _published(dataset),
        "distributions": distributions(dataset),
    }


def count_images(records: Sequence[ImageRecord], boxes: Mapping[str, BoxLabels]) -> dict[str, int]:
    """Images, studies, patients and boxes of some records."""
    per_image = [len(boxes[record.image_id]) for record in records]
    return {
        "images": len(records),
        "studies": len({record.study_id for record in records}),
        "patients": len({record.patient_id for record in records}),
        "boxes": sum(per_image),
        "images_with_boxes": sum(count > 0 for count in per_image),
        "images_without_boxes": sum(count == 0 for count in per_image),
    }


def _published(dataset: Dataset) -> dict[str, int | None] | None:
    counts = dataset.details.get("counts")
    published = counts.get("labels") if isinstance(counts, Mapping) else counts
    if published is None:
        return None
    if not isinstance(published, Mapping) or not all(n is None or type(n) is int for n in published.values()):
        found, expected = repr(published)[:80], "an object of whole numbers"
        raise DatasetError(dataset.root / HEADER, "counts.labels", found=found, expected=expected)
    return dict(published)


def _sizes(pairs: list[tuple[int, int]]) -> dict[str, dict[str, int]] | None:
    if not pairs:
        return None
    widths, heights = zip(*pairs, strict=True)
    return {
        "width": {"least": min(widths), "most": max(widths)},
        "height": {"least": min(heights), "most": max(heights)},
    }
