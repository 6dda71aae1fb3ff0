"""The command line is a contract: a change of an option has to change this file."""

import subprocess
import sys

import pytest
import typer.main

from siimdet.cli import app, run, spread

OPTIONS = {
    "convert": {
        "source",
        *("--raw", "--out", "--image-size", "--resize", "--bit-depth", "--scaling", "--voi", "--patient-pattern"),
        *("--workers", "--cluster", "--split-by", "--folds", "--seed", "--limit", "--present-only"),
        "--allow-failures",
    },
    "inspect": {"dataset", "--against", "--report", "--json"},
    "write": {"dataset", "--format", "--out"},
    "train-backbone": {"config", "overrides", "--dataset", "--out", "--resume", "--folds", "--device"},
    "train-detector": {"config", "overrides", "--dataset", "--out", "--resume", "--folds", "--device"},
    "train-study": {"config", "overrides", "--dataset", "--out", "--resume", "--folds", "--device"},
    "train-classifier": {"config", "overrides", "--dataset", "--out", "--resume", "--folds", "--device"},
    "predict": {
        *("run", "--dataset", "--split", "--by", "--flip", "--scales", "--blank-border", "--out"),
        *("--workers", "--device"),
    },
    "explain": {"run", "--dataset", "--ids", "--out", "--class", "--device"},
    "fuse": {"files", "--dataset", "--out", "--method", "--iou", "--weights", "--conf-type", "--skip-below"},
    "pseudo-label": {"config", "overrides", "--dataset", "--split", "--boxes", "--study", "--out"},
    "tune": {
        *("--dataset", "--boxes", "--study", "--submission", "--image-level", "--study-level", "--patients"),
        *("--out", "--folds", "--bootstrap", "--calibrate", "--always", "--json"),
    },
    "submit": {
        *("--dataset", "--detector", "--study", "--coupling", "--sample", "--split", "--flip", "--scales"),
        *("--blank-border", "--boxes", "--keep", "--out", "--workers", "--device"),
    },
    "evaluate": {
        *("predictions", "other"),
        *("--dataset", "--split", "--image-level", "--study-level", "--only-submitted", "--check-only"),
        *("--patients", "--sources", "--sample", "--bootstrap", "--report", "--boxes", "--blanked", "--json"),
    },
    "compare": {"runs", "--dataset", "--split", "--phases", "--out", "--workers", "--device", "--json"},
    "dicom-results": {
        *("predictions", "--raw", "--out", "--dataset", "--threshold", "--model", "--allow-failures"),
    },
    "receive": {"--out", "--port", "--host", "--ae-title", "--calling"},
    "serve": {
        *("--detector", "--study", "--coupling", "--host", "--port", "--token", "--keep-for", "--queue", "--max-mb"),
        *("--per-minute", "--audit", "--pacs", "--pacs-interval", "--pacs-days", "--pacs-state", "--device"),
    },
    "demo": {"--out", "--seed"},
    "doctor": {"--json"},
}
HEAVY = (
    *("torch", "torchvision", "timm", "albumentations", "ultralytics", "polars", "pydicom", "numba", "cv2"),
    *("matplotlib", "sklearn", "tensorboard", "pytorch_grad_cam", "highdicom", "fastapi", "uvicorn"),
)


def test_commands_and_options_are_pinned():
    commands = typer.main.get_command(app).commands
    found = {
        name: {parameter.opts[0] for parameter in command.params if parameter.name != "help"}
        for name, command in commands.items()
    }
    assert found == OPTIONS


def test_help_imports_nothing_heavy():
    code = (
        "import sys; from siimdet.cli import run; run(['--help']); "
        f"print([name for name in {HEAVY!r} if name in sys.modules], file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "train-detector" in done.stdout
    assert done.stderr.strip() == "[]"


@pytest.mark.parametrize(
    ("given", "parsed"),
    [
        (
            ["submit", "--detector", "a", "b", "--study", "c"],
            ["submit", "--detector", "a", "--detector", "b", "--study", "c"],
        ),
        (["submit", "--detector", "a", "--detector", "b"], ["submit", "--detector", "a", "--detector", "b"]),
        (
            ["fuse", "a", "b", "--weights", "1", ".5", "--iou", ".6"],
            ["fuse", "a", "b", "--weights", "1", "--weights", ".5", "--iou", ".6"],
        ),
        (
            ["explain", "run", "--ids", "a", "1", "--out", "b"],
            ["explain", "run", "--ids", "a", "--ids", "1", "--out", "b"],
        ),
        (
            ["predict", "--scales", ".8", "1", "1.25", "run", "--flip"],
            ["predict", "--scales", ".8", "--scales", "1", "--scales", "1.25", "run", "--flip"],
        ),
        (
            ["tune", "--boxes", "a", "b", "--study", "c"],
            ["tune", "--boxes", "a", "--boxes", "b", "--study", "c"],
        ),
        (
            ["serve", "--detector", "a", "b", "--study", "c"],
            ["serve", "--detector", "a", "--detector", "b", "--study", "c"],
        ),
        (
            ["receive", "--calling", "a", "b", "--out", "c"],
            ["receive", "--calling", "a", "--calling", "b", "--out", "c"],
        ),
        (["pseudo-label", "--boxes", "a", "config"], ["pseudo-label", "--boxes", "a", "config"]),
        (["fuse", "--weights", "1", "2", "a", "b"], ["fuse", "--weights", "1", "--weights", "2", "a", "b"]),
    ],
)
def test_options_with_several_values(given, parsed):
    assert spread(given) == parsed


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["convert", "siim", "--raw", "no/such/folder", "--out", "x"], ("no/such/folder", "found", "expected")),
        (["convert", "mars", "--raw", "x", "--out", "y"], ("mars", "siim", "rsna", "nih")),
        (["convert", "siim"], ("--raw",)),
        (["inspect", "no/such/data"], ("no/such/data/dataset.json", "found", "expected")),
        (["evaluate", "no.csv", "--image-level", "a.csv", "--study-level", "b.csv"], ("no.csv", "found", "expected")),
        (["evaluate", "no.csv"], ("no.csv", "found", "expected")),
        (["compare", "no/run", "--dataset", "no/such/data"], ("no/such/data/dataset.json", "found", "expected")),
        (["train-study", "no.yaml", "--dataset", "x", "--out", "y"], ("no.yaml", "found", "expected")),
        (
            ["train-classifier", "configs/demo/study.yaml", "--dataset", "x", "--out", "y"],
            ("configs/demo/study.yaml", "kind", "found 'study'", "expected classifier"),
        ),
        (["predict", "no/run", "--dataset", "x", "--out", "y", "--by", "study"], ("--by", "image", "patient")),
        (
            ["predict", "no/run", "--dataset", "x", "--out", "y", "--scales", "1", "0"],
            ("--scales", "found 0.0", "expected numbers from 0.1 to 8"),
        ),
        (
            ["predict", "no/run", "--dataset", "x", "--out", "y", "--blank-border", "0"],
            ("--blank-border", "share", "found 0.0", "expected a number above 0 and below 0.5"),
        ),
        (
            ["submit", "--dataset", "x", "--study", "y", "--out", "z", "--blank-border", ".5"],
            ("--blank-border", "share", "found 0.5", "expected a number above 0 and below 0.5"),
        ),
        (
            ["pseudo-label", "configs/submit/s1.yaml", "--dataset", "x", "--boxes", "a", "--study", "b", "--out", "y"],
            ("configs/submit/s1.yaml", "kind", "found 'coupling'", "expected pseudo_labels"),
        ),
        (
            ["tune", "--dataset", "x", "--study", "y", "--out", "z"],
            ("found --study --dataset", "expected either --boxes"),
        ),
        (
            ["serve", "--detector", "no/run", "--study", "no/run", "--host", "0.0.0.0", "--token", ""],
            ("--host", "found 0.0.0.0 without a token", "expected SIIMDET_TOKEN"),
        ),
        (["dicom-results", "no.csv", "--raw", "x", "--out", "y"], ("no.csv", "found", "expected")),
        (["dicom-results", "no.json", "--raw", "x", "--out", "y"], ("no.json", "--dataset", "found", "expected")),
        (["launch"], ("launch",)),
    ],
)
def test_a_mistake_is_one_line_and_exit_2(arguments, words, capfd):
    assert run(arguments) == 2
    out, err = capfd.readouterr()
    assert out == ""
    assert err.count("\n") == 1
    assert all(word in err for word in words), err


@pytest.mark.parametrize(
    ("override", "words"),
    [
        ("optimiser.lrr=1", ("optimiser.lrr", "lr")),
        ("epochs=many", ("epochs", "'many'", "integer")),
        ("epochs", ("override 'epochs'", "KEY=VALUE")),
        ("epochs.x=1", ("override 'epochs.x=1'", "mapping")),
        ("kind=yolo", ("kind", "'yolo'", "backbone")),
        (
            "phases.backbone.epochs=1",
            ("override 'phases.backbone.epochs=1'", "phase backbone", "keys stand at the top"),
        ),
    ],
)
def test_a_bad_override_names_file_and_field(override, words, capfd):
    config = "configs/demo/backbone.yaml"
    assert run(["train-backbone", config, override, "--dataset", "x", "--out", "y"]) == 2
    _, err = capfd.readouterr()
    assert err.count("\n") == 1
    assert all(word in err for word in (config, "found", "expected", *words)), err


def test_module_runs_as_command():
    done = subprocess.run([sys.executable, "-m", "siimdet", "launch"], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("siimdet: ")
