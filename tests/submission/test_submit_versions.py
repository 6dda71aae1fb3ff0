"""`submit` with versions of an image, which detectors alone see, and with blanked borders, which all runs see."""

import numpy as np
import pytest
import torch

from siimdet.cli import run
from siimdet.config import Coupling
from siimdet.core.labels import OPACITY, STUDY
from siimdet.core.types import BoxLabels, ImageRecord, ImageSize
from siimdet.data.manifest import write_dataset
from siimdet.imaging.png import read_grey, write_png
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
    for detector in detectors:
        alone = predict_boxes(detector, data, data.records, device=CPU, versions=versions)["a"]
        boxes = found.boxes[str(detector)]["a"]
        assert (boxes.xyxy.tolist(), boxes.scores.tolist()) == (alone.xyxy.tolist(), alone.scores.tolist())
        assert boxes.scores.tolist() != plain.boxes[str(detector)]["a"].scores.tolist()
    assert found.studies.values.tolist() == plain.studies.values.tolist()


def test_all_runs_see_blanked_borders(made, tmp_path):
    data, detectors, study = made
    image = read_grey(data.root / "images" / "a.png")
    options = ["--dataset", str(data.root), "--split", "val", "--device", "cpu", "--study", str(study), "--detector"]

    def command(name: str, *more: str) -> bytes:
        out = tmp_path / f"{name}.csv"
        assert run(["submit", *options, *map(str, detectors), "--out", str(out), *more]) == 0
        return out.read_bytes()

    kept = tmp_path / "kept"
    plain = command("plain")
    blanked = command("blanked", "--blank-border", ".125", "--keep", str(kept))
    image[:8], image[56:], image[:, :8], image[:, 56:] = 0, 0, 0, 0
    write_png(data.root / "images" / "a.png", image)
    by_hand = command("by_hand", "--keep", str(tmp_path / "by_hand"))
    assert blanked == by_hand != plain
    for file in ("boxes-1.json", "boxes-2.json", "study.csv"):
        assert (kept / file).read_bytes() == (tmp_path / "by_hand" / file).read_bytes()
