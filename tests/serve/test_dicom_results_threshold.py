"""The default threshold is where a real submission's boxes agree best with the truth."""

import inspect

import numpy as np
import pytest

from siimdet.cli.hospital import dicom_results
from siimdet.scoring.box_tables import PredictedBoxes
from siimdet.scoring.voc import voc_map
from siimdet.submission.file import read_submission
from siimdet.submission.table import CLASSES, OPACITY_ID
from siimdet.submission.truth import read_truth

pytestmark = pytest.mark.real_data


def test_default_threshold_is_near_the_best_f1_of_a_real_submission(shared_data):
    submission = read_submission(shared_data / "siim_oof/submission.csv")
    tables = (shared_data / "siim" / name for name in ("train_image_level.csv", "train_study_level.csv"))
    truth = read_truth(*tables).boxes_of(submission.ids)
    predictions = PredictedBoxes(submission.rows, submission.class_ids, submission.xyxy, submission.scores)
    curve = voc_map(truth, predictions, CLASSES).curves[OPACITY_ID]
    images = sum(row_id.endswith("_image") for row_id in submission.ids)
    best = curve.operating_point(images)
    assert (images, best.threshold, best.f1) == (3603, pytest.approx(0.1315, abs=1e-4), pytest.approx(0.5699, abs=1e-4))
    default = inspect.signature(dicom_results).parameters["threshold"].default
    shown = np.flatnonzero(curve.scores >= default)[-1]
    assert default == 0.13
    assert curve.recall[shown] == pytest.approx(0.520, abs=1e-3)
    assert curve.precision[shown] == pytest.approx(0.629, abs=1e-3)
    assert (curve.detections - curve.hits)[shown] / images == pytest.approx(0.397, abs=1e-3)
