"""Phases: what they share, what an override reaches, and which settings do not go together."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from siimdet.config import Augment, Best, ClassifierPhase, ClassifierTraining
from siimdet.config_file import dump_config, load_config
from siimdet.errors import ConfigError

CONFIGS = Path(__file__).parents[2] / "configs"
COVID_CT = CONFIGS / "recipes" / "covid_ct.yaml"
TWO_STAGE = CONFIGS / "recipes" / "three_class_two_stage.yaml"
FCN = CONFIGS / "recipes" / "ct_slices_fcn.yaml"
STUDY = CONFIGS / "study" / "efficientnet_siim.yaml"
BACKBONE = CONFIGS / "demo" / "backbone.yaml"
TWO_PHASES = """
kind: classifier
resize: stretch
mean: [0.5]
std: [0.5]
body: simple_cnn
weights: none
epochs: 4
image_size: 64
batch_size: 8
task: {name: cross_entropy, label_smoothing: 0.1}
optimiser: {name: sgd, lr: 0.1, momentum: 0.8}
schedule: {name: constant}
best: {figure: accuracy}
amp: false
trainable: [head]
augment: {horizontal_flip: 0.5, affine: {p: 0.5, rotate: 10}}
phases:
  shared:
  own:
    epochs: 2
    trainable: ["*"]
    optimiser: {lr: 0.01}
    augment: {blur: 0.2, affine: {rotate: 5}}
    best: {goal: lowest}
"""


def load(path: Path, *overrides: str) -> ClassifierTraining:
    return load_config(path, overrides, kinds=("classifier", "backbone", "study"))


def refusal(path: Path, *overrides: str) -> str:
    with pytest.raises(ConfigError) as caught:
        load(path, *overrides)
    line = str(caught.value)
    assert len(line.splitlines()) == 1
    return line.removeprefix(f"{path}: ")


@pytest.fixture
def two_phases(tmp_path) -> Path:
    path = tmp_path / "two.yaml"
    path.write_text(TWO_PHASES)
    return path


def test_an_empty_phase_is_what_stands_beside_phases(two_phases):
    phase = load(two_phases).phases["shared"]
    assert (phase.epochs, phase.trainable, phase.optimiser.lr, phase.optimiser.momentum) == (4, ("head",), 0.1, 0.8)
    assert phase.augment.model_dump(exclude_defaults=True) == {
        "horizontal_flip": 0.5,
        "affine": {"p": 0.5, "rotate": 10.0},
    }


def test_a_phases_mapping_merges_key_by_key_at_every_depth_and_a_list_replaces(two_phases):
    phase = load(two_phases).phases["own"]
    assert (phase.epochs, phase.image_size, phase.trainable) == (2, 64, ("*",))
    assert (phase.optimiser.name, phase.optimiser.lr, phase.optimiser.momentum) == ("sgd", 0.01, 0.8)
    assert phase.augment.model_dump(exclude_defaults=True) == {
        "horizontal_flip": 0.5,
        "blur": 0.2,
        "affine": {"p": 0.5, "rotate": 5.0},
    }
    assert (phase.best.figure, phase.best.goal) == ("accuracy", "lowest")


def test_phases_keep_their_order_and_the_file_its_own_keys(two_phases):
    config = load(two_phases)
    assert list(config.phases) == ["shared", "own"]
    assert not set(ClassifierPhase.model_fields) & set(type(config).model_fields)


def test_a_file_without_phases_is_one_named_after_its_kind():
    assert list(load(BACKBONE).phases) == ["backbone"]
    assert list(load(STUDY).phases) == ["study"]
    assert list(load(FCN).phases) == ["classifier"]


def test_an_override_without_a_phase_reaches_them_all():
    phases = load(COVID_CT, "epochs=1", "image_size=64", "batch_size=4").phases.values()
    assert [(phase.epochs, phase.image_size, phase.batch_size) for phase in phases] == [(1, 64, 4)] * 3


def test_an_override_with_a_phase_reaches_that_one():
    config = load(COVID_CT, "phases.contrastive.epochs=2", "phases.contrastive.optimiser.momentum=0.5")
    assert [phase.epochs for phase in config.phases.values()] == [3000, 2, 220]
    assert [phase.optimiser.momentum for phase in config.phases.values()] == [0.9, 0.5, 0.9]


def test_a_nested_override_without_a_phase_takes_the_place_of_every_phases_own():
    phases = load(COVID_CT, "optimiser.lr=0.25", "best.figure=val_loss").phases
    assert [phase.optimiser.lr for phase in phases.values()] == [0.25] * 3
    assert [phase.best.figure for phase in phases.values()] == ["val_loss"] * 3
    assert [phase.schedule.step_every for phase in phases.values()] == [400, 1, 1]


def test_a_whole_mapping_takes_the_place_of_every_phases_own():
    phases = load(COVID_CT, "optimiser={name: adamw, lr: 0.5}").phases.values()
    assert [(phase.optimiser.name, phase.optimiser.lr) for phase in phases] == [("adamw", 0.5)] * 3


def test_of_two_overrides_the_later_one_wins():
    special_last = load(COVID_CT, "epochs=1", "phases.contrastive.epochs=2").phases.values()
    general_last = load(COVID_CT, "phases.contrastive.epochs=2", "epochs=1").phases.values()
    assert [phase.epochs for phase in special_last] == [1, 2, 1]
    assert [phase.epochs for phase in general_last] == [1, 1, 1]


def test_an_override_of_the_file_itself_leaves_the_phases():
    config = load(COVID_CT, "body=resnet18", "head.hidden=[8]")
    assert (config.body, config.head.hidden, config.phases) == ("resnet18", (8,), load(COVID_CT).phases)


@pytest.mark.parametrize("path", [COVID_CT, TWO_STAGE, STUDY], ids=lambda path: path.stem)
def test_the_dump_loads_to_the_same_and_takes_overrides_as_well(path, tmp_path):
    config = load(path, "epochs=3", "augment={}")
    written = tmp_path / "config.yaml"
    written.write_text(dump_config(config))
    assert load(written) == config
    again = load(written, "epochs=7").phases.values()
    assert {phase.epochs for phase in again} == {7}
    assert {phase.augment == Augment() for phase in again} == {True}


def test_an_unknown_phase_is_one_line():
    assert refusal(COVID_CT, "phases.contrastiv.epochs=2") == (
        "override 'phases.contrastiv.epochs=2': found phase contrastiv, "
        "expected supervised or contrastive or classifier"
    )
    assert refusal(BACKBONE, "phases.backbone.epochs=2").endswith(
        "found phase backbone, expected none: the file is one phase, whose keys stand at the top"
    )


@pytest.mark.parametrize(
    ("overrides", "line"),
    [
        (["phases=3"], "phases: found 3, expected a valid dictionary"),
        (["phases=3", "phases.x=1"], "override 'phases.x=1': found phases is a int, expected a mapping"),
        (["phases={1: {}}", "phases.x=1"], "override 'phases.x=1': found phase x, expected 1"),
        (
            ["phases.contrastive=3"],
            "phases.contrastive: found 3, expected a valid dictionary or instance of ClassifierPhase",
        ),
        (["phases={Big: {}}"], "phases.Big.[key]: found 'Big', expected String should match"),
        (
            ["phases.contrastive.epocs=3"],
            "phases.contrastive.epocs: found a key that is not in the schema, expected ep",
        ),
    ],
)
def test_phases_that_are_none_are_one_line(overrides, line):
    assert refusal(COVID_CT, *overrides).startswith(line)


@pytest.mark.parametrize(
    ("path", "overrides", "line"),
    [
        (COVID_CT, ["mixup=0.2"], "phases.contrastive: found mixup with triplets, expected null"),
        (COVID_CT, ["phases.classifier.task={name: triplet}"], "content: found a last phase of triplets, expected one"),
        (COVID_CT, ["embedding="], "content: found a task on the embedding, expected `embedding` to be given"),
        (FCN, ["task.on=embedding"], "content: found a task on the embedding, expected `embedding` to be given"),
        (
            COVID_CT,
            ["phases.supervised.task.name=nll"],
            "content: found tasks cross_entropy, nll, expected one way to tell classes",
        ),
        (COVID_CT, ["std=[1, 1, 1]"], "content: found one of mean and std from the data set, expected both or none"),
        (FCN, ["mean=[0.5, 0.5, 0.5]"], "content: found 3 numbers in mean and 1 in std, expected as many"),
        (FCN, ["head.dropout=0.5"], "head: found a kernel among linear layers, expected one of the two kinds of head"),
        (
            FCN,
            ["task.name=multilabel", "task.label_smoothing=0.1"],
            "task: found label_smoothing with multilabel",
        ),
        (FCN, ["optimiser={name: sgd, lr: 1, momentum: 0, nesterov: true}"], "optimiser: found nesterov without mom"),
        (
            FCN,
            ["schedule={name: one_cycle, warmup_steps: 5}"],
            "schedule: found warmup_steps with one_cycle",
        ),
        (TWO_STAGE, ["task.name=cross_entropy"], "content: found groups without the task nll, expected it"),
        (
            TWO_STAGE,
            ["embedding={hidden: [], size: 4}"],
            "content: found groups with an embedding",
        ),
        (
            TWO_STAGE,
            ["groups.normal=[normal, infected_covid]"],
            "content: found groups of normal, infected_covid, infected_covid, infected_non_covid, expected every class",
        ),
        (
            TWO_STAGE,
            ["groups.normal=[]"],
            "content: found groups of infected_covid, infected_non_covid, expected",
        ),
        (STUDY, ["mixup=0.2"], "content: found mixup with auxiliary, expected one of them"),
        (
            STUDY,
            ["task={name: nll}", "groups={a: [negative], b: [typical]}"],
            "content: found groups with auxiliary, expected one of them",
        ),
    ],
)
def test_settings_that_do_not_go_together_are_refused(path, overrides, line):
    assert refusal(path, *overrides).startswith(line)


def test_triplets_first_leave_no_batch_to_learn_by_heart():
    line = refusal(COVID_CT, "phases.supervised.task={name: triplet}")
    assert line.startswith("content: found overfit_steps before triplets, expected 0")
    load(COVID_CT, "phases.supervised.task={name: triplet}", "overfit_steps=0")


def test_mixup_goes_with_a_study_that_learns_no_boxes():
    assert load(STUDY, "auxiliary={}", "mixup=0.2").phases["study"].mixup == 0.2


KEYS = ["phases", "phases.contrastive", "phases.contrastive.task", "optimiser", "mean", "groups", "trainable", "best"]


@given(key=st.sampled_from(KEYS), value=st.text("abk.=[]{}:,'\"1e-&*!~?|>% \n", max_size=20))
def test_whatever_is_typed_gives_a_config_or_one_line(key, value):
    try:
        load(COVID_CT, f"{key}={value}", "epochs=1", "phases.contrastive.epochs=2")
    except ConfigError as error:
        assert len(str(error).splitlines()) == 1


@pytest.mark.parametrize(
    ("best", "highest"),
    [
        ({"figure": "auroc"}, True),
        ({"figure": "val_loss"}, False),
        ({"figure": "train_loss"}, False),
        ({"figure": "classes.COVID.false_negatives"}, False),
        ({"figure": "classes.COVID.ece"}, False),
        ({"figure": "patients.f1"}, True),
        ({"figure": "val_loss", "goal": "highest"}, True),
    ],
)
def test_the_better_figure_is_the_lower_one_of_losses_false_counts_and_calibration_errors(best, highest):
    assert Best.model_validate(best).highest is highest
