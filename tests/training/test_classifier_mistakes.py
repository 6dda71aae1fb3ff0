"""What goes wrong in a training of a classifier: one clear line, exit 2, and nothing lost; and a kill at any moment."""

import signal
import time
from pathlib import Path

import numpy as np
import pytest
import yaml

from siimdet.cli import run
from siimdet.core.types import ImageRecord
from siimdet.data.dataset import MANIFEST
from siimdet.data.manifest import Dataset, write_dataset
from siimdet.training.journal import JOURNAL, read_journal

CONFIG = {
    "kind": "classifier",
    "epochs": 2,
    "image_size": 32,
    "batch_size": 12,
    "resize": "stretch",
    "mean": [0.5],
    "std": [0.5],
    "body": "simple_cnn",
    "weights": "none",
    "head": {"hidden": [16], "dropout": 0.5},
    "task": {"name": "cross_entropy"},
    "optimiser": {"name": "adamw", "lr": 0.003},
    "schedule": {"name": "cosine_floor"},
    "best": {"figure": "accuracy"},
    "augment": {"horizontal_flip": 0.5},
    "amp": False,
}


def arguments(folder: Path, dataset: Path, *more: str, **settings) -> list[str]:
    path = folder / "config.yaml"
    path.write_text(yaml.safe_dump({**CONFIG, **settings}, sort_keys=False))
    return ["train-classifier", str(path), *more, "--dataset", str(dataset), "--out", str(folder / "run")]


def refusal(capfd, given: list[str]) -> str:
    capfd.readouterr()
    assert run(given) == 2
    err = capfd.readouterr().err
    lines = [line for line in err.splitlines() if line.startswith("siimdet: ")]
    assert len(lines) == 1, err
    assert "Traceback" not in err
    return lines[0]


def with_labels(root: Path, source: Dataset, labels_of) -> Path:
    """The data set again, its images linked, with the labels f32[K] that `labels_of(record)` gives."""
    root.mkdir()
    (root / "images").symlink_to(source.root / "images")
    records = [
        ImageRecord(r.image_id, r.study_id, r.patient_id, r.path, r.stored, r.original, labels_of(r), r.split)
        for r in source.records
    ]
    parts = {"source": "test", "labels": source.labels, "classes": source.classes, "bit_depth": 8}
    write_dataset(root, records, source.boxes, **parts)
    return root


def test_a_class_without_a_training_image(three_classes, tmp_path, capfd):
    def no_left(record):
        return np.array([1, 0, 0]) if record.split == "train" and record.labels[1] else record.labels

    line = refusal(capfd, arguments(tmp_path, with_labels(tmp_path / "data", three_classes, no_left)))
    assert "training images: found none of left, expected images of every class" in line


def test_validation_images_of_one_class(three_classes, tmp_path, capfd):
    def only_dark(record):
        return np.array([1, 0, 0]) if record.split == "val" else record.labels

    data = with_labels(tmp_path / "data", three_classes, only_dark)
    line = refusal(capfd, arguments(tmp_path, data, best={"figure": "auroc"}))
    assert "auroc: found 12 images of dark, expected images that define it" in line
    assert run(arguments(tmp_path, data)) == 0  # accuracy is defined
    entry = read_journal(tmp_path / "run")[-1]
    assert entry["accuracy"] is not None
    assert entry["auroc"] is None


def test_an_image_of_two_classes(three_classes, tmp_path, capfd):
    def two(record):
        return np.array([0, 1, 1]) if record.image_id == "image010" else record.labels

    line = refusal(capfd, arguments(tmp_path, with_labels(tmp_path / "data", three_classes, two)))
    assert "image image010: found classes left, COVID-19, expected exactly one of dark, left, COVID-19" in line


def test_a_label_outside_the_space(three_classes, tmp_path, capfd):
    data = with_labels(tmp_path / "data", three_classes, lambda record: record.labels)
    manifest = (data / MANIFEST).read_text().splitlines()
    manifest[5] = manifest[5][:-1] + "2"
    (data / MANIFEST).write_text("\n".join(manifest) + "\n")
    assert "manifest.csv:6: COVID-19: found '2', expected 1, 0 or nothing" in refusal(capfd, arguments(tmp_path, data))


def test_a_corrupted_image_in_the_middle_of_an_epoch(three_classes, tmp_path, capfd):
    whole = tmp_path / "whole"
    whole.mkdir()
    assert run(arguments(whole, three_classes.root)) == 0
    victim = three_classes.root / [r.path for r in three_classes.records if r.split == "train"][-1]
    intact = victim.read_bytes()
    victim.write_bytes(intact[: len(intact) // 2])
    try:
        assert f"{victim.name}: " in refusal(capfd, arguments(tmp_path, three_classes.root))
    finally:
        victim.write_bytes(intact)
    state = (tmp_path / "run" / "state" / "last.pt").is_file()
    assert run(arguments(tmp_path, three_classes.root, *(["--resume"] if state else []))) == 0
    assert figures(tmp_path / "run") == figures(whole / "run")


def test_a_loss_of_nan(three_classes, tmp_path, capfd):
    line = refusal(capfd, arguments(tmp_path, three_classes.root, optimiser={"name": "sgd", "lr": 1e30}))
    assert "phase classifier, epoch 0, step " in line
    assert " on images image" in line
    spoilt = arguments(tmp_path, three_classes.root, optimiser={"name": "sgd", "lr": 1e30}, batch_size=36)
    assert "model: output: found nan or infinity for 12 images, the first image000" in refusal(capfd, spoilt)


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"best": {"figure": "classes.COVID.recall"}}, ("best.figure", "'classes.COVID.recall'", "COVID-19.recall")),
        ({"trainable": ["body.layer5"]}, ("trainable", "'body.layer5'", "body, head")),
        ({"body": "resnet19", "mean": [0] * 3, "std": [1] * 3}, ("resnet19", "resnet18")),
        ({"groups": {"a": ["dark"], "b": ["COVID-19"]}, "task": {"name": "nll"}}, ("groups", "left, COVID-19 once")),
        ({"weights": "nowhere.safetensors"}, ("nowhere.safetensors",)),
        ({"amp": "fp16"}, ("amp", "fp16 on cpu")),
    ],
    ids=lambda value: ",".join(value) if isinstance(value, dict) else "",
)  # fmt: skip
def test_settings_that_do_not_fit(three_classes, tmp_path, capfd, settings, words):
    line = refusal(capfd, arguments(tmp_path, three_classes.root, **settings))
    assert all(word in line for word in words), line
    assert not (tmp_path / "run" / "weights").exists()


def test_weights_of_another_architecture(three_classes, tmp_path, capfd):
    assert run(arguments(tmp_path, three_classes.root, epochs=1)) == 0
    other = tmp_path / "other"
    other.mkdir()
    line = refusal(capfd, arguments(other, three_classes.root, body="slice_fcn", weights=str(tmp_path / "run")))
    assert "run: features.12.bias: found no such tensor, expected 10 tensors of this architecture" in line


def test_a_state_is_not_resumed_under_another_config(three_classes, tmp_path, capfd):
    assert run(arguments(tmp_path, three_classes.root, epochs=1)) == 0
    assert "--resume" in refusal(capfd, arguments(tmp_path, three_classes.root, epochs=1))
    assert "another config" in refusal(capfd, arguments(tmp_path, three_classes.root, "--resume", epochs=3))


def figures(folder: Path) -> list[dict]:
    return [{key: value for key, value in entry.items() if key != "seconds"} for entry in read_journal(folder)]


PHASED = {
    "ema": 0.9,
    "mixup": 0.3,
    "phases": {"head": {"trainable": ["head"], "epochs": 5}, "all": {"epochs": 6, "patience": 5, "accumulate": 2}},
}


@pytest.fixture(scope="module")
def unbroken(three_classes, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("unbroken")
    assert run(arguments(folder, three_classes.root, **PHASED)) == 0
    return folder / "run"


@pytest.mark.parametrize("lines", [1, 5, 7], ids=["within a phase", "between phases", "within the next"])
def test_killed_and_resumed_it_gives_the_journal_of_an_unbroken_run(three_classes, unbroken, start, tmp_path, lines):
    broken = tmp_path / "run"
    given = arguments(tmp_path, three_classes.root, **PHASED)
    log = tmp_path / "stderr.txt"
    child = start(given, log)
    journal, deadline = broken / JOURNAL, time.monotonic() + 60
    while not (journal.is_file() and journal.read_bytes().count(b"\n") >= lines):
        assert child.is_alive() and time.monotonic() < deadline, log.read_text()
        time.sleep(0.002)
    child.kill()
    child.join()
    assert child.exitcode == -signal.SIGKILL
    assert len(read_journal(broken)) < len(read_journal(unbroken))
    resume = ["--resume"] if (broken / "state" / "last.pt").is_file() else []
    assert run([*given, *resume]) == 0
    assert figures(broken) == figures(unbroken)
    for name in ("validation.csv", "weights/best.safetensors", "phases/head/weights/best.safetensors"):
        assert (broken / name).read_bytes() == (unbroken / name).read_bytes(), name
