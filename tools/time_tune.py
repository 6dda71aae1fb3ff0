"""The time of `siimdet tune` on synthesised predictions of the size of SIIM: 6,334 images, detectors of ten boxes each.

`python tools/time_tune.py [--calibrate temperature|isotonic]` prints processor seconds and the gain.
"""

import argparse
import time

import numpy as np

from siimdet.core.labels import STUDY
from siimdet.core.types import Detections, ImageRecord, ImageSize, Probabilities
from siimdet.submission.evidence import Evidence, prediction_evidence
from siimdet.submission.truth import make_truth
from siimdet.submission.tune import tune

IMAGES, DETECTORS, BOXES = 6334, 3, 10
SHARES = (0.27, 0.47, 0.17, 0.09)
"""Of the study classes, about those of SIIM."""
SIZE = ImageSize(1024, 1024)


def make(rng: np.random.Generator) -> Evidence:
    """Two images a patient, one to three true boxes unless the study is negative."""
    records, boxes, values = [], {}, []
    for number, class_id in enumerate(rng.choice(len(STUDY), IMAGES, p=SHARES)):
        name, label = f"i{number:05d}", np.eye(len(STUDY), dtype=np.float32)[class_id]
        patient = f"p{number // 2:05d}"
        records.append(ImageRecord(name, f"s{number:05d}", patient, f"images/{name}.png", SIZE, SIZE, label, "train"))
        corners = rng.uniform(50, 700, (int(rng.integers(1, 4)) if class_id else 0, 2))
        boxes[name] = np.hstack([corners, corners + rng.uniform(80, 300, corners.shape)])
        values.append(rng.dirichlet(np.ones(len(STUDY)) + 4 * label))
    models = [{name: _found(rng, xyxy) for name, xyxy in boxes.items()} for _ in range(DETECTORS)]
    labels = {record.study_id: STUDY.names[int(record.labels.argmax())] for record in records}
    truth = make_truth({record.image_id: record.study_id for record in records}, boxes, labels)
    classes = Probabilities(tuple(boxes), np.array(values, np.float32), STUDY)
    return prediction_evidence(records, truth, models, classes, file="made")


def _found(rng: np.random.Generator, truth: np.ndarray) -> Detections:
    """The truth off by some pixels, and false boxes of lower scores."""
    corners = rng.uniform(0, 700, (BOXES - len(truth), 2))
    false = np.hstack([corners, corners + rng.uniform(60, 300, corners.shape)])
    moved = truth + rng.normal(0, 15, truth.shape).clip(-35, 35)
    xyxy = np.vstack([moved, false]).clip(0, SIZE.width).astype(np.float32)
    scores = np.concatenate([rng.beta(4, 3, len(truth)), rng.beta(1, 6, len(false))]).astype(np.float32)
    return Detections(xyxy, np.zeros(BOXES, np.int64), scores, SIZE)


def main() -> None:
    """Print the row."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--calibrate", choices=("temperature", "isotonic"))
    options = parser.parse_args()
    evidence = make(np.random.default_rng(0))
    start = time.process_time()
    tuned = tune(evidence, folds=5, samples=1000, calibrate=options.calibrate)
    print(f"{time.process_time() - start:.0f} s of one core, gain {tuned.figures['gain']:+.4f}")


if __name__ == "__main__":
    main()
