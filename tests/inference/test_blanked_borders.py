"""Predictions with blanked borders: what lies there reaches no model, what lies in the middle does."""

import numpy as np
import pytest
import torch

from siimdet.cli import run as siimdet
from siimdet.core.labels import OPACITY, STUDY
from siimdet.core.types import BoxLabels, ImageRecord, ImageSize
from siimdet.data.cache import open_cache
from siimdet.data.coco import read_detections
from siimdet.data.dataset import Dataset
from siimdet.data.manifest import write_dataset
from siimdet.imaging.png import write_png
from siimdet.inference.predict import Detector
from siimdet.inference.run import predict_boxes, predict_classes
from siimdet.inference.tta import PLAIN, Versions, detect_versions
from siimdet.models.weights import ModelSpec, build_model, load_model, save_model

CPU = torch.device("cpu")
SIZE = ImageSize(64, 48)
SHARE = 0.125
"""Eight columns and six rows of an image."""
GREY = {"mean": [0.5, 0.5, 0.5], "std": [0.25, 0.25, 0.25]}


@pytest.fixture(scope="module")
def dataset(tmp_path_factory) -> Dataset:
    """Noise; the same with another border, with a black border, and with another pixel just within the border."""
    root, rng = tmp_path_factory.mktemp("data"), np.random.default_rng(0)
    noise = rng.integers(1, 255, (48, 64)).astype(np.uint8)
    images = {"noise": noise, "marked": rng.integers(1, 255, (48, 64)).astype(np.uint8)}
    images["marked"][6:42, 8:56] = noise[6:42, 8:56]
    images["black"] = np.zeros_like(noise)
    images["black"][6:42, 8:56] = noise[6:42, 8:56]
    images["within"] = noise.copy()
    images["within"][6, 8] = 255 - noise[6, 8]
    records = []
    for name, pixels in images.items():
        write_png(root / "images" / f"{name}.png", pixels)
        records.append(ImageRecord(name, name, name, f"images/{name}.png", SIZE, SIZE, [1, 0, 0, 0], "val"))
    boxes = {record.image_id: BoxLabels.empty(SIZE) for record in records}
    return write_dataset(root, records, boxes, source="test", labels=STUDY, classes=OPACITY, bit_depth=8)


def save_random(folder, spec: ModelSpec):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        save_model(folder, spec, build_model(spec).state_dict(), {})
    return folder


@pytest.fixture(scope="module")
def detector(tmp_path_factory):
    small = {"finest_stage": 2, "fpn_channels": 8, "box_head_features": 8, "anchor_sizes": [8, 16, 32, 48]}
    architecture = {"body": "resnet18", "proposals": 20, "score_threshold": 0.05, **small, **GREY}
    spec = ModelSpec("faster_rcnn", architecture, OPACITY, 64, "stretch", 1)
    return save_random(tmp_path_factory.mktemp("detector"), spec)


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    architecture = {"body": "simple_cnn", "activation": "softmax", "mean": [0.5], "std": [0.25]}
    spec = ModelSpec("classifier", architecture, STUDY, 64, "letterbox", 1)
    return save_random(tmp_path_factory.mktemp("study"), spec)


def boxes_of(run, dataset, share, versions=PLAIN) -> dict[str, list]:
    found = predict_boxes(run, dataset, dataset.records, device=CPU, versions=versions, blank_share=share)
    return {name: [*boxes.xyxy.tolist(), *boxes.scores.tolist()] for name, boxes in found.items()}


def classes_of(run, dataset, share) -> dict[str, list]:
    found = predict_classes(run, dataset, dataset.records, device=CPU, blank_share=share).classes
    return dict(zip(found.keys, found.values.tolist(), strict=True))


def check(plain: dict[str, list], blanked: dict[str, list]) -> None:
    assert all(plain.values())
    assert blanked["noise"] == blanked["marked"] == blanked["black"] == plain["black"]
    assert blanked["within"] != blanked["noise"]
    assert plain["noise"] != plain["marked"]
    assert plain["noise"] != plain["black"]


@pytest.mark.parametrize("versions", [PLAIN, Versions(flip=True, scales=(1.0, 1.5))], ids=["plain", "versions"])
def test_a_detector_sees_the_middle_alone(dataset, detector, versions):
    check(boxes_of(detector, dataset, None, versions), boxes_of(detector, dataset, SHARE, versions))


def test_a_classifier_sees_the_middle_alone(dataset, study):
    check(classes_of(study, dataset, None), classes_of(study, dataset, SHARE))


def test_a_cache_of_whole_images_is_not_used(dataset, detector, tmp_path):
    model, _ = load_model(detector)
    assert isinstance(model, Detector)
    asked = {"versions": PLAIN, "side": 64, "resize": "stretch", "device": CPU, "batch_size": 1}
    cache = open_cache(tmp_path, dataset, side=64, resize="stretch")
    found = detect_versions(model, dataset, dataset.records, **asked, cache=cache, blank_share=SHARE)
    assert found["noise"].scores.tolist() == found["black"].scores.tolist()


def test_the_command_hands_it_to_detectors_and_classifiers(dataset, detector, study, tmp_path):
    options = ("--dataset", str(dataset.root), "--split", "val", "--device", "cpu", "--blank-border", str(SHARE))
    assert siimdet(["predict", str(detector), "--out", str(tmp_path / "boxes.json"), *options]) == 0
    assert siimdet(["predict", str(study), "--out", str(tmp_path / "study.csv"), *options]) == 0
    boxes = read_detections(tmp_path / "boxes.json", dataset)
    assert boxes["noise"].xyxy.tolist() == boxes["marked"].xyxy.tolist() != boxes["within"].xyxy.tolist()
    rows = dict(line.split(",", 1) for line in (tmp_path / "study.csv").read_text().splitlines())
    assert rows["noise"] == rows["marked"] != rows["within"]
