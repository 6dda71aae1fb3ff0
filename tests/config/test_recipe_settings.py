"""The figures of the reports behind S2 to S5, as the files under configs/recipes/ hold them."""

from fnmatch import fnmatchcase
from pathlib import Path

import pytest

from siimdet.config import Augment, ClassifierPhase, ClassifierTraining
from siimdet.config_file import load_config
from siimdet.training.setup import build_schedule

RECIPES = Path(__file__).parents[2] / "configs" / "recipes"
HALF, ZERO_TO_ONE = ((0.5,) * 3, (0.5,) * 3), ((0.0,) * 3, (1.0,) * 3)


def recipe(name: str) -> ClassifierTraining:
    return load_config(RECIPES / f"{name}.yaml", kinds=("classifier",))


def only_phase(config: ClassifierTraining) -> ClassifierPhase:
    (phase,) = config.phases.values()
    return phase


def learning(phase: ClassifierPhase) -> tuple:
    return phase.task.name, phase.optimiser.name, phase.optimiser.lr, phase.schedule.name


def test_covid_ct_is_a_densenet_169_with_an_embedding_by_three_linear_layers():
    config = recipe("covid_ct")
    assert (config.body, config.weights, config.mean, config.std) == ("densenet169", "imagenet", "dataset", "dataset")
    assert config.embedding is not None
    assert (len(config.embedding.hidden) + 1, config.embedding.size) == (3, 512)
    assert config.overfit_steps == 100
    assert list(config.phases) == ["supervised", "contrastive", "classifier"]


def test_covid_ct_augments_every_phase_by_crops_flips_rotation_and_colour():
    for phase in recipe("covid_ct").phases.values():
        happens = {key for key, value in phase.augment.model_dump().items() if value}
        assert happens == {"resized_crop", "horizontal_flip", "vertical_flip", "affine", "brightness_contrast"}
        assert (phase.augment.horizontal_flip, phase.augment.vertical_flip) == (0.7, 0.7)


def test_covid_ct_learns_classes_first():
    phase = recipe("covid_ct").phases["supervised"]
    assert learning(phase) == ("cross_entropy", "sgd", 0.007, "step")
    assert (phase.epochs, phase.batch_size, phase.task.on) == (3000, 128, "body")
    assert phase.trainable == ("head", "body.features.denseblock4", "body.features.denseblock3")
    assert (phase.best.figure, phase.best.highest) == ("auroc", True)


@pytest.mark.parametrize(
    ("epoch", "rate"), [(0, 0.007), (399, 0.007), (400, 0.0035), (1200, 0.000875), (2999, 0.007 / 128)]
)
def test_covid_ct_halves_its_first_rate_every_400_epochs(epoch, rate):
    phase = recipe("covid_ct").phases["supervised"]
    schedule = build_schedule(phase.schedule, phase.optimiser.lr, epochs=phase.epochs, steps=3)
    assert schedule(epoch, 2) == pytest.approx(rate, rel=1e-12)


def test_covid_ct_learns_an_embedding_by_triplets_next():
    phase = recipe("covid_ct").phases["contrastive"]
    assert learning(phase) == ("triplet", "sgd", 5e-4, "constant")
    assert (phase.epochs, phase.task.margin, phase.task.positives) == (300, 0.5, "same_class")
    assert 32 <= phase.batch_size <= 64
    assert phase.task.augment != phase.augment
    assert not any(fnmatchcase("head", glob) for glob in phase.trainable)
    assert phase.best.figure == "pair_auroc"


def test_covid_ct_takes_the_other_kind_of_triplets_by_one_override():
    config = load_config(
        RECIPES / "covid_ct.yaml", ["phases.contrastive.task.positives=augmented_anchor"], kinds=("classifier",)
    )
    assert config.phases["contrastive"].task.positives == "augmented_anchor"
    assert config.phases["contrastive"].task.augment.affine is not None


def test_covid_ct_learns_one_more_linear_layer_on_the_embedding_last():
    phase = recipe("covid_ct").phases["classifier"]
    assert learning(phase) == ("cross_entropy", "sgd", 3e-4, "constant")
    assert (phase.epochs, phase.task.on) == (220, "embedding")
    assert phase.trainable == ("embedding_head", "embedding", "body.features.denseblock4")
    assert phase.best.figure == "auroc"


@pytest.mark.parametrize(
    ("name", "body", "weights", "batch_size", "kernel"),
    [
        ("fcn", "slice_fcn", "none", 32, 2),
        ("densenet161", "densenet161", "imagenet", 64, None),
        ("resnet152", "resnet152", "imagenet", 64, None),
        ("vgg19", "vgg19", "imagenet", 64, None),
    ],
)
def test_ct_slices(name, body, weights, batch_size, kernel):
    config = recipe(f"ct_slices_{name}")
    phase = only_phase(config)
    assert (config.body, config.weights, config.head.kernel) == (body, weights, kernel)
    assert (config.mean, config.std) == (((0.5,), (0.5,)) if name == "fcn" else HALF)
    assert learning(phase) == ("cross_entropy", "adam", 1e-4, "constant")
    assert (phase.epochs, phase.image_size, phase.batch_size) == (5, 224, batch_size)
    assert config.patients is not None
    assert (config.patients.rule, config.patients.slice_threshold) == ("counts", 0.5)
    assert phase.best.figure == "accuracy"


def test_the_compared_ct_networks_differ_in_the_network_alone():
    first, *others = (recipe(f"ct_slices_{name}").model_dump() for name in ("densenet161", "resnet152", "vgg19"))
    assert all({**other, "body": first["body"]} == first for other in others)


@pytest.mark.parametrize("name", ["three_class", "three_class_two_stage"])
def test_three_class(name):
    config = recipe(name)
    assert (config.body, config.weights, config.mean, config.std) == ("vgg_150", "none", (0.5,), (0.5,))
    assert config.validation_batch_size == 32
    for phase in config.phases.values():
        assert learning(phase) == ("nll", "adam", 0.01, "constant")
        assert (phase.image_size, phase.batch_size, phase.epochs) == (150, 64, 30)
        shifts = {"affine": {"p": 1.0, "rotate": 0.0, "shift": 0.1}}
        assert phase.augment.model_dump() == {**Augment().model_dump(), **shifts}
    last = list(config.phases.values())[-1]
    assert (last.best.figure, last.best.highest) == ("classes.infected_covid.false_negatives", False)


def test_two_stages_are_two_networks_of_which_one_learns_at_a_time():
    config = recipe("three_class_two_stage")
    assert config.groups == {"normal": ("normal",), "infected": ("infected_covid", "infected_non_covid")}
    assert {name: phase.trainable for name, phase in config.phases.items()} == {
        "first_stage": ("first",),
        "second_stage": ("second",),
    }
    assert config.phases["first_stage"].best.model_dump() == {"figure": "val_loss", "goal": None}


def test_covid_resnet_resizes_progressively():
    config = recipe("covid_resnet")
    stages = {
        name: (phase.image_size, phase.epochs, phase.optimiser.lr, phase.trainable)
        for name, phase in config.phases.items()
    }
    assert list(stages.items()) == [
        ("head_128", (128, 3, 1e-3, ("head",))),
        ("all_128", (128, 5, 1e-3, ("*",))),
        ("head_224", (224, 3, 1e-4, ("head",))),
        ("all_224", (224, 5, 1e-4, ("*",))),
        ("all_229", (229, 5, 1e-5, ("*",))),
    ]
    assert (config.body, config.weights, (config.mean, config.std)) == ("resnet50", "imagenet", ZERO_TO_ONE)
    assert (config.head.hidden, config.head.input_norm, config.head.input_dropout) == ((256, 128, 64, 32), True, 0.5)


@pytest.mark.parametrize(
    ("name", "body", "weights"),
    [
        ("covid_resnet", "resnet50", "imagenet"),
        ("covid_resnet_scratch", "resnet50", "none"),
        ("covid_vgg16_scratch", "vgg16", "none"),
        ("covid_resnet_simple_cnn", "simple_cnn", "none"),
    ],
)
def test_covid_resnet_and_its_rivals_share_batch_optimiser_and_choice(name, body, weights):
    config = recipe(name)
    assert (config.body, config.weights) == (body, weights)
    assert sum(phase.epochs for phase in config.phases.values()) == 21
    for phase in config.phases.values():
        assert (phase.batch_size, phase.optimiser.name, phase.task.name) == (32, "adam", "cross_entropy")
        assert phase.best.model_dump() == {"figure": "accuracy", "goal": None}
        assert phase.augment == Augment()


@pytest.mark.parametrize("path", sorted(RECIPES.glob("*.yaml")), ids=lambda path: path.stem)
def test_every_recipe_is_scaled_down_by_two_overrides(path):
    phases = load_config(path, ["epochs=1", "image_size=64"], kinds=("classifier",)).phases
    assert {(phase.epochs, phase.image_size) for phase in phases.values()} == {(1, 64)}
