"""Versions of an image through the runs on disk: detectors at sizes and mirrored, classifiers mirrored once.

And whose rows a run can write.
"""

import importlib.util
import json

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
from siimdet.errors import RunError
from siimdet.imaging.png import write_png
from siimdet.inference.fusion import fuse
from siimdet.inference.predict import ClassPredictions, Detector
from siimdet.inference.run import patient_rule, predict_boxes, predict_run
from siimdet.inference.tta import PLAIN, Versions, detect_versions
from siimdet.models.weights import WEIGHTS, ModelSpec, build_model, load_model, save_model

CPU = torch.device("cpu")
SIZE = ImageSize(64, 64)
GREY = {"mean": [0.5, 0.5, 0.5], "std": [0.25, 0.25, 0.25]}


@pytest.fixture(scope="module")
def dataset(tmp_path_factory) -> Dataset:
    """Three images of noise and, as m0 to m2, their mirror images."""
    root, rng, records = tmp_path_factory.mktemp("data"), np.random.default_rng(0), []
    for number in range(3):
        image = rng.integers(0, 255, (64, 64)).astype(np.uint8)
        for name, pixels in ((f"i{number}", image), (f"m{number}", np.ascontiguousarray(image[:, ::-1]))):
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
    spec = ModelSpec("faster_rcnn", architecture, OPACITY, 64, "stretch", 4)
    return save_random(tmp_path_factory.mktemp("detector"), spec)


def save_classifier(folder, **further):
    architecture = {"body": "simple_cnn", "activation": "softmax", "mean": [0.5], "std": [0.25], **further}
    return save_random(folder, ModelSpec("classifier", architecture, STUDY, 32, "stretch", 4))


def test_a_detectors_versions_are_fused(dataset, detector):
    def found(versions: Versions):
        return predict_boxes(detector, dataset, dataset.records[:2], device=CPU, versions=versions)

    plain, large = found(PLAIN), found(Versions(scales=(1.5,)))
    assert min(len(boxes) for boxes in (*plain.values(), *large.values())) > 0
    both, expected = found(Versions(scales=(1.0, 1.5))), fuse([plain, large])
    assert list(both) == list(expected)
    for image_id, boxes in both.items():
        assert boxes.xyxy == pytest.approx(expected[image_id].xyxy, abs=1e-3)
        assert boxes.scores == pytest.approx(expected[image_id].scores, abs=1e-5)


def test_a_cache_serves_the_version_of_its_side(dataset, detector, tmp_path):
    model, _ = load_model(detector)
    assert isinstance(model, Detector)
    cache = open_cache(tmp_path, dataset, side=64, resize="stretch")

    def found(cache):
        asked = {"versions": Versions(True, (1.0, 1.5)), "side": 64, "resize": "stretch", "device": CPU}
        return detect_versions(model, dataset, dataset.records[:2], **asked, cache=cache)

    cached, read = found(cache), found(None)
    for image_id, boxes in read.items():
        assert np.array_equal(cached[image_id].xyxy, boxes.xyxy)
        assert np.array_equal(cached[image_id].scores, boxes.scores)


@pytest.mark.skipif(importlib.util.find_spec("ultralytics") is None, reason="needs the extra `yolo`")
@pytest.mark.parametrize(("table", "sides"), [("yolov8n.yaml", (32, 64, 96)), ("yolov8n-p6.yaml", (64, 128))])
def test_inputs_of_a_yolo_are_whole_cells_of_its_coarsest_map(dataset, tmp_path, table, sides):
    spec = ModelSpec("yolo", {"architecture": table, "confidence": 0.001, "iou": 0.5}, OPACITY, 64, "stretch", 4)
    run = save_random(tmp_path / "run", spec)
    network, seen = load_model(run)[0], Versions(scales=(0.5, 1.0, 1.5))
    assert network.stride == sides[0]
    assert seen.sides(64, sides[0]) == sides
    found = predict_boxes(run, dataset, dataset.records[:1], device=CPU, versions=seen)
    assert list(found) == ["i0"]


def test_flipped_boxes_of_an_image_are_those_of_its_mirror_image(dataset, detector):
    records = [record for record in dataset.records if record.image_id in ("i0", "m0")]
    found = predict_boxes(detector, dataset, records, device=CPU, versions=Versions(flip=True))
    mirrored = found["m0"].xyxy[:, [2, 1, 0, 3]] * (-1, 1, -1, 1) + (64, 0, 64, 0)
    assert found["i0"].xyxy == pytest.approx(mirrored, abs=1e-3)
    assert found["i0"].scores == pytest.approx(found["m0"].scores, abs=1e-5)


@pytest.mark.parametrize("flip_tta", [False, True])
def test_a_classifier_is_mirrored_once(dataset, tmp_path, flip_tta):
    plain, run = save_classifier(tmp_path / "plain"), save_classifier(tmp_path / "run", flip_tta=flip_tta)
    alone, usual = told(plain, dataset), told(run, dataset)
    mirrored = told(run, dataset, Versions(flip=True))
    means = (alone["i0"] + alone["m0"]) / 2
    assert abs(alone["i0"] - alone["m0"]).max() > 1e-4
    assert mirrored["i0"] == pytest.approx(means, abs=1e-6)
    assert usual["i0"] == pytest.approx(means if flip_tta else alone["i0"], abs=1e-6)


def told(run, dataset, versions=PLAIN):
    found = predict_run(run, dataset, dataset.records, device=CPU, versions=versions)
    assert isinstance(found, ClassPredictions)
    return dict(zip(found.classes.keys, found.classes.values, strict=True))


def test_scales_of_a_classifier_are_refused(dataset, tmp_path, capfd):
    run = save_classifier(tmp_path / "run")
    out = ("--out", tmp_path / "found.csv", "--device", "cpu", "--scales", ".8", "1")
    assert siimdet([str(each) for each in ("predict", run, "--dataset", dataset.root, *out)]) == 2
    line = f"siimdet: {run / 'model.json'}: kind: found a classifier, expected a detector, for --scales\n"
    assert capfd.readouterr().err == line
    assert not (tmp_path / "found.csv").exists()


def test_whose_rows_a_run_can_write_is_told_without_its_weights(detector, tmp_path):
    run = save_classifier(tmp_path / "run")
    (tmp_path / "detector").mkdir()
    (tmp_path / "detector" / "model.json").write_bytes((detector / "model.json").read_bytes())
    (run / WEIGHTS).unlink()
    with pytest.raises(RunError, match=r"kind: found a detector, expected a classifier, for --by patient$"):
        patient_rule(tmp_path / "detector")
    with pytest.raises(RunError, match=r"patients: found no rule, expected a run trained with `patients` in its"):
        patient_rule(run)
    rule = {"threshold": 0.5}
    card = json.loads((run / "model.json").read_text())
    (run / "model.json").write_text(json.dumps(card | {"patients": rule}))
    assert patient_rule(run) == rule


def test_two_processes_fuse_what_one_does(dataset, detector, launch, tmp_path):
    found = []
    for processes in (1, 2):
        out = tmp_path / f"{processes}.json"
        options = ("--dataset", dataset.root, "--out", out, "--device", "cpu", "--flip", "--scales", "1", "1.5")
        arguments = [str(each) for each in ("predict", detector, *options)]
        codes, errors = launch(2, tmp_path, *arguments) if processes == 2 else ([siimdet(arguments)], "")
        assert codes == [0] * processes, errors
        found.append(read_detections(out, dataset))
    one, two = found
    assert sorted(one) == sorted(two) == [record.image_id for record in dataset.records]
    for image_id, boxes in one.items():
        assert two[image_id].xyxy == pytest.approx(boxes.xyxy, abs=1e-3)
        assert two[image_id].scores == pytest.approx(boxes.scores, abs=1e-5)
