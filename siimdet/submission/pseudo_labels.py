"""Pseudo-labels: predictions on unlabelled images, filtered by their studies' probabilities, as a data set.

Shapes: p f64[4], the probabilities of a study in the order of STUDY: negative, then the findings.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from siimdet.config import PseudoLabels
from siimdet.core.files import sha256_file
from siimdet.core.labels import OPACITY, STUDY
from siimdet.core.types import BoxLabels, Detections, ImageRecord, Probabilities, Split
from siimdet.data.dataset import HEADER, Dataset, filled_split
from siimdet.data.relabelled import write_relabelled
from siimdet.data.summary import count_images
from siimdet.errors import DatasetError
from siimdet.inference.aggregate import study_probabilities
from siimdet.submission.prediction_files import read_boxes, read_study

Outcome = Literal["positive", "negative", "undecided", "unclear", "without_box"]
OUTCOMES: tuple[Outcome, ...] = get_args(Outcome)
"""What becomes of an image; it is kept as a positive or a negative one."""
_DECIMALS = 6
"""Probabilities are compared in so many: a threshold of .7 is reached by the float32 nearest to .7."""


@dataclass(frozen=True, slots=True, eq=False)
class PseudoLabelled:
    """The images that were kept, their boxes by image id, and how many images had each outcome."""

    records: tuple[ImageRecord, ...]
    boxes: Mapping[str, BoxLabels]
    outcomes: Mapping[Outcome, int]


def write_pseudo_labels(
    out: Path, dataset: Dataset, split: Split | None, *, boxes: Path, study: Path, rule: PseudoLabels
) -> dict[Outcome, int]:
    """Write the data set of pseudo-labels to `out`; returns how many images had each outcome.

    `boxes` are COCO results, `study` a study classifier's CSV, both of the images of the split, or of those that
    the CSV names for None. What is true of the images is not looked at.
    Raises: DatasetError or SubmissionError for files of other images or classes, an `out` that holds files, or
    if no image is kept.
    """
    if dataset.classes.names not in ((), OPACITY.names):
        found = ", ".join(dataset.classes.names)
        raise DatasetError(dataset.root / HEADER, "classes", found=found, expected="opacity, or none")
    records, images = _read_classes(dataset, split, study)
    studies = study_probabilities(images, records, rule.study_from_images)
    ids = [record.image_id for record in records]
    found = read_boxes(boxes, dataset, ids, whose=f"{len(ids)} images")
    labelled = label_images(records, found, studies, rule)
    if not labelled.records:
        counts = ", ".join(f"{labelled.outcomes[name]} {name}" for name in OUTCOMES[2:])
        raise DatasetError(dataset.root, "images", found=f"none to keep: {counts}", expected="one at least")
    details: dict[str, Any] = {
        "pseudo_labels": {
            "rule": rule.model_dump(exclude={"kind"}),
            "outcomes": dict(labelled.outcomes),
            "images_of": {"source": dataset.source, "fingerprint": dataset.fingerprint},
            "files": {"boxes": sha256_file(boxes), "study": sha256_file(study)},
        },
        "counts": {"converted": count_images(labelled.records, labelled.boxes)},
    }
    write_relabelled(
        out,
        dataset,
        labelled.records,
        labelled.boxes,
        source="pseudo",
        labels=STUDY,
        classes=OPACITY,
        details=details | {name: dataset.details[name] for name in ("preprocessing",) if name in dataset.details},
    )
    return dict(labelled.outcomes)


def label_images(
    records: Sequence[ImageRecord], boxes: Mapping[str, Detections], studies: Probabilities, rule: PseudoLabels
) -> PseudoLabelled:
    """Keep the images that the rule is sure of, all to train on, with their best boxes and their study's class.

    Boxes are in stored pixels; an image without entry has none. A class that is not sure is unknown.
    """
    rows = dict(zip(studies.keys, np.round(studies.values.astype(np.float64), _DECIMALS), strict=True))
    outcomes, kept, labels = Counter[Outcome](), [], {}
    for record in records:
        p = rows[record.study_id]
        found = _best_boxes(boxes.get(record.image_id, Detections.empty(record.stored)), rule)
        outcome = _outcome(p, len(found), rule)
        outcomes[outcome] += 1
        if outcome not in ("positive", "negative"):
            continue
        labels[record.image_id] = found if outcome == "positive" else BoxLabels.empty(record.stored)
        source = {name: cell for name, cell in record.source.items() if name not in STUDY.names}
        truth = _study_label(p, outcome, rule)
        kept.append(replace(record, labels=truth, split="train", fold=None, source=source))
    return PseudoLabelled(tuple(kept), labels, {outcome: outcomes[outcome] for outcome in OUTCOMES})


def _outcome(p: NDArray[np.float64], boxes: int, rule: PseudoLabels) -> Outcome:
    if rule.negative is not None and p[0] >= rule.negative:
        return "negative"
    if round(1 - p[0], _DECIMALS) < rule.positive:
        return "undecided"
    if p[1:].max() < rule.finding:
        return "unclear"
    return "positive" if boxes else "without_box"


def _best_boxes(found: Detections, rule: PseudoLabels) -> BoxLabels:
    order = np.argsort(-found.scores, kind="stable")
    order = order[np.round(found.scores.astype(np.float64), _DECIMALS)[order] >= rule.box_score][: rule.most_boxes]
    return BoxLabels(found.xyxy[order], found.class_ids[order], found.size)


def _study_label(p: NDArray[np.float64], outcome: Outcome, rule: PseudoLabels) -> NDArray[np.float32]:
    class_id = 0 if outcome == "negative" else 1 + int(p[1:].argmax())
    if p[class_id] < rule.study:
        return np.full(len(STUDY), np.nan, np.float32)
    return np.eye(len(STUDY), dtype=np.float32)[class_id]


def _read_classes(dataset: Dataset, split: Split | None, study: Path) -> tuple[tuple[ImageRecord, ...], Probabilities]:
    records = dataset.records if split is None else filled_split(dataset, split)
    found = read_study(study, {record.image_id for record in records}, complete=split is not None)
    given = set(found.probabilities.keys)
    return tuple(record for record in records if record.image_id in given), found.probabilities
