"""Six-class VOC mAP of 6,334 images x 30 boxes from arrays, against the plain per-class loop of voc_eval."""

import numpy as np
from pairs import compare

from siimdet.core.labels import SUBMISSION_CLASSES
from siimdet.core.types import LabelSpace
from siimdet.scoring.voc import PredictedBoxes, TruthBoxes, voc_map

IMAGES, BOXES = 6334, 30
CLASSES = LabelSpace("submission", SUBMISSION_CLASSES)


def make(rng: np.random.Generator) -> tuple[TruthBoxes, PredictedBoxes]:
    """Truth of up to three boxes an image and predictions scattered about them, every score a different one."""
    truth_images = np.repeat(np.arange(IMAGES), rng.integers(0, 4, IMAGES))
    corner = rng.uniform(0, 800, (len(truth_images), 2))
    truth = TruthBoxes(
        truth_images,
        rng.integers(0, len(CLASSES), len(truth_images)),
        np.concatenate([corner, corner + rng.uniform(50, 200, corner.shape)], axis=1),
    )
    images = np.repeat(np.arange(IMAGES), BOXES)
    corner = rng.uniform(0, 800, (len(images), 2))
    xyxy = np.concatenate([corner, corner + rng.uniform(50, 200, corner.shape)], axis=1)
    near = rng.permutation(len(images))[: 2 * len(truth)]
    source = np.arange(len(near)) % len(truth)
    images[near], xyxy[near] = truth.images[source], truth.xyxy[source] + np.tile(rng.normal(0, 15, (len(near), 2)), 2)
    classes = rng.integers(0, len(CLASSES), len(images))
    classes[near] = truth.class_ids[source]
    return truth, PredictedBoxes(images, classes, xyxy, rng.permutation(len(images)) / len(images))


def plain(truth: TruthBoxes, found: PredictedBoxes) -> list[float]:
    """AP by class as voc_eval counts it, without its + 1 on widths."""
    return [_plain_class(truth, found, class_id) for class_id in range(len(CLASSES))]


def _plain_class(truth: TruthBoxes, found: PredictedBoxes, class_id: int) -> float:
    mine = truth.class_ids == class_id
    boxes = {int(i): truth.xyxy[mine & (truth.images == i)] for i in np.unique(truth.images[mine])}
    taken = {i: np.zeros(len(b), bool) for i, b in boxes.items()}
    rows = np.flatnonzero(found.class_ids == class_id)
    rows = rows[np.argsort(-found.scores[rows])]
    hits = np.zeros(len(rows))
    for order, row in enumerate(rows):
        image, box = int(found.images[row]), found.xyxy[row]
        if image not in boxes:
            continue
        b = boxes[image]
        width = np.maximum(np.minimum(b[:, 2], box[2]) - np.maximum(b[:, 0], box[0]), 0)
        height = np.maximum(np.minimum(b[:, 3], box[3]) - np.maximum(b[:, 1], box[1]), 0)
        overlap = width * height
        union = (box[2] - box[0]) * (box[3] - box[1]) + (b[:, 2] - b[:, 0]) * (b[:, 3] - b[:, 1]) - overlap
        best = int(np.argmax(overlap / union))
        if overlap[best] / union[best] > 0.5 and not taken[image][best]:
            taken[image][best] = True
            hits[order] = 1
    counted = np.cumsum(hits)
    recall, precision = counted / mine.sum(), counted / np.arange(1, len(rows) + 1)
    envelope = np.maximum.accumulate(precision[::-1])[::-1]
    return float((np.diff(np.concatenate([[0.0], recall])) * envelope).sum())


def main() -> None:
    """Print the row."""
    truth, found = make(np.random.default_rng(0))
    compare(
        "six-class VOC mAP, 6,334 images x 30 boxes",
        "plain voc_eval",
        lambda: plain(truth, found),
        lambda: list(voc_map(truth, found, CLASSES).ap.values()),
        equal=lambda theirs, ours: bool(np.allclose(theirs, ours, rtol=0, atol=1e-12)),
    )


if __name__ == "__main__":
    main()
