"""Files of weights and states that would run code: every command that takes one refuses it, and nothing runs."""

import json
import os
import pickle
import shutil
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path

import pytest
import torch

from siimdet.cli import run
from siimdet.data.phantom_trees import write_siim
from siimdet.models.weights import MODEL, WEIGHTS
from siimdet.training.checkpoint import STATE

DEMO = Path(__file__).parents[2] / "configs" / "demo"
TINY = ("epochs=1", "image_size=64", "batch_size=8")
TRAININGS = {
    "backbone": ("train-backbone", "backbone", *TINY),
    "study": ("train-study", "study", *TINY),
    "classifier": ("train-classifier", "study", "kind=classifier", *TINY),
    "faster_rcnn": ("train-detector", "faster_rcnn_siim", *TINY, "inference_size=64", "anchor_sizes=[9, 13, 18, 26]"),
    "retinanet": ("train-detector", "../detector/retinanet_lite", *TINY, "inference_size=64"),
    "fcos": ("train-detector", "../detector/fcos_lite", *TINY, "inference_size=64"),
    "yolo": ("train-detector", "yolo_siim", *TINY),
}


class Payload:
    """Makes a folder when it is unpickled."""

    def __init__(self, target: Path) -> None:
        self.target = target

    def __reduce__(self):
        return os.mkdir, (str(self.target),)


def as_archive(path: Path, payload: Payload) -> None:
    torch.save({"state_dict": {"conv1.weight": payload}}, path)


def as_old_archive(path: Path, payload: Payload) -> None:
    torch.save({"model": payload}, path, _use_new_zipfile_serialization=False)


def as_pickle(path: Path, payload: Payload) -> None:
    path.write_bytes(pickle.dumps(payload))


WRITERS: dict[str, Callable[[Path, Payload], None]] = {
    "archive.pt": as_archive,
    "old.pt": as_old_archive,
    "pickle.pt": as_pickle,
    "archive.pth": as_archive,
    "pickle.pth": as_pickle,
    "pickle.safetensors": as_pickle,
}


@pytest.fixture(scope="module", autouse=True)
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)  # at 64 px a second thread only waits
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> Path:
    root = tmp_path_factory.mktemp("hostile")
    write_siim(root / "raw", patients=16)
    arguments = ("convert", "siim", "--raw", root / "raw", "--out", root / "data", "--workers", 1, "--image-size", 64)
    assert run([str(argument) for argument in arguments]) == 0
    return root / "data"


def training(kind: str, data: Path, out: Path, *more: str) -> list[str]:
    command, config, *overrides = TRAININGS[kind]
    places = ["--dataset", str(data), "--out", str(out), "--device", "cpu"]
    return [command, str(DEMO / f"{config}.yaml"), *overrides, *more, *places]


@pytest.fixture(scope="module")
def runs(data, tmp_path_factory) -> dict[str, Path]:
    """A trained run of every kind of model."""
    root = tmp_path_factory.mktemp("runs")
    for kind in ("study", "faster_rcnn", "yolo"):
        assert run(training(kind, data, root / kind)) == 0
    return {kind: root / kind for kind in ("study", "faster_rcnn", "yolo")}


@pytest.fixture
def payload(tmp_path: Path):
    """What must not run in the test that asks for it."""
    payload = Payload(tmp_path / "executed")
    yield payload
    assert not payload.target.exists()


@pytest.fixture
def evil_runs(runs, payload, tmp_path: Path) -> dict[str, Path]:
    """The runs with a pickle for weights, whose SHA-256 stands in model.json."""
    for kind, whole in runs.items():
        evil = tmp_path / "evil" / kind
        shutil.copytree(whole, evil)
        as_archive(evil / WEIGHTS, payload)
        card = json.loads((evil / MODEL).read_text())
        card["sha256"] = sha256((evil / WEIGHTS).read_bytes()).hexdigest()
        (evil / MODEL).write_text(json.dumps(card))
    return {kind: tmp_path / "evil" / kind for kind in runs}


def refused(capfd, arguments: list) -> str:
    capfd.readouterr()
    assert run([str(argument) for argument in arguments]) == 2
    err = capfd.readouterr().err
    lines = [line for line in err.splitlines() if line.startswith("siimdet: ")]
    assert len(lines) == 1, err
    assert "Traceback" not in err
    return lines[0]


@pytest.mark.parametrize("name", WRITERS)
def test_the_payload_runs_where_a_pickle_is_loaded_as_one(tmp_path, name):
    WRITERS[name](tmp_path / name, Payload(tmp_path / "executed"))
    if name.startswith("pickle"):
        pickle.loads((tmp_path / name).read_bytes())
    else:
        torch.load(tmp_path / name, weights_only=False)
    assert (tmp_path / "executed").is_dir()


@pytest.mark.parametrize("name", WRITERS)
@pytest.mark.parametrize("kind", ["backbone", "study", "classifier", "faster_rcnn", "retinanet", "fcos"])
def test_weights_of_a_body(data, payload, tmp_path, capfd, kind, name):
    WRITERS[name](tmp_path / name, payload)
    line = refused(capfd, training(kind, data, tmp_path / "run", f"weights={tmp_path / name}"))
    assert f"{name}: content: found " in line
    assert not (tmp_path / "run" / MODEL).exists()


@pytest.mark.parametrize("name", WRITERS)
@pytest.mark.parametrize("kind", ["faster_rcnn", "retinanet", "fcos", "yolo"])
def test_weights_of_a_whole_detector(data, payload, tmp_path, capfd, kind, name):
    WRITERS[name](tmp_path / name, payload)
    assert name in refused(capfd, training(kind, data, tmp_path / "run", f"init_from={tmp_path / name}"))
    assert not (tmp_path / "run" / MODEL).exists()


@pytest.mark.parametrize(
    ("kind", "key", "source"),
    [
        ("backbone", "weights", "study"),
        ("study", "weights", "study"),
        ("classifier", "weights", "study"),
        ("faster_rcnn", "weights", "study"),
        ("faster_rcnn", "init_from", "faster_rcnn"),
        ("yolo", "init_from", "yolo"),
    ],
)
def test_a_run_whose_weights_are_a_pickle(data, evil_runs, tmp_path, capfd, kind, key, source):
    line = refused(capfd, training(kind, data, tmp_path / "run", f"{key}={evil_runs[source]}"))
    assert "best.safetensors: content: found " in line
    assert not (tmp_path / "run" / MODEL).exists()


@pytest.mark.parametrize("kind", ["study", "faster_rcnn", "yolo"])
def test_predicting(data, evil_runs, tmp_path, capfd, kind):
    out = tmp_path / "out.json"
    assert "content: found " in refused(capfd, ["predict", evil_runs[kind], "--dataset", data, "--out", out])
    assert not out.exists()


@pytest.mark.parametrize(("detector", "evil"), [("faster_rcnn", "detector"), ("yolo", "detector"), ("yolo", "study")])
def test_submitting(data, runs, evil_runs, tmp_path, capfd, detector, evil):
    detectors, studies = (evil_runs if evil == part else runs for part in ("detector", "study"))
    out = tmp_path / "submission.csv"
    chosen = ["--detector", detectors[detector], "--study", studies["study"]]
    assert "content: found " in refused(capfd, ["submit", "--dataset", data, *chosen, "--split", "val", "--out", out])
    assert not out.exists()


def test_explaining(data, evil_runs, tmp_path, capfd):
    image = next((data / "images").iterdir()).stem
    arguments = ["explain", evil_runs["study"], "--dataset", data, "--ids", image, "--out", tmp_path / "why"]
    assert "content: found " in refused(capfd, arguments)


def test_comparing(data, runs, evil_runs, capfd):
    assert "content: found " in refused(capfd, ["compare", runs["study"], evil_runs["study"], "--dataset", data])


@pytest.mark.parametrize("write", [as_archive, as_old_archive, as_pickle], ids=["archive", "old", "pickle"])
@pytest.mark.parametrize("kind", TRAININGS)
def test_resuming_from_a_state(data, runs, payload, tmp_path, capfd, kind, write):
    whole, broken = runs.get(kind, runs["study"]), tmp_path / "run"
    shutil.copytree(whole, broken)
    write(broken / STATE, payload)
    line = refused(capfd, [*training(kind, data, broken), "--resume"])
    assert "last.pt: content: found " in line
    assert (broken / WEIGHTS).read_bytes() == (whole / WEIGHTS).read_bytes()
