"""What a detector's training starts from, what it says of that, and what a refused one leaves: nothing."""

import importlib.util
import json
from pathlib import Path

import pytest

from siimdet.cli import run
from siimdet.data.manifest import Dataset
from siimdet.data.yolo import write_yolo
from siimdet.models.weights import WEIGHTS
from siimdet.training.journal import read_journal

CONFIGS = Path(__file__).parents[2] / "configs"
KINDS = {
    "fcos": (CONFIGS / "detector" / "fcos_lite.yaml", "weights=none", "inference_size=64", "batch_size=8"),
    "yolo": (CONFIGS / "demo" / "yolo_siim.yaml",),
}

if importlib.util.find_spec("ultralytics") is None:
    pytest.skip("needs the extra `yolo`", allow_module_level=True)


def arguments(kind: str, dataset: Dataset, out: Path, *more: str) -> list[str]:
    given = ("train-detector", *KINDS[kind], "epochs=1", "image_size=64", *more, "--dataset", dataset.root)
    return [str(argument) for argument in (*given, "--out", out, "--device", "cpu")]


@pytest.fixture(scope="module")
def data(studies) -> Dataset:
    write_yolo(studies)
    return studies


@pytest.fixture(scope="module")
def first(data, tmp_path_factory) -> Path:
    """A run of YOLO."""
    out = tmp_path_factory.mktemp("first") / "run"
    assert run(arguments("yolo", data, out)) == 0
    return out


@pytest.mark.parametrize("kind", list(KINDS))
def test_the_images_counted_are_those_trained_on(data, tmp_path, caplog, kind):
    caplog.set_level("INFO", "siimdet")
    positives = sum(r.split == "train" and len(data.boxes[r.image_id]) > 0 for r in data.records)
    assert run(arguments(kind, data, tmp_path, "only_positives=true")) == 0
    assert f"{kind}: {positives} images to train on" in caplog.text
    trained_on = json.loads((tmp_path / "model.json").read_text())["data"]["train_images"]
    assert trained_on == positives < sum(record.split == "train" for record in data.records)


def test_yolo_starts_from_a_run_as_from_its_file_of_weights(data, first, tmp_path):
    losses = [read_journal(first)[0]["train_loss"]]
    for name, source in (("run", first), ("file", first / WEIGHTS)):
        assert run(arguments("yolo", data, tmp_path / name, f"init_from={source}")) == 0
        losses.append(read_journal(tmp_path / name)[0]["train_loss"])
    assert losses[0] != losses[1] == losses[2]


@pytest.mark.parametrize(
    ("kind", "overrides", "said"),
    [
        ("fcos", ["init_from={text}"], "{text}: run: found a file, expected the run directory of a finished epoch"),
        ("fcos", ["trainable=[nothing]"], "trainable: found 'nothing'"),
        ("yolo", ["init_from={text}"], "{text}: weights: found a file, expected a run, a .safetensors, or a .pt of"),
        (
            "yolo",
            ["init_from={first}", "architecture=yolov5s.yaml"],
            "best.safetensors: model.0.conv.weight: found (16,",
        ),
        ("yolo", ["architecture=yolov5n-p6.yaml"], "image_size: found 64, expected a multiple of 64 from 128 on"),
        ("yolo", ["architecture=foo.yaml"], "architecture: found foo.yaml"),
    ],
    ids=["file for a run", "glob", "file of another form", "other architecture", "side", "no architecture"],
)
def test_a_refused_start_is_one_line_and_leaves_nothing(data, first, tmp_path, capfd, kind, overrides, said):
    text, out = tmp_path / "weights.pth", tmp_path / "run"
    text.write_text("no weights")
    given = arguments(kind, data, out, *(override.format(text=text, first=first) for override in overrides))
    assert said.format(text=text) in refused(given, capfd)
    assert not out.exists()


@pytest.mark.parametrize("kind", list(KINDS))
def test_a_data_set_without_classes_is_refused_before_a_model_is_built(three_classes, tmp_path, capfd, recwarn, kind):
    line = refused(arguments(kind, three_classes, tmp_path / "run"), capfd)
    assert f"{three_classes.root}: boxes: found none on 36 images" in line
    assert not [warning for warning in recwarn if "zero-element" in str(warning.message)]
    assert not (tmp_path / "run").exists()


def refused(arguments: list[str], capfd) -> str:
    """The one line of a refused command."""
    capfd.readouterr()
    assert run(arguments) == 2
    (line,) = [line for line in capfd.readouterr().err.splitlines() if line.startswith("siimdet: ")]
    return line
