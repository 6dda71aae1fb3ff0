"""Classifiers trained in phases: what trains, what is kept, what is on disk."""

import json
from pathlib import Path

import numpy as np
import pytest
import safetensors.torch
import torch
import yaml

from siimdet.config_file import load_config
from siimdet.data.manifest import Dataset
from siimdet.inference.run import predict_classes, predict_run
from siimdet.models.weights import build_model, read_card, read_spec
from siimdet.training.journal import read_journal
from siimdet.training.train import train

CPU = torch.device("cpu")
RECIPES = Path(__file__).parents[2] / "configs" / "recipes"
KINDS = ("backbone", "study", "classifier")
BASE = {
    "kind": "classifier",
    "image_size": 32,
    "batch_size": 12,
    "resize": "stretch",
    "mean": [0.5],
    "std": [0.5],
    "body": "simple_cnn",
    "weights": "none",
    "task": {"name": "cross_entropy"},
    "optimiser": {"name": "adamw", "lr": 0.003},
    "schedule": {"name": "constant"},
    "best": {"figure": "accuracy"},
    "amp": False,
    "epochs": 2,
}


def config(folder: Path, *overrides: str, **settings):
    path = folder / "config.yaml"
    path.write_text(yaml.safe_dump({**BASE, **settings}, sort_keys=False))
    return load_config(path, overrides, kinds=KINDS)


def small(name: str, *overrides: str):
    """A shipped recipe as small as it gets, by overrides alone."""
    few = ("epochs=1", "image_size=64", "batch_size=12", "weights=none", "workers=0", "overfit_steps=0")
    if name.startswith("covid_"):
        few = (*few, "body=resnet18")
    return load_config(RECIPES / f"{name}.yaml", (*few, *overrides), kinds=KINDS)


def tensors(run: Path) -> dict[str, torch.Tensor]:
    return safetensors.torch.load_file(run / "weights" / "best.safetensors")


def test_a_small_network_learns_three_classes(three_classes, tmp_path):
    train(config(tmp_path, epochs=20), three_classes, tmp_path / "run", device=CPU)
    scores = read_card(tmp_path / "run")["scores"]
    assert scores["accuracy"] == 1.0
    assert scores["confusion"] == [[4, 0, 0], [0, 4, 0], [0, 0, 4]]
    found = predict_classes(tmp_path / "run", three_classes, three_classes.records, device=CPU).classes
    truth = np.array([record.labels for record in three_classes.records])
    assert (found.values.argmax(1) == truth.argmax(1)).mean() > 0.95


def test_every_phase_of_progressive_resizing_trains_what_it_says(three_classes, tmp_path):
    """Head phases leave the body's weights and statistics alone, to the bit; the others move both."""
    trained = small("covid_resnet", "phases.all_229.image_size=96")
    names = list(trained.phases)
    train(trained, three_classes, tmp_path, device=CPU)
    states = [tensors(tmp_path / "phases" / name) for name in names[:-1]] + [tensors(tmp_path)]
    torch.manual_seed(trained.seed)
    before = build_model(read_spec(tmp_path)).state_dict()
    for name, after in zip(names, states, strict=True):
        moved = {key for key in after if not torch.equal(after[key], before[key])}
        body = {key for key in moved if key.startswith("body.")}
        if name.startswith("head"):
            assert not body
        else:
            weights = {key for key in after if key.startswith("body.") and key.endswith("weight")}
            assert weights <= body
            assert "body.bn1.running_mean" in body
        assert {key for key in moved if key.startswith("head.")}
        before = after
    assert [entry["phase"] for entry in read_journal(tmp_path)] == names


def test_a_run_keeps_the_best_model_of_every_phase_that_tells_classes(three_classes, tmp_path):
    train(small("covid_ct", "trainable=['*']", "phases.supervised.epochs=2"), three_classes, tmp_path, device=CPU)
    entries = read_journal(tmp_path)
    assert [(e["phase"], e["epoch"]) for e in entries] == [
        *(("supervised", 0), ("supervised", 1), ("contrastive", 0), ("classifier", 0))
    ]
    assert entries[2]["pair_auroc"] is not None
    assert "accuracy" not in entries[2]
    assert sorted(path.name for path in (tmp_path / "phases").iterdir()) == ["supervised"]
    first, last = read_card(tmp_path / "phases" / "supervised"), read_card(tmp_path)
    assert (first["phase"], first["architecture"]["on"]) == ("supervised", "body")
    assert (last["phase"], last["architecture"]["on"]) == ("classifier", "embedding")
    for run in (tmp_path, tmp_path / "phases" / "supervised"):
        found = predict_classes(run, three_classes, three_classes.records[:5], device=CPU).classes
        assert found.values.sum(1) == pytest.approx([1] * 5, abs=1e-5)
    names = sorted(path.relative_to(tmp_path / "plots").as_posix() for path in (tmp_path / "plots").rglob("*.png"))
    assert names == [
        *("classifier/confusion.png", "classifier/loss.png", "classifier/pr.png", "classifier/roc.png"),
        *("classifier/score.png", "contrastive/loss.png", "contrastive/score.png", "loss.png", "score.png"),
        *("supervised/confusion.png", "supervised/loss.png", "supervised/pr.png", "supervised/roc.png"),
        "supervised/score.png",
    ]


def test_mean_and_deviation_of_the_training_images_are_computed_and_kept(three_classes, tmp_path):
    train(config(tmp_path, mean="dataset", std="dataset", epochs=1), three_classes, tmp_path / "run", device=CPU)
    pixels = np.concatenate(
        [read(three_classes, record).ravel() for record in three_classes.records if record.split == "train"]
    )
    architecture = read_card(tmp_path / "run")["architecture"]
    assert architecture["mean"] == pytest.approx([pixels.mean()], rel=1e-9)
    assert architecture["std"] == pytest.approx([pixels.std()], rel=1e-9)


def read(dataset: Dataset, record) -> np.ndarray:
    from siimdet.imaging.png import read_grey

    return read_grey(dataset.root / record.path) / 255


def test_the_epoch_with_the_fewest_false_negatives_is_kept(three_classes, tmp_path):
    path = "classes.COVID-19.false_negatives"
    trained = config(tmp_path, epochs=8, best={"figure": path}, optimiser={"name": "sgd", "lr": 0.02})
    train(trained, three_classes, tmp_path / "run", device=CPU)
    entries = read_journal(tmp_path / "run")
    ranking = [(e["classes"]["COVID-19"]["false_negatives"], e["val_loss"], e["epoch"]) for e in entries]
    assert read_card(tmp_path / "run")["epoch"] == min(ranking)[2]


def test_two_stages_learn_their_own_part(three_classes, tmp_path):
    groups = {"dark": ["dark"], "bright": ["left", "COVID-19"]}
    phases = {"first": {"trainable": ["first"]}, "second": {"trainable": ["second"]}}
    trained = config(tmp_path, epochs=12, task={"name": "nll"}, groups=groups, phases=phases)
    train(trained, three_classes, tmp_path / "run", device=CPU)
    assert read_card(tmp_path / "run")["scores"]["accuracy"] == 1.0
    first, last = tensors(tmp_path / "run" / "phases" / "first"), tensors(tmp_path / "run")
    assert {key.split(".")[0] for key in last if not torch.equal(first[key], last[key])} == {"second"}
    # The first stage alone tells dark from bright, and guesses within bright.
    confusion = np.array(read_card(tmp_path / "run" / "phases" / "first")["scores"]["confusion"])
    assert confusion[0, 0] == 4
    assert confusion[1:, 0].sum() == 0


def test_one_batch_by_heart_is_pictured_and_changes_nothing(three_classes, tmp_path, caplog):
    with caplog.at_level("INFO"):
        train(config(tmp_path, overfit_steps=40), three_classes, tmp_path / "with", device=CPU)
    assert "12 of 12 images right" in caplog.text
    assert (tmp_path / "with" / "plots" / "overfit_one_batch.png").stat().st_size > 5000
    train(config(tmp_path), three_classes, tmp_path / "without", device=CPU)
    assert figures(tmp_path / "with") == figures(tmp_path / "without")


def figures(run: Path) -> list[dict]:
    return [{key: value for key, value in entry.items() if key != "seconds"} for entry in read_journal(run)]


def test_unlabelled_images_are_left_out_of_classes_and_masked_in_labels(three_classes, tmp_path, caplog):
    unknown = [np.full(3, np.nan, np.float32) if n % 6 == 0 else r.labels for n, r in enumerate(three_classes.records)]
    records = tuple(
        type(r)(r.image_id, r.study_id, r.patient_id, r.path, r.stored, r.original, labels, r.split)
        for r, labels in zip(three_classes.records, unknown, strict=True)
    )
    partly = Dataset(**{name: getattr(three_classes, name) for name in Dataset.__slots__} | {"records": records})
    with caplog.at_level("INFO"):
        train(config(tmp_path, epochs=1), partly, tmp_path / "classes", device=CPU)
    assert "images without a label left out" in caplog.text
    labels = config(tmp_path, epochs=1, task={"name": "multilabel", "class_weights": True}, best={"figure": "auroc"})
    train(labels, partly, tmp_path / "labels", device=CPU)
    assert np.isfinite(read_journal(tmp_path / "labels")[0]["train_loss"])


def test_folds_of_a_study_classifier_with_every_output(studies, tmp_path):
    """Mask, opacity, boxed images, mirrored images, moving average: one config, and its columns."""
    settings = {
        "kind": "study",
        "auxiliary": {"opacity": 1.0, "mask": 1.0},
        "study_images": "boxed",
        "flip_tta": True,
        "ema": 0.8,
        "epochs": 25,
        "oversample": True,
        "optimiser": {"name": "adamw", "lr": 0.003},
    }
    train(config(tmp_path, **settings), studies, tmp_path / "run", device=CPU)
    entry = read_journal(tmp_path / "run")[-1]
    assert {"train_cross_entropy", "train_opacity", "train_mask"} <= entry.keys()
    assert entry["train_mask"] < 0.2  # a constant answer, 7 % of the area in the mean, costs .26 at best
    assert entry["opacity"]["auroc"] == 1.0
    found = predict_run(tmp_path / "run", studies, studies.records, device=CPU)
    header, rows = found.table()
    assert header == ("image_id", "negative", "typical", "indeterminate", "atypical", "opacity")
    assert len(rows) == 64
    card = json.loads((tmp_path / "run" / "model.json").read_text())
    assert card["data"]["shared_patients"] == {"val": 0, "test": 0}
    assert card["fold"] is None
