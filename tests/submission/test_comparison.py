"""Runs and their phases in one table: figures, sizes and times by hand."""

import csv
import json

import numpy as np
import pytest
import torch

from siimdet.cli import run
from siimdet.core.labels import OPACITY
from siimdet.core.types import BoxLabels, ImageRecord, ImageSize, LabelSpace
from siimdet.data.manifest import write_dataset
from siimdet.errors import DatasetError, RunError
from siimdet.imaging.png import write_png
from siimdet.models.weights import ModelSpec, build_model, save_model
from siimdet.submission.compare import compare_runs
from siimdet.training.journal import append_epoch

SIZE = ImageSize(16, 16)
CT = LabelSpace("ct", ("non-covid", "covid"))
CPU = torch.device("cpu")
# id, patient, class id, split: patient b stands in train and val
ROWS = (
    *(("a1", "a", 0, "train"), ("b1", "b", 1, "train"), ("b2", "b", 1, "val"), ("c1", "c", 0, "val")),
    *(("d1", "d", 0, "test"), ("e1", "e", 1, "test"), ("e2", "e", 1, "test"), ("f1", "f", 1, "test")),
)


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    root = tmp_path_factory.mktemp("data")
    records = []
    for name, patient, class_id, split in ROWS:
        write_png(root / "images" / f"{name}.png", np.full((16, 16), 60, np.uint8))
        labels = np.eye(2)[class_id]
        records.append(ImageRecord(name, patient, patient, f"images/{name}.png", SIZE, SIZE, labels, split))
    boxes = {record.image_id: BoxLabels.empty(SIZE) for record in records}
    details = {"splits": {"seed": 0, "split_by": "image"}}
    write_dataset(root, records, boxes, source="ct", labels=CT, classes=OPACITY, bit_depth=8, details=details)
    return root


def save_run(folder, answer, space=CT):
    """A run whose model gives every image the same class."""
    architecture = {"body": "simple_cnn", "activation": "softmax", "mean": [0.5], "std": [0.5]}
    spec = ModelSpec("classifier", architecture, space, 32, "stretch", 4)
    torch.manual_seed(0)
    state = {name: torch.zeros_like(value) for name, value in build_model(spec).state_dict().items()}
    bias = next(value for name, value in state.items() if name.startswith("head") and value.shape == (len(space),))
    bias[answer] = 3.0
    save_model(folder, spec, state, {})
    return folder


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    root = tmp_path_factory.mktemp("runs")
    save_run(root / "phased", 1)
    save_run(root / "phased" / "phases" / "head", 0)
    for phase, epoch, seconds in (("head", 0, 1.5), ("head", 1, 2.0), ("embed", 0, 4.0), ("all", 0, 8.25)):
        append_epoch(root / "phased", {"phase": phase, "epoch": epoch, "seconds": seconds})
    return root / "phased", save_run(root / "plain", 0)


def test_figures_sizes_and_times_by_hand(dataset, runs):
    compared = compare_runs(runs, dataset, ["test", "val"], phases=True, device=CPU)
    assert compared["data"] == {
        "split_by": "image",
        "images": {"train": 2, "val": 2, "test": 4},
        "patients": {"train": 2, "val": 2, "test": 3},
        "shared_patients": {"train, val": 1, "train, test": 0, "val, test": 0},
    }
    head, phased, plain = compared["rows"]
    assert [row["run"] for row in (head, phased, plain)] == [str(runs[0] / "phases" / "head"), *map(str, runs)]
    assert phased["splits"]["test"] == {
        "accuracy": 0.75,
        "f1": pytest.approx(3 / 7),
        "auroc": 0.5,
        "classes": {"non-covid": 0.0, "covid": pytest.approx(6 / 7)},
    }
    assert phased["splits"]["val"]["accuracy"] == 0.5
    assert head["splits"]["test"]["accuracy"] == plain["splits"]["test"]["accuracy"] == 0.25
    # 320 + 18,496 + 73,856 of the convolutions, 258 of the head.
    assert {row["parameters"] for row in compared["rows"]} == {92930}
    assert (head["seconds"], phased["seconds"], plain["seconds"]) == (3.5, 15.75, None)


def test_a_phase_alone_and_the_split_by_default(dataset, runs):
    compared = compare_runs([runs[0] / "phases" / "head"], dataset, [], phases=False, device=CPU)
    assert [row["seconds"] for row in compared["rows"]] == [3.5]
    assert list(compared["rows"][0]["splits"]) == ["test"]


def test_global_randomness_stays_as_it_was(dataset, runs):
    torch.manual_seed(5)
    before = torch.random.get_rng_state()
    compare_runs(runs, dataset, ["val"], phases=False, device=CPU)
    assert torch.equal(torch.random.get_rng_state(), before)


def test_other_classes_are_refused_before_anything_is_predicted(dataset, runs, tmp_path):
    other = save_run(tmp_path / "other", 0, LabelSpace("two", ("a", "b")))
    with pytest.raises(RunError, match=r"model\.json: classes: found a, b, expected non-covid, covid, as in"):
        compare_runs([*runs, other], dataset, [], phases=False, device=CPU)


def test_a_split_without_labels_is_refused(runs, tmp_path):
    record = ImageRecord("1", "p", "p", "images/1.png", SIZE, SIZE, np.full(2, np.nan), "val")
    boxes = {"1": BoxLabels.empty(SIZE)}
    write_dataset(tmp_path, [record], boxes, source="ct", labels=CT, classes=OPACITY, bit_depth=8)
    with pytest.raises(DatasetError, match="labels: found none known on 1 rows"):
        compare_runs(runs, tmp_path, [], phases=False, device=CPU)


def test_the_command_prints_an_aligned_table_and_writes_it(dataset, runs, tmp_path, capfd):
    arguments = ["compare", *map(str, runs), "--dataset", str(dataset), "--device", "cpu"]
    out = tmp_path / "table.csv"
    assert run([*arguments, "--split", "val", "--split", "test", "--out", str(out)]) == 0
    text = capfd.readouterr().out
    assert "split_by" in text and "train, val" in text
    header, phased, plain = text.splitlines()[-3:]
    assert len(header) == len(phased) == len(plain)
    assert phased.split()[:4] == [str(runs[0]), "92930", "15.7500", "0.5000"]
    with open(out) as stream:
        rows = list(csv.DictReader(stream))
    assert list(rows[0])[:7] == [
        *("run", "parameters", "seconds", "val accuracy", "val f1", "val auroc", "val f1 non-covid"),
    ]
    assert (rows[0]["test accuracy"], rows[1]["seconds"]) == ("0.75", "")
    assert run([*arguments, "--json"]) == 0
    assert len(json.loads(capfd.readouterr().out)["rows"]) == 2
