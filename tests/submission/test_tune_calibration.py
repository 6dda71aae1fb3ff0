"""Calibration helps: one of two detectors tells the chance of its boxes, the other a rising function of it."""

from dataclasses import dataclass

import numpy as np
import pytest
from scipy.special import expit, logit

from siimdet.config import Calibration, Coupling
from siimdet.core.labels import OPACITY, STUDY
from siimdet.core.types import BoxLabels, Detections, ImageRecord, ImageSize, Probabilities
from siimdet.scoring.calibration import fit_isotonic, fit_temperature
from siimdet.scoring.voc import detection_ap
from siimdet.submission.coupling import fused_boxes
from siimdet.submission.evidence import Evidence, prediction_evidence
from siimdet.submission.truth import make_truth
from siimdet.submission.tune import Tuned, tune

SIZE = ImageSize(200, 200)
CORNERS = np.array([[x, y, x + 60, y + 60] for x in (20.0, 120.0) for y in (20.0, 120.0)])
FLATTENED = 8.0
"""By which the second detector's logits are divided: all its scores are near .5."""


@dataclass(frozen=True)
class Found:
    """Images with four candidates each, every one seen by one of the two detectors; hits are in the order of boxes."""

    truth: dict[str, BoxLabels]
    models: tuple[dict[str, Detections], dict[str, Detections]]
    hits: tuple[np.ndarray, np.ndarray]

    def evidence(self) -> Evidence:
        """An image a study and a patient, with a study level that is right."""
        records, classes = [], np.eye(4, dtype=np.float32)
        for n, key in enumerate(self.truth):
            path = f"images/{key}.png"
            records.append(ImageRecord(key, f"s{n}", f"p{n}", path, SIZE, SIZE, classes[n % 4], "train"))
        study_of = {record.image_id: record.study_id for record in records}
        labels = {record.study_id: STUDY.names[int(record.labels.argmax())] for record in records}
        truth = make_truth(study_of, {key: boxes.xyxy for key, boxes in self.truth.items()}, labels)
        values = Probabilities(tuple(self.truth), [record.labels for record in records], STUDY)
        return prediction_evidence(records, truth, self.models, values, file="found")


def make(images: int, seed: int) -> Found:
    rng = np.random.default_rng(seed)
    truth: dict[str, BoxLabels] = {}
    models: tuple[dict, dict] = ({}, {})
    hits: tuple[list, list] = ([], [])
    for n in range(images):
        chance = rng.beta(0.3, 1.5, 4).clip(0.005, 0.995)
        true, seen = rng.uniform(size=4) < chance, rng.uniform(size=4) < 0.5
        truth[f"i{n}"] = BoxLabels(CORNERS[true], [0] * true.sum(), SIZE)
        for model, right, mine, temperature in zip(models, hits, (seen, ~seen), (1.0, FLATTENED), strict=True):
            xyxy = CORNERS[mine] + rng.normal(0, 2, (mine.sum(), 4))
            model[f"i{n}"] = Detections(xyxy, [0] * mine.sum(), expit(logit(chance[mine]) / temperature), SIZE)
            right.append(true[mine])
    first, second = (np.concatenate(right) for right in hits)
    return Found(truth, models, (first, second))


def fitted(kind: str, found: Found) -> Coupling:
    rules = []
    for model, hits in zip(found.models, found.hits, strict=True):
        scores = np.concatenate([boxes.scores for boxes in model.values()])
        if kind == "temperature":
            rules.append(Calibration(temperature=fit_temperature(scores, hits)))
        else:
            rules.append(Calibration(knots=fit_isotonic(scores, hits)))
    return Coupling(kind="coupling", calibration=tuple(rules))


@pytest.mark.parametrize("kind", ["temperature", "isotonic"])
def test_fused_boxes_of_other_images_are_better_with_calibrated_scores(kind):
    coupling = fitted(kind, make(2000, seed=0))
    other = make(2000, seed=1)
    plain, calibrated = (
        detection_ap(other.truth, fused_boxes(other.models, one), OPACITY).mean_ap
        for one in (Coupling(kind="coupling"), coupling)
    )
    assert plain is not None
    assert calibrated is not None
    assert calibrated > plain + 0.04


@pytest.fixture(scope="module")
def uncalibrated() -> Tuned:
    return tune(make(600, seed=0).evidence(), folds=2, samples=100, always=True)


@pytest.mark.parametrize("kind", ["temperature", "isotonic"])
def test_tune_gains_out_of_sample_by_calibrating(uncalibrated, kind):
    tuned = tune(make(600, seed=0).evidence(), folds=2, samples=100, calibrate=kind, always=True)
    # Weights of detectors, which are fitted either way, cannot undo what was done to the scores of one.
    assert tuned.figures["out_of_sample"]["opacity"] > uncalibrated.figures["out_of_sample"]["opacity"] + 0.03
