"""`submit` with versions of an image: every detector sees them, the study run does not."""

import numpy as np
import pytest
import torch

from siimdet.config import Coupling
from siimdet.core.labels import OPACITY, STUDY
from siimdet.core.types import BoxLabels, ImageRecord, ImageSize
from siimdet.data.manifest import write_dataset
from siimdet.imaging.png import write_png
from siimdet.inference.run import predict_boxes
from siimdet.inference.tta import Versions
from siimdet.models.weights import ModelSpec, build_model, save_model
from siimdet.submission.submit import submit

CPU = torch.device("cpu")
SIZE = ImageSize(64, 64)
DETECTOR = {
    **{"body": "resnet18", "finest_stage": 2, "fpn_channels": 8, "box_head_features": 8, "proposals": 20},
    **{"anchor_sizes": [8, 16, 32, 48], "mean": [0.5] * 3, "std": [0.25] * 3, "score_threshold": 0.05},
}
STUDY_RUN = {"body": "simple_cnn", "activation": "softmax", "mean": [0.5], "std": [0.25]}


@pytest.fixture
def made(tmp_path):
    """A data set of one image, two detectors and a study run, all with random weights."""
    noise = np.random.default_rng(0).integers(0, 255, (64, 64)).astype(np.uint8)
    write_png(tmp_path / "data" / "images" / "a.png", noise)
    record = ImageRecord("a", "s", "p", "images/a.png", SIZE, SIZE, [1, 0, 0, 0], "val")
    boxes = {"a": BoxLabels.empty(SIZE)}
    data = write_dataset(tmp_path / "data", [record], boxes, source="test", labels=STUDY, classes=OPACITY, bit_depth=8)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(2)
        for name, kind, architecture, classes in (
            ("one", "faster_rcnn", DETECTOR, OPACITY),
            ("two", "faster_rcnn", DETECTOR, OPACITY),
            ("study", "classifier", STUDY_RUN, STUDY),
        ):
            spec = ModelSpec(kind, architecture, classes, 64, "stretch", 1)
            save_model(tmp_path / name, spec, build_model(spec).state_dict(), {})
    return data, [tmp_path / "one", tmp_path / "two"], tmp_path / "study"


def test_all_detectors_see_the_versions_and_the_study_run_does_not(made):
    data, detectors, study = made
    rest = {"study": study, "coupling": Coupling(kind="coupling"), "file": "s.csv", "device": CPU}
    versions = Versions(flip=True, scales=(1.0, 1.5))
    plain = submit(data, data.records, detectors=detectors, **rest)
    found = submit(data, data.records, detectors=detectors, versions=versions, **rest)
    for run in detectors:
        alone = predict_boxes(run, data, data.records, device=CPU, versions=versions)["a"]
        boxes = found.boxes[str(run)]["a"]
        assert (boxes.xyxy.tolist(), boxes.scores.tolist()) == (alone.xyxy.tolist(), alone.scores.tolist())
        assert boxes.scores.tolist() != plain.boxes[str(run)]["a"].scores.tolist()
    assert found.studies.values.tolist() == plain.studies.values.tolist()
