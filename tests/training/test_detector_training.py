"""Training torchvision's detectors: phases, kills, processes, and what a run says of its data."""

import json
import signal
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml

from siimdet.cli import run
from siimdet.core.labels import OPACITY, STUDY
from siimdet.core.types import BoxLabels, ImageRecord
from siimdet.data.manifest import Dataset, write_dataset
from siimdet.data.yolo import write_yolo
from siimdet.models.weights import build_model, read_run_tensors, read_spec
from siimdet.training.journal import JOURNAL, read_journal

CONFIG = {
    "seed": 3,
    "epochs": 2,
    "image_size": 64,
    "inference_size": 64,
    "batch_size": 12,
    "validation_batch_size": 8,
    "resize": "stretch",
    "mean": [0.5, 0.5, 0.5],
    "std": [0.5, 0.5, 0.5],
    "body": "resnext14_32x4d",
    "weights": "none",
    "fpn_channels": 32,
    "freeze_batch_norm": True,
    "optimiser": {"name": "adamw", "lr": 0.001},
    "schedule": {"name": "constant"},
    "gradient_clip": 5.0,
    "augment": {"horizontal_flip": 0.5, "affine": {"p": 1.0, "rotate": 10, "shift": 0.5}},
    "amp": False,
}
KINDS = {
    "faster_rcnn": {
        "finest_stage": 2,
        "anchor_sizes": [12, 20, 30, 40],
        "box_head_features": 32,
        "proposals": 20,
        "training_regions": 64,  # more than twice the proposals: nothing is drawn
    },
    "retinanet": {"finest_stage": 3, "anchor_sizes": [12, 20, 30, 40], "anchor_octaves": 1, "box_loss": "giou"},
    "fcos": {"finest_stage": 3, "fpn_channels": 64},
}


def arguments(folder: Path, kind: str, dataset: Path, *more: object, **settings) -> list[str]:
    path = folder / "config.yaml"
    path.write_text(yaml.safe_dump({"kind": kind, **CONFIG, **KINDS[kind], **settings}, sort_keys=False))
    given = ["train-detector", path, *more, "--dataset", dataset, "--out", folder / "run"]
    return [str(argument) for argument in given]


def figures(folder: Path) -> list[dict]:
    return [{key: value for key, value in entry.items() if key != "seconds"} for entry in read_journal(folder)]


PHASED = {
    "epochs": 2,
    "accumulate": 2,
    "ema": 0.9,
    "phases": {"head": {"trainable": ["detector.head", "detector.backbone.fpn"]}, "all": {"image_size": 96}},
}


@pytest.fixture(scope="module")
def unbroken(studies, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("unbroken")
    assert run(arguments(folder, "retinanet", studies.root, **PHASED)) == 0
    return folder / "run"


@pytest.mark.parametrize("lines", [1, 3], ids=["within a phase", "within the next"])
def test_killed_and_resumed_a_detector_gives_the_numbers_of_an_unbroken_run(studies, unbroken, start, tmp_path, lines):
    given = arguments(tmp_path, "retinanet", studies.root, **PHASED)
    log = tmp_path / "stderr.txt"
    child = start(given, log)
    journal, deadline = tmp_path / "run" / JOURNAL, time.monotonic() + 100
    while not (journal.is_file() and journal.read_bytes().count(b"\n") >= lines):
        assert child.is_alive() and time.monotonic() < deadline, log.read_text()
        time.sleep(0.002)
    child.kill()
    child.join()
    assert child.exitcode == -signal.SIGKILL
    assert len(read_journal(tmp_path / "run")) < len(read_journal(unbroken))
    resume = ["--resume"] if (tmp_path / "run" / "state" / "last.pt").is_file() else []
    assert run([*given, *resume]) == 0
    assert figures(tmp_path / "run") == figures(unbroken)
    for name in ("weights/best.safetensors", "phases/head/weights/best.safetensors"):
        assert (tmp_path / "run" / name).read_bytes() == (unbroken / name).read_bytes(), name


def test_every_phase_is_kept_as_a_run_of_its_own_and_trains_what_it_says(studies, unbroken, tmp_path):
    torch.manual_seed(CONFIG["seed"])
    begin = build_model(read_spec(unbroken)).state_dict()
    first, last = (read_run_tensors(unbroken / place) for place in ("phases/head", "."))
    body = {name for name in begin if name.startswith("detector.backbone.body.")}
    assert all(first[name].equal(begin[name]) for name in body)
    assert all(not first[name].equal(begin[name]) for name in begin if name.endswith("cls_logits.weight"))
    assert any(not last[name].equal(first[name]) for name in body)
    out = tmp_path / "head.json"
    given = ("predict", unbroken / "phases" / "head", "--dataset", studies.root, "--out", out)
    assert run([str(argument) for argument in given]) == 0
    assert json.loads(out.read_text())
    assert json.loads((unbroken / "phases" / "head" / "model.json").read_text())["phase"] == "head"


@pytest.mark.parametrize("trainable", ["detector.backbone.fpn", "detector.roi_heads.box_head", "*"])
def test_whatever_trains_faster_rcnn_has_its_four_losses(studies, tmp_path, trainable):
    given = arguments(tmp_path, "faster_rcnn", studies.root, epochs=1, trainable=[trainable])
    assert run(given) == 0
    (entry,) = read_journal(tmp_path / "run")
    losses = {f"train_loss_{name}" for name in ("classifier", "box_reg", "objectness", "rpn_box_reg")}
    assert losses <= entry.keys()


def test_boxes_that_augmentation_moves_out_are_counted_and_not_learnt(studies, unbroken):
    counts = [entry["dropped_boxes"] for entry in read_journal(unbroken)]
    assert all(isinstance(count, int) for count in counts)
    assert 0 < sum(counts) < 36 * len(counts)  # some leave 64 px by a shift of up to half, never all


@pytest.mark.parametrize("kind", list(KINDS))
def test_two_processes_train_every_family(studies, launch, tmp_path, kind):
    losses = {}
    # AdamW takes a gradient that is zero but for rounding for a direction; FCOS needs more than a place or two.
    settings = {
        "batch_size": 16,
        "optimiser": {"name": "sgd", "lr": 0.002, "momentum": 0.9},
        "augment": {"horizontal_flip": 0.5},
    }
    for processes in (1, 2):
        folder = tmp_path / str(processes)
        folder.mkdir()
        given = arguments(folder, kind, studies.root, **settings)
        codes, errors = launch(2, folder, *given) if processes == 2 else ([run(given)], "")
        assert codes == [0] * processes, errors
        losses[processes] = [entry["train_loss"] for entry in read_journal(folder / "run")]
    tolerance = 0.02 if kind == "faster_rcnn" else 1e-4  # its mean is over regions, of which images have 16 to 20
    assert losses[2] == pytest.approx(losses[1], rel=tolerance)
    assert abs(losses[1][1] / losses[1][0] - 1) > 1e-3


def as_pseudo_labels(root: Path, source: Dataset, *, patients: set[str]) -> Path:
    """Images of the patients again, as a data set of train images with one box each."""
    root.mkdir()
    (root / "images").symlink_to(source.root / "images")
    chosen = [record for record in source.records if record.patient_id in patients]
    records = [
        ImageRecord(r.image_id, r.study_id, r.patient_id, r.path, r.stored, r.original, r.labels, "train")
        for r in chosen
    ]
    boxes = {r.image_id: BoxLabels([[2, 2, 9, 9]], [0], r.stored) for r in records}
    write_dataset(root, records, boxes, source="pseudo", labels=STUDY, classes=OPACITY, bit_depth=8)
    return root


def test_mixed_in_images_are_learnt_but_not_those_of_patients_who_validate(studies, tmp_path):
    validate = {record.patient_id for record in studies.records if record.split == "val"}
    learn = {record.patient_id for record in studies.records if record.split == "train"}
    pseudo = as_pseudo_labels(tmp_path / "pseudo", studies, patients={*list(sorted(learn))[:3], *validate})
    given = arguments(tmp_path, "fcos", studies.root, f"mix_in=[{pseudo}]", epochs=1)
    assert run(given) == 0
    data = json.loads((tmp_path / "run" / "model.json").read_text())["data"]
    assert data["train_images"] == sum(record.split == "train" for record in studies.records) + 6
    assert data["val_images"] == sum(record.split == "val" for record in studies.records)
    assert data["shared_patients"]["val"] == 0
    assert len(data["mixed_in"]) == 1


def test_neither_patients_of_a_labelled_test_part_nor_excluded_ones_are_mixed_in(studies, tmp_path):
    patients = sorted({record.patient_id for record in studies.records if record.split == "train"})
    tested, excluded, shared = patients[:3]
    kept = [record for record in studies.records if record.patient_id != excluded]
    root = tmp_path / "main"
    root.mkdir()
    (root / "images").symlink_to(studies.root / "images")
    records = [replace(r, split="test") if r.patient_id == tested else r for r in kept]
    boxes = {record.image_id: studies.boxes[record.image_id] for record in records}
    main = write_dataset(root, records, boxes, source="test", labels=STUDY, classes=OPACITY, bit_depth=8)
    pseudo = as_pseudo_labels(tmp_path / "pseudo", studies, patients={tested, excluded, patients[3]})
    left_out = as_pseudo_labels(tmp_path / "left_out", studies, patients={excluded, shared})
    more = (f"mix_in=[{pseudo}]", f"exclude_patients=[{left_out}]")
    assert run(arguments(tmp_path, "fcos", main.root, *more, epochs=1)) == 0
    data = json.loads((tmp_path / "run" / "model.json").read_text())["data"]
    # Those of `main` but the shared patient's, and of the pseudo-labelled ones the fourth patient's alone.
    assert data["train_images"] == sum(r.split == "train" and r.patient_id != shared for r in records) + 2
    assert data["shared_patients"] == {"val": 0, "test": 0}


def test_mixing_in_refuses_what_does_not_fit(studies, three_classes, tmp_path, capfd):
    validate = {record.patient_id for record in studies.records if record.split == "val"}
    pseudo = as_pseudo_labels(tmp_path / "pseudo", studies, patients=validate)
    for other, said in ((three_classes.root, "classes: found none, expected opacity"), (pseudo, "no train image of")):
        capfd.readouterr()
        assert run(arguments(tmp_path, "fcos", studies.root, f"mix_in=[{other}]")) == 2
        (line,) = [line for line in capfd.readouterr().err.splitlines() if line.startswith("siimdet: ")]
        assert said in line


@pytest.mark.parametrize("kind", ["retinanet", "yolo"])
def test_a_cache_changes_no_number(studies, tmp_path, kind):
    entries = []
    for name in ("without", "with"):
        folder = tmp_path / name
        folder.mkdir()
        cache = [f"cache={tmp_path / 'cache'}"] if name == "with" else []
        if kind == "yolo":
            write_yolo(studies)
            demo = Path(__file__).parents[2] / "configs" / "demo" / "yolo_siim.yaml"
            options = ["--dataset", str(studies.root), "--out", str(folder / "run")]
            assert run(["train-detector", str(demo), "epochs=2", "image_size=64", *cache, *options]) == 0
        else:
            assert run(arguments(folder, kind, studies.root, *cache)) == 0
        entries.append(figures(folder / "run"))
    assert entries[0] == entries[1]
    assert np.isfinite([entry["train_loss"] for entry in entries[0]]).all()
    assert list((tmp_path / "cache").glob("**/pixels.u8"))


def test_a_chain_goes_on_from_a_detector_and_refuses_another_kind(studies, unbroken, tmp_path, capfd):
    given = arguments(tmp_path, "retinanet", studies.root, f"init_from={unbroken}", epochs=1)
    assert run(given) == 0
    (tmp_path / "other").mkdir()
    capfd.readouterr()
    assert run(arguments(tmp_path / "other", "fcos", studies.root, f"init_from={unbroken}")) == 2
    assert "kind: found retinanet, expected fcos" in capfd.readouterr().err
