"""Every report's recipe from its shipped YAML with overrides alone, on a few real images, as a user types it."""

import csv
import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from siimdet.cli import run
from siimdet.data.dataset import by_split
from siimdet.data.manifest import read_dataset
from siimdet.data.statistics import grey_statistics

pytestmark = pytest.mark.real_data

CONFIGS = Path(__file__).parents[2] / "configs"
RECIPES = CONFIGS / "recipes"
SMALL = ("epochs=1", "image_size=64", "batch_size=8", "workers=0", "weights=none")
RESNET = (*SMALL, "body=resnet18")
# ResNet-18 has other blocks than DenseNet; the overrides are those of docs/recipes.md.
COVID_CT = (
    *RESNET,
    "overfit_steps=2",
    "phases.supervised.trainable=[head, body.layer4, body.layer3]",
    "phases.contrastive.trainable=[embedding, body.layer4, body.layer3]",
    "phases.classifier.trainable=[embedding_head, embedding, body.layer4]",
)
# In place of the 65 million weights of S4's own network.
THREE_CLASS = (*SMALL, "body=simple_cnn")


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


def refused(capfd, *arguments: object) -> str:
    capfd.readouterr()
    call(*arguments, code=2)
    (line,) = [line for line in capfd.readouterr().err.splitlines() if line.startswith("siimdet: ")]
    return line


def train(config: Path, data: Path, out: Path, *overrides: str, command: str = "train-classifier") -> Path:
    call(command, config, *overrides, "--dataset", data, "--out", out, "--device", "cpu")
    return out


def journal(out: Path) -> list[dict]:
    return [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]


def card(out: Path) -> dict:
    return json.loads((out / "model.json").read_text())


def table(path: Path) -> tuple[list[str], list[str], list[float]]:
    """Header, ids and all probabilities of a classifier's CSV."""
    with open(path, newline="", encoding="utf-8") as stream:
        header, *rows = csv.reader(stream)
    return header, [row[0] for row in rows], [float(cell) for row in rows for cell in row[1:]]


@pytest.fixture(scope="module")
def covid_ct_run(covid_ct, tmp_path_factory) -> Path:
    return train(RECIPES / "covid_ct.yaml", covid_ct, tmp_path_factory.mktemp("s2") / "run", *COVID_CT)


def test_s2_goes_through_its_three_phases(covid_ct_run):
    entries = journal(covid_ct_run)
    assert [entry["phase"] for entry in entries] == ["supervised", "contrastive", "classifier"]
    assert 0 <= entries[1]["pair_auroc"] <= 1
    for phase in ("supervised", "contrastive", "classifier"):
        assert (covid_ct_run / "plots" / phase / "loss.png").stat().st_size > 0
    assert (covid_ct_run / "plots" / "overfit_one_batch.png").stat().st_size > 0
    assert [path.name for path in (covid_ct_run / "phases").iterdir()] == ["supervised"]
    assert card(covid_ct_run)["architecture"]["on"] == "embedding"
    assert card(covid_ct_run / "phases" / "supervised")["architecture"]["on"] == "body"


def test_s2_measures_the_grey_of_its_training_images(covid_ct, covid_ct_run):
    data = read_dataset(covid_ct)
    mean, std = grey_statistics(covid_ct, by_split(data, "train"), data.bit_depth)
    found = card(covid_ct_run)["architecture"]
    assert (found["mean"], found["std"]) == ([pytest.approx(mean)] * 3, [pytest.approx(std)] * 3)


@pytest.mark.parametrize("phase", ["phases/supervised", "."], ids=["supervised", "classifier"])
def test_s2_predicts_with_each_phase_as_it_validated(covid_ct, covid_ct_run, tmp_path, capfd, phase):
    out = tmp_path / "x.csv"
    call("predict", covid_ct_run / phase, "--dataset", covid_ct, "--split", "val", "--out", out)
    header, ids, values = table(out)
    assert (header, ids) == (["image_id", "NonCOVID", "COVID"], table(covid_ct_run / phase / "validation.csv")[1])
    # Training keeps images' channels last in memory, which rounds otherwise.
    assert values == pytest.approx(table(covid_ct_run / phase / "validation.csv")[2], abs=1e-5)
    score = answer(capfd, "evaluate", out, "--dataset", covid_ct, "--split", "val")
    kept = card(covid_ct_run / phase)["scores"]
    assert (score["images"], score["confusion"]) == (12, kept["confusion"])
    assert [score[name] for name in ("accuracy", "f1", "auroc")] == [kept[n] for n in ("accuracy", "f1", "auroc")]


def test_s2_takes_augmented_anchors_too(covid_ct, tmp_path):
    positives = "phases.contrastive.task.positives=augmented_anchor"
    train(RECIPES / "covid_ct.yaml", covid_ct, tmp_path / "run", *COVID_CT, "overfit_steps=0", positives)
    assert [entry["phase"] for entry in journal(tmp_path / "run")] == ["supervised", "contrastive", "classifier"]


@pytest.mark.parametrize(
    ("recipe", "phase"), [("three_class", "classifier"), ("three_class_two_stage", "second_stage")]
)
def test_s4_keeps_the_epoch_that_misses_fewest_covid_images(cxr3, tmp_path, recipe, phase):
    out = train(RECIPES / f"{recipe}.yaml", cxr3, tmp_path / "run", *THREE_CLASS, "epochs=3")
    epochs = [entry for entry in journal(out) if entry["phase"] == phase]
    missed = [(entry["classes"]["infected_covid"]["false_negatives"], entry["val_loss"]) for entry in epochs]
    assert len(missed) == 3
    assert (card(out)["phase"], card(out)["epoch"]) == (phase, missed.index(min(missed)))
    pictures = out / "plots" / (phase if recipe.endswith("two_stage") else ".")
    assert (pictures / "confusion.png").stat().st_size > 0


def test_s4_in_two_stages_trains_one_network_after_the_other(cxr3, tmp_path):
    out = train(RECIPES / "three_class_two_stage.yaml", cxr3, tmp_path / "run", *THREE_CLASS)
    first = load_file(out / "phases" / "first_stage" / "weights" / "best.safetensors")
    second = load_file(out / "weights" / "best.safetensors")
    moved = {name.partition(".")[0] for name in first if not torch.equal(first[name], second[name])}
    assert moved == {"second"}


def test_s5_resizes_progressively_and_its_phases_are_compared(covidx, tmp_path, capfd):
    sides = {"head_128": 64, "all_128": 64, "head_224": 96, "all_224": 96, "all_229": 101}
    overrides = [f"phases.{name}.image_size={side}" for name, side in sides.items()]
    out = train(RECIPES / "covid_resnet.yaml", covidx, tmp_path / "run", *RESNET, *overrides)
    assert [entry["phase"] for entry in journal(out)] == list(sides)
    found = {name: card(out / "phases" / name)["input"]["image_size"] for name in list(sides)[:-1]}
    assert {**found, "all_229": card(out)["input"]["image_size"]} == sides
    compared = answer(capfd, "compare", out, "--phases", "--dataset", covidx, "--split", "val", "--split", "test")
    rows = compared["rows"]
    assert [row["run"] for row in rows] == [*(str(out / "phases" / name) for name in list(sides)[:-1]), str(out)]
    assert [row["seconds"] for row in rows] == sorted(row["seconds"] for row in rows)
    scores = [card(Path(row["run"]))["scores"]["accuracy"] for row in rows]
    assert [row["splits"]["val"]["accuracy"] for row in rows] == scores
    assert list(rows[0]["splits"]["test"]["classes"]) == ["normal", "pneumonia", "COVID-19"]


@pytest.mark.parametrize(
    ("recipe", "data"),
    [
        ("covid_resnet_scratch", "covidx"),
        ("covid_resnet_simple_cnn", "covidx"),
        ("covid_vgg16_scratch", "covidx"),
        ("covid_ct_lite", "covid_ct"),
        ("ct_slices_densenet161", "covid_ct"),
        ("ct_slices_resnet152", "covid_ct"),
        ("ct_slices_vgg19", "covid_ct"),
    ],
)
def test_recipes_without_a_story_of_their_own_run(request, tmp_path, recipe, data):
    overrides = SMALL if recipe == "covid_resnet_simple_cnn" else RESNET
    out = train(RECIPES / f"{recipe}.yaml", request.getfixturevalue(data), tmp_path / "run", *overrides)
    phases = ["head", "whole"] if recipe == "covid_ct_lite" else ["classifier"]
    assert [entry["phase"] for entry in journal(out)] == phases
    assert ("patients" in card(out)) == recipe.startswith("ct_slices")


def test_the_backbone_learns_fourteen_findings(nih, tmp_path):
    config = CONFIGS / "backbone" / "resnext101_nih.yaml"
    out = train(config, nih, tmp_path / "run", *RESNET, command="train-backbone")
    call("predict", out, "--dataset", nih, "--split", "test", "--out", tmp_path / "x.csv")
    header, ids, _ = table(tmp_path / "x.csv")
    assert (len(header), len(ids)) == (15, len(by_split(read_dataset(nih), "test")))
    assert card(out)["architecture"]["activation"] == "sigmoid"


def test_a_backbone_gives_its_body_to_a_recipe(nih, covid_ct, tmp_path):
    config = CONFIGS / "backbone" / "resnext101_nih.yaml"
    out = train(config, nih, tmp_path / "backbone", *RESNET, command="train-backbone")
    frozen = (*RESNET, f"weights={out}", "trainable=[head]", "optimiser.lr=0.001")
    other = train(RECIPES / "covid_resnet_scratch.yaml", covid_ct, tmp_path / "run", *frozen)
    first, second = (load_file(each / "weights" / "best.safetensors") for each in (out, other))
    body = [name for name in first if name.startswith("body.")]
    assert len(body) == 120
    assert all(torch.equal(first[name], second[name]) for name in body)


@pytest.mark.parametrize(
    ("recipe", "overrides", "said"),
    [
        ("three_class", THREE_CLASS, "best.figure: found 'classes.infected_covid.false_negatives'"),
        ("three_class_two_stage", THREE_CLASS, "best.figure: found 'classes.infected_covid.false_negatives'"),
        (
            "three_class_two_stage",
            (*THREE_CLASS, "best={figure: accuracy}"),
            "groups: found classes normal, infected_covid, infected_non_covid, expected each of NonCOVID, COVID once",
        ),
        ("covid_ct", RESNET, "trainable: found 'body.features.denseblock4'"),
        ("covid_resnet", (*RESNET, "mean=[0.5]", "std=[0.5]"), "mean: found 1 numbers, expected 3"),
        ("ct_slices_fcn", (*SMALL, "image_size=32"), "places of the last maps: found 1, expected 2 or more"),
        ("ct_slices_vgg19", (*RESNET, "patients.slice_treshold=.5"), "expected slice_threshold (perhaps)"),
        ("covid_resnet", (*RESNET, "phases.all_230.epochs=1"), "found phase all_230, expected head_128 or"),
    ],
    ids=lambda value: value if isinstance(value, str) and "_" in value and " " not in value else "",
)
def test_a_recipe_refuses_what_does_not_fit(covid_ct, tmp_path, capfd, recipe, overrides, said):
    arguments = ("--dataset", covid_ct, "--out", tmp_path / "run", "--device", "cpu")
    assert said in refused(capfd, "train-classifier", RECIPES / f"{recipe}.yaml", *overrides, *arguments)


def test_a_recipe_of_exclusive_classes_refuses_findings(nih, tmp_path, capfd):
    arguments = ("--dataset", nih, "--out", tmp_path / "run", "--device", "cpu")
    said = refused(capfd, "train-classifier", RECIPES / "covid_resnet.yaml", *RESNET, *arguments)
    assert "expected exactly one of Atelectasis, Cardiomegaly" in said
    said = refused(capfd, "train-study", CONFIGS / "study" / "efficientnet_siim.yaml", *RESNET, *arguments)
    assert "labels: found nih, expected the classes of siim-study" in said


def test_phases_are_refused_before_the_first_trains(covid_ct, tmp_path, capfd):
    arguments = ("--dataset", covid_ct, "--out", tmp_path / "run", "--device", "cpu")
    wrong = (*COVID_CT, "overfit_steps=0", "phases.classifier.trainable=[body.features.denseblock4]")
    said = refused(capfd, "train-classifier", RECIPES / "covid_ct.yaml", *wrong, *arguments)
    assert "trainable: found 'body.features.denseblock4'" in said
    assert not (tmp_path / "run" / "metrics.jsonl").exists()
