"""Recipes on phantoms as a user types them: CT slices to patients (S3), and the study level beyond S1's report."""

import csv
import json
from pathlib import Path

import pytest
import torch

from siimdet.cli import run
from siimdet.data.manifest import read_dataset
from siimdet.data.phantom_slices import write_mia_cov19d
from siimdet.data.phantom_trees import write_siim

CONFIGS = Path(__file__).parents[2] / "configs"
SLICES = ("image_size=64", "batch_size=4", "workers=0")
SMALL = ("epochs=1", "image_size=64", "batch_size=8", "workers=0", "weights=none", "body=resnet18")


@pytest.fixture(scope="module", autouse=True)
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)  # at 64 px a second thread only waits
    yield
    torch.set_num_threads(before)


def call(*arguments: object, code: int = 0) -> None:
    assert run([str(argument) for argument in arguments]) == code


def answer(capfd, *arguments: object) -> dict:
    capfd.readouterr()
    call(*arguments, "--json")
    return json.loads(capfd.readouterr().out)


def rows_of(path: Path) -> list[dict[str, str]]:
    with open(path, newline="", encoding="utf-8") as stream:
        return list(csv.DictReader(stream))


@pytest.fixture(scope="module")
def mia(tmp_path_factory) -> dict[str, Path]:
    """MIA-COV19D's phantoms, divided by patient and by image."""
    root = tmp_path_factory.mktemp("mia")
    write_mia_cov19d(root / "raw", patients=8, slices=5)
    for by in ("patient", "image"):
        arguments = ("--raw", root / "raw", "--out", root / by, "--split-by", by, "--workers", 1)
        call("convert", "mia-cov19d", *arguments, code=3)
    return {"patient": root / "patient", "image": root / "image"}


@pytest.fixture(scope="module")
def runs(mia, tmp_path_factory) -> dict[str, Path]:
    root = tmp_path_factory.mktemp("runs")
    recipe = CONFIGS / "recipes" / "ct_slices_fcn.yaml"
    for by, overrides in (("patient", ("epochs=4", "optimiser.lr=0.0005")), ("image", ("epochs=1",))):
        arguments = ("--dataset", mia[by], "--out", root / by, "--device", "cpu")
        call("train-classifier", recipe, *SLICES, *overrides, *arguments)
    return {"patient": root / "patient", "image": root / "image"}


@pytest.mark.parametrize("by", ["patient", "image"])
def test_the_black_slice_is_refused_and_files_of_macos_are_passed_over(mia, by):
    (failure,) = rows_of(mia[by] / "failures.csv")
    assert failure["path"] == "train/covid/ct_scan_0/5.jpg"
    assert failure["reason"] == "pixels: found one grey level, expected an image of something"
    assert len(read_dataset(mia[by]).records) == 100
    assert not [record for record in read_dataset(mia[by]).records if "._" in record.source["file"]]


def test_slices_become_counts_and_a_decision_for_every_patient(mia, runs, tmp_path, capfd):
    out = tmp_path / "patients.csv"
    call("predict", runs["patient"], "--dataset", mia["patient"], "--split", "val", "--by", "patient", "--out", out)
    found = {row["patient_id"]: row for row in rows_of(out)}
    assert sorted(found) == [f"validation-{label}-ct_scan_{n}" for label in ("covid", "non-covid") for n in (0, 1)]
    for patient, row in found.items():
        # Of a COVID scan's five slices the apex shows no lesion.
        expected = ("5", "0", "non-covid") if "non-covid" in patient else ("1", "4", "covid")
        assert (row["non-covid_slices"], row["covid_slices"], row["decision"]) == expected
        assert row["slices"] == "5"
    score = answer(capfd, "evaluate", out, "--dataset", mia["patient"], "--split", "val")
    assert (score["patients"], score["accuracy"], score["confusion"]) == (4, 1.0, [[2, 0], [0, 2]])


def test_a_run_keeps_the_patients_rule_and_threshold_of_its_validation(runs):
    card = json.loads((runs["patient"] / "model.json").read_text())
    assert card["scores"]["accuracy"] == pytest.approx(18 / 20)
    assert card["scores"]["patients"]["accuracy"] == 1.0
    # In the middle between no slice of five and four of five.
    assert card["patients"] == {"rule": "counts", "slice_threshold": 0.5, "k": 10, "threshold": pytest.approx(0.4)}
    assert card["data"]["shared_patients"] == {"val": 0, "test": 0}
    assert card["data"]["split_by"] == "patient"
    divided = json.loads((runs["image"] / "model.json").read_text())["data"]
    assert (divided["split_by"], divided["shared_patients"]) == ("image", {"val": 0, "test": 8})


@pytest.mark.parametrize(("by", "patients", "shared"), [("patient", 2, 0), ("image", 8, 8)])
def test_compare_says_how_slices_were_divided(mia, runs, capfd, by, patients, shared):
    found = answer(capfd, "compare", runs["patient"], runs["image"], "--dataset", mia[by], "--split", "test")
    assert found["data"]["split_by"] == by
    assert found["data"]["patients"]["test"] == patients
    assert found["data"]["shared_patients"] == {"train, val": 0, "train, test": shared, "val, test": 0}
    assert [row["run"] for row in found["rows"]] == [str(runs["patient"]), str(runs["image"])]
    assert {row["parameters"] for row in found["rows"]} == {3_913_730}


@pytest.fixture(scope="module")
def siim(tmp_path_factory) -> Path:
    root = tmp_path_factory.mktemp("siim")
    write_siim(root / "raw", patients=20)
    options = ("--image-size", 64, "--workers", 1, "--folds", 2)
    call("convert", "siim", "--raw", root / "raw", "--out", root / "data", *options)
    return root / "data"


@pytest.fixture(scope="module")
def study(siim, tmp_path_factory) -> Path:
    """Two folds of the recipe that learns from the boxes too."""
    out = tmp_path_factory.mktemp("study") / "run"
    recipe = CONFIGS / "study" / "efficientnet_siim.yaml"
    arguments = ("--dataset", siim, "--out", out, "--device", "cpu", "--folds", 2)
    call("train-study", recipe, *SMALL, "validation_batch_size=8", "overfit_steps=2", *arguments)
    return out


def test_folds_write_classes_and_opacity_out_of_fold(siim, study):
    rows = rows_of(study / "oof.csv")
    assert list(rows[0]) == ["image_id", "negative", "typical", "indeterminate", "atypical", "opacity"]
    folded = [record.image_id for record in read_dataset(siim).records if record.fold is not None]
    assert [row["image_id"] for row in rows] == folded
    classes = list(rows[0])[1:5]
    assert [sum(float(row[name]) for name in classes) for row in rows] == pytest.approx([1.0] * len(rows), abs=1e-5)


def test_out_of_fold_predictions_are_scored_on_all_folds_and_a_run_on_its_own(siim, study, tmp_path, capfd):
    records = read_dataset(siim).records
    capfd.readouterr()
    call("evaluate", study / "oof.csv", "--dataset", siim, "--json")
    assert json.loads(capfd.readouterr().out)["images"] == sum(record.fold is not None for record in records)
    for fold in (0, 1):
        out = tmp_path / f"{fold}.csv"
        call("predict", study / f"fold-{fold}", "--dataset", siim, "--split", "val", "--out", out)
        assert [row["image_id"] for row in rows_of(out)] == [r.image_id for r in records if r.fold == fold]
        assert json.loads((study / f"fold-{fold}" / "model.json").read_text())["fold"] == fold


def test_each_fold_learns_by_classes_boxes_and_their_mask(study):
    for fold in (0, 1):
        (line,) = (study / f"fold-{fold}" / "metrics.jsonl").read_text().splitlines()
        assert {"train_cross_entropy", "train_opacity", "train_mask"} < set(json.loads(line))
        assert (study / f"fold-{fold}" / "plots" / "overfit_one_batch.png").stat().st_size > 0


def test_a_submission_takes_the_image_with_the_opacity(siim, study, tmp_path, capfd):
    detector, coupling = tmp_path / "detector", tmp_path / "coupling.yaml"
    tiny = ("epochs=1", "image_size=64", "batch_size=8", "inference_size=64", "anchor_sizes=[9, 13, 18, 26]")
    config = CONFIGS / "demo" / "faster_rcnn_siim.yaml"
    weights = ("init_from=null", "weights=none")
    call("train-detector", config, *tiny, *weights, "--dataset", siim, "--out", detector, "--device", "cpu")
    text = (CONFIGS / "submit" / "s1.yaml").read_text()
    assert "study_from_images: mean" in text
    coupling.write_text(text.replace("study_from_images: mean", "study_from_images: opacity"))
    out = tmp_path / "submission.csv"
    runs = ("--detector", detector, "--study", study / "fold-0")
    call("submit", "--dataset", siim, *runs, "--split", "val", "--coupling", coupling, "--out", out)
    score = answer(capfd, "evaluate", out, "--dataset", siim, "--split", "val")
    val = [record for record in read_dataset(siim).records if record.split == "val"]
    assert (score["images"], score["studies"]) == (len(val), len({record.study_id for record in val}))
