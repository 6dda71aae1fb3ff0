"""Phantoms whose best coupling is planted, and what `tune` makes of them."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import pytest

from siimdet.config import Coupling, NoneExponents
from siimdet.core.labels import OPACITY, STUDY
from siimdet.core.types import Detections, ImageRecord, ImageSize, Probabilities
from siimdet.submission.evidence import Evidence, prediction_evidence
from siimdet.submission.truth import make_truth
from siimdet.submission.tune import Tuned, tune

SIZE = ImageSize(200, 200)


@dataclass(frozen=True)
class Phantoms:
    """Two images a study, two studies a patient, with what two detectors and a study model say of them."""

    best: ClassVar = Coupling(
        kind="coupling",
        fusion_iou=0.75,
        fusion_weights=(1.0, 0.1),
        study_from_images="opacity",
        none=NoneExponents(own=0, image_opacity=1),
    )
    """The coupling that suits them best: see `draw`."""
    records: list[ImageRecord]
    boxes: dict[str, list[list[float]]]
    labels: dict[str, str]
    models: tuple[dict[str, Detections], dict[str, Detections]]
    classes: Probabilities
    opacity: Probabilities

    def evidence(self) -> Evidence:
        truth = make_truth({record.image_id: record.study_id for record in self.records}, self.boxes, self.labels)
        return prediction_evidence(
            self.records, truth, self.models, self.classes, opacity=self.opacity, file="phantoms"
        )


def draw(studies: int, seed: int) -> Phantoms:
    """Truths come in pairs that overlap by .63: an IoU of .55 fuses them. The second detector's scores tell nothing.

    One image of a study holds its boxes and its class; the other is a confident guess, which a mean or maximum takes
    in. `opacity` tells which is which.
    """
    rng = np.random.default_rng(seed)
    records, boxes, labels, values, opacity = [], {}, {}, [], []
    models: tuple[dict, dict] = ({}, {})
    for number in range(studies):
        class_id, shown = int(rng.integers(4)), int(rng.integers(2))
        labels[f"s{number}"] = STUDY.names[class_id]
        for i in range(2):
            image = f"i{number}_{i}"
            path = f"images/{image}.png"
            label = np.eye(4, dtype=np.float32)[class_id]
            records.append(ImageRecord(image, f"s{number}", f"p{number // 2}", path, SIZE, SIZE, label, "train"))
            x, y = rng.uniform(10, 90, 2)
            boxes[image] = [[x, y, x + 80, y + 80], [x + 18, y, x + 98, y + 80]] if class_id and i == shown else []
            for model, spread in zip(models, (0.1, None), strict=True):
                model[image] = found(rng, boxes[image], spread)
            logits = rng.normal(0, 2, 4)
            if i == shown:
                logits = rng.normal(0, 1, 4) + 2.5 * np.eye(4)[class_id]
            values.append(np.exp(logits) / np.exp(logits).sum())
            opacity.append([rng.uniform(0.4, 1) if boxes[image] else rng.uniform(0, 0.6 if i == shown else 0.3)])
    keys = tuple(record.image_id for record in records)
    return Phantoms(
        records, boxes, labels, models, Probabilities(keys, values, STUDY), Probabilities(keys, opacity, OPACITY)
    )


def found(rng: np.random.Generator, truth: list[list[float]], spread: float | None) -> Detections:
    """The truth off by a pixel or two, and false boxes of lower scores; without `spread`, scores are noise."""
    false = [[*corner, *(corner + 60)] for corner in rng.uniform(0, 140, (2, 2))]
    xyxy = np.array([*(np.array(box) + rng.normal(0, 1.5, 4) for box in truth), *false])
    means = np.array([0.6] * len(truth) + [0.3] * len(false))
    scores = rng.uniform(0, 1, len(means)) if spread is None else np.clip(rng.normal(means, spread), 0.01, 1)
    return Detections(np.clip(xyxy, 0, 200), [0] * len(xyxy), scores, SIZE)


@pytest.fixture(scope="session")
def phantoms() -> Callable[..., Phantoms]:
    """Draws phantoms: phantoms(studies, seed)."""
    return draw


@pytest.fixture(scope="session")
def planted() -> Phantoms:
    return draw(60, seed=0)


@pytest.fixture(scope="session")
def tuned(planted) -> Tuned:
    return tune(planted.evidence(), folds=3, samples=100)
