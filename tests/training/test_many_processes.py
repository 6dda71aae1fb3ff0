"""torchrun: several processes learn what one does, and what stops one stops all of them with one line."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from siimdet.training.journal import read_journal

CONFIG = {
    "kind": "classifier",
    "seed": 5,
    "epochs": 3,
    "image_size": 32,
    "batch_size": 9,  # 5 and 4 over two processes: the means must be weighed
    "accumulate": 2,
    "resize": "stretch",
    "mean": [0.5],
    "std": [0.5],
    "body": "simple_cnn",  # without batch statistics
    "weights": "none",
    "task": {"name": "cross_entropy", "class_weights": True},
    "optimiser": {"name": "sgd", "lr": 0.05, "momentum": 0.9},
    "schedule": {"name": "cosine_floor"},
    "best": {"figure": "accuracy"},
    "oversample": True,
    "augment": {"horizontal_flip": 0.5, "affine": {"p": 1.0, "rotate": 10}, "erase": {"p": 0.5, "area": [0.02, 0.1]}},
    "amp": False,
}


def torchrun(*arguments: object) -> subprocess.CompletedProcess:
    """Two processes as people start them."""
    launcher = (sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", "-m", "siimdet")
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    return subprocess.run(
        [*launcher, *map(str, arguments)], capture_output=True, text=True, env=environment, check=False
    )


@pytest.fixture
def train(launch):
    """Trains in FOLDER/ofN: train(processes, folder, dataset, *overrides, **settings)."""

    def together(processes: int, folder: Path, dataset, *overrides: str, **settings):
        config = write_config(folder, **settings)
        options = ("--dataset", dataset.root, "--out", folder / f"of{processes}")
        return launch(processes, folder, f"train-{settings.get('kind', 'classifier')}", config, *overrides, *options)

    return together


def write_config(folder: Path, **settings) -> Path:
    path = folder / "config.yaml"
    path.write_text(yaml.safe_dump({**CONFIG, **settings}, sort_keys=False))
    return path


@pytest.mark.parametrize("task", ["cross_entropy", "multilabel"])
def test_two_processes_give_the_curve_of_one(three_classes, train, tmp_path, task):
    settings = {"task": {"name": task, "class_weights": True}, "best": {"figure": "auroc"}}
    for processes in (1, 2):
        codes, errors = train(processes, tmp_path, three_classes, **settings)
        assert codes == [0] * processes, errors
    one, two = (read_journal(tmp_path / f"of{processes}") for processes in (1, 2))
    assert len(one) == len(two) == 3
    for a, b in zip(one, two, strict=True):
        for name in ("train_loss", "val_loss", "auroc", "accuracy"):
            assert b[name] == pytest.approx(a[name], abs=1e-5), name
    losses = [entry["train_loss"] for entry in one]
    assert abs(losses[2] - losses[0]) > 1e-3  # more than what is compared


def test_two_processes_validate_and_predict_every_image_once(three_classes, launch, tmp_path):
    options = ("--dataset", three_classes.root, "--out", tmp_path / "of2")
    done = torchrun("train-classifier", write_config(tmp_path), "epochs=1", *options)
    assert done.returncode == 0, done.stderr
    written = []
    for processes in (1, 2):
        out = tmp_path / f"{processes}.csv"
        predict = ("predict", tmp_path / "of2", "--dataset", three_classes.root, "--out", out)
        codes, errors = launch(processes, tmp_path, *predict)
        assert codes == [0] * processes, errors
        written.append([line.split(",") for line in out.read_text().splitlines()])
    assert [row[0] for row in written[0]] == [row[0] for row in written[1]]
    for one, two in zip(written[0][1:], written[1][1:], strict=True):
        assert [float(cell) for cell in one[1:]] == pytest.approx([float(cell) for cell in two[1:]], abs=1e-6)
    files = {path.name for path in (tmp_path / "of2").iterdir()} - {"events"}  # those of an extra
    assert files == {
        *("config.yaml", "metrics.jsonl", "model.json", "plots", "state", "validation.csv", "weights"),
    }
    assert len(read_journal(tmp_path / "of2")) == 1
    validation = (tmp_path / "of2" / "validation.csv").read_text().splitlines()
    assert len(validation) == 1 + sum(record.split == "val" for record in three_classes.records)


def test_stopped_and_resumed_two_processes_go_on_to_the_same_numbers(three_classes, train, launch, tmp_path):
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    for folder in (whole, broken):
        folder.mkdir()
    dropout = {"head": {"hidden": [16], "dropout": 0.5}, "accumulate": 1}  # each process draws its own
    assert train(2, whole, three_classes, **dropout)[0] == [0, 0]
    _corrupt_once(train, three_classes, broken, dropout)
    options = ("--resume", "--dataset", three_classes.root, "--out", broken / "of2")
    codes, errors = launch(2, broken, "train-classifier", broken / "config.yaml", *options)
    assert codes == [0, 0], errors
    kept = [
        [{k: v for k, v in entry.items() if k != "seconds"} for entry in read_journal(folder / "of2")]
        for folder in (whole, broken)
    ]
    assert kept[0] == kept[1]


def _corrupt_once(train, dataset, folder: Path, settings: dict) -> None:
    """Train while one image is damaged: one line, from one process, exit 2; then mend the image."""
    victim = dataset.root / next(record.path for record in dataset.records if record.split == "train")
    whole = victim.read_bytes()
    victim.write_bytes(whole[: len(whole) // 2])
    try:
        codes, errors = train(2, folder, dataset, **settings)
    finally:
        victim.write_bytes(whole)
    assert codes == [2, 2]
    refusals = [line for line in errors.splitlines() if line.startswith("siimdet: ")]
    assert len(refusals) == 1
    assert victim.name in refusals[0]
    assert "Traceback" not in errors


def test_what_the_writer_cannot_do_stops_all_with_one_line(three_classes, train, tmp_path):
    (tmp_path / "of2").mkdir()
    (tmp_path / "of2" / "weights").write_text("a file where the folder of weights belongs")
    codes, errors = train(2, tmp_path, three_classes)
    assert codes == [2, 2]
    assert len([line for line in errors.splitlines() if line.startswith("siimdet: ")]) == 1
    assert "Traceback" not in errors


def test_losses_over_different_things_agree_too(studies, train, tmp_path):
    """Class weights weigh the classes' loss alone, not those of opacity and mask."""
    settings = {
        "kind": "study",
        "task": {"name": "cross_entropy", "class_weights": True},
        "auxiliary": {"opacity": 1.0, "mask": 1.0},
    }
    for processes in (1, 2):
        codes, errors = train(processes, tmp_path, studies, **settings)
        assert codes == [0] * processes, errors
    for one, two in zip(*(read_journal(tmp_path / f"of{processes}") for processes in (1, 2)), strict=True):
        for name in ("train_loss", "train_cross_entropy", "train_opacity", "train_mask"):
            assert two[name] == pytest.approx(one[name], abs=1e-5), name


def test_a_batch_smaller_than_the_processes_is_refused_in_one_line(three_classes, train, tmp_path):
    codes, errors = train(2, tmp_path, three_classes, "batch_size=1")
    assert codes == [2, 2]
    assert [line.split(":")[1:3] for line in errors.splitlines() if line.startswith("siimdet: ")] == [
        [" config", " batch_size"]
    ]
    assert not (tmp_path / "of2" / "weights").exists()
