"""A few radiographs of a data set with their true boxes, chosen to show every kind."""

from collections import Counter, defaultdict
from collections.abc import Sequence
from hashlib import sha256
from itertools import cycle
from xml.etree.ElementTree import Element

import numpy as np

from siimdet.core.boxes import scale_boxes
from siimdet.core.types import ImageRecord, ImageSize
from siimdet.data.dataset import Dataset
from siimdet.report.elements import element
from siimdet.report.figures import Boxes, colour, radiograph, thumbnail

SAMPLES = 12
WITH_BOXES = 8
"""Of the samples, as many have boxes; more or fewer where the data set lacks the one kind or the other."""

LONGER_SIDE = 400
NO_LABEL = "no positive label"


def choose(dataset: Dataset) -> dict[str, list[ImageRecord]]:
    """The images to show under each heading, spread over labels, box classes and patients; the same every time."""
    seen: Counter[str] = Counter()
    ranked = []
    # Hashes mix the images, whose ids often sort by patient or by kind; second images of a patient come last.
    for record in sorted(dataset.records, key=lambda record: sha256(record.image_id.encode()).digest()):
        ranked.append((seen[record.patient_id], len(ranked), record))
        seen[record.patient_id] += 1
    ordered = [record for *_, record in sorted(ranked, key=lambda entry: entry[:2])]
    with_boxes = [record for record in ordered if len(dataset.boxes[record.image_id])]
    without = [record for record in ordered if not len(dataset.boxes[record.image_id])]
    number = min(len(with_boxes), max(WITH_BOXES, SAMPLES - len(without)))
    groups = {
        "With boxes": _spread(dataset, with_boxes, number),
        "Without boxes": _spread(dataset, without, SAMPLES - number),
    }
    return {heading: group for heading, group in groups.items() if group}


def samples(dataset: Dataset) -> list[Element]:
    """The chosen images with their boxes. Raises: ImageError for one that cannot be read."""
    groups = choose(dataset)
    if not groups:
        return [element("p", "The data set has no image.")]
    parts = [element("p", "Chosen by a fixed rule, to show every kind; they are no measure of how frequent one is.")]
    for heading, records in groups.items():
        parts.append(element("h3", heading))
        parts.append(element("div", *(_card(dataset, record) for record in records), class_="gallery"))
    return parts


def _spread(dataset: Dataset, records: Sequence[ImageRecord], number: int) -> list[ImageRecord]:
    """Take an image of each label and box class in turn, the frequent ones first."""
    by_trait: defaultdict[str, list[ImageRecord]] = defaultdict(list)
    for record in records:
        for trait in _traits(dataset, record):
            by_trait[trait].append(record)
    turns = sorted(by_trait, key=lambda trait: (-len(by_trait[trait]), trait))
    left = {trait: iter(by_trait[trait]) for trait in turns}
    chosen: dict[str, ImageRecord] = {}
    for trait in cycle(turns):
        if len(chosen) == min(number, len(records)):
            break
        record = next((record for record in left[trait] if record.image_id not in chosen), None)
        if record is not None:
            chosen[record.image_id] = record
    return list(chosen.values())


def _traits(dataset: Dataset, record: ImageRecord) -> set[str]:
    class_ids = set(dataset.boxes[record.image_id].class_ids.tolist())
    return set(_positive(dataset, record)) | {dataset.classes.names[i] for i in class_ids} or {NO_LABEL}


def _positive(dataset: Dataset, record: ImageRecord) -> list[str]:
    return [name for name, value in zip(dataset.labels.names, record.labels.tolist(), strict=True) if value == 1]


def _card(dataset: Dataset, record: ImageRecord) -> Element:
    truth = dataset.boxes[record.image_id]
    image = thumbnail(dataset.root / record.path, LONGER_SIDE)
    xyxy = scale_boxes(truth.xyxy, truth.size, ImageSize(image.shape[1], image.shape[0]))
    overlays = []
    for class_id in np.unique(truth.class_ids).tolist():
        kept = xyxy[truth.class_ids == class_id]
        overlays.append(Boxes(kept, colour(class_id), [dataset.classes.names[class_id]] * len(kept)))
    boxes = f"{len(truth)} box" if len(truth) == 1 else f"{len(truth)} boxes" if len(truth) else "no box"
    labels = _labels(dataset, record)
    said = f"Radiograph {record.image_id}: {', '.join([*labels, boxes])}"
    caption = element(
        "figcaption",
        element("p", element("code", record.image_id), class_="id"),
        *(element("p", element("strong", ", ".join(labels))) for _ in labels[:1]),
        element("p", f"{boxes}, {record.split}"),
    )
    return element("figure", radiograph(image, overlays, description=said), caption, class_="card shot")


def _labels(dataset: Dataset, record: ImageRecord) -> list[str]:
    """Its positive labels, or why there is none; nothing where the data set has no labels."""
    if not len(dataset.labels):
        return []
    missing = "labels unknown" if np.isnan(record.labels).any() else NO_LABEL
    return _positive(dataset, record) or [missing]
