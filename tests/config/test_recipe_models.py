"""Every shipped classifier can be built, and its globs say which of its modules learn."""

from functools import cache
from pathlib import Path

import pytest
import torch

from siimdet.config import Auxiliary, ClassifierTraining, StudyTraining
from siimdet.config_file import load_config
from siimdet.models.classifier import build_classifier
from siimdet.models.image_classifier import Activation, ImageClassifier
from siimdet.training.freezing import freeze_all_but

CONFIGS = Path(__file__).parents[2] / "configs"
CLASSES = {"backbone": 14, "study": 4, "covid_ct": 2, "ct_slices": 2, "three": 3, "covid_resnet": 3, "covid_vgg": 3}
SHIPPED = [path for folder in ("backbone", "study", "recipes") for path in sorted((CONFIGS / folder).glob("*.yaml"))]
ENDS: dict[str, Activation] = {"multilabel": "sigmoid", "nll": "log_softmax"}


def load(path: Path, *overrides: str) -> ClassifierTraining:
    return load_config(path, overrides, kinds=("backbone", "study", "classifier"))


def class_count(path: Path) -> int:
    (count,) = (n for name, n in CLASSES.items() if path.stem.startswith(name) or path.parent.name == name)
    return count


def build(config: ClassifierTraining, classes: int) -> ImageClassifier:
    """The model without memory for its weights: only names and shapes."""
    auxiliary = config.auxiliary if isinstance(config, StudyTraining) else Auxiliary()
    names = [name for group in (config.groups or {}).values() for name in group]
    groups = {group: [names.index(name) for name in members] for group, members in (config.groups or {}).items()}
    with torch.device("meta"):
        return build_classifier(
            config.body,
            num_classes=classes,
            activation=ENDS.get(list(config.phases.values())[-1].task.name, "softmax"),
            mean=[0.5] * 3 if config.mean == "dataset" else config.mean,
            std=[0.5] * 3 if config.std == "dataset" else config.std,
            head=config.head.model_dump(),
            embedding=config.embedding.model_dump() if config.embedding else None,
            groups=groups or None,
            opacity=bool(auxiliary.opacity),
            mask=bool(auxiliary.mask),
        )


@cache
def shipped(path: Path) -> ImageClassifier:
    return build(load(path), class_count(path))


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.stem)
def test_every_phase_of_a_shipped_file_names_modules_that_the_model_has(path):
    for phase in load(path).phases.values():
        freeze_all_but(shipped(path), phase.trainable)
        weights = list(shipped(path).parameters())
        assert any(tensor.requires_grad for tensor in weights)
        assert all(tensor.requires_grad for tensor in weights) == (phase.trainable == ("*",))


def test_three_class_has_as_many_parameters_as_the_report_says():
    model = shipped(CONFIGS / "recipes" / "three_class.yaml")
    assert sum(tensor.numel() for tensor in model.parameters()) == 65_090_499


DENSE = ("body.features.denseblock3", "body.features.denseblock4")


@pytest.mark.parametrize(
    ("body", "third", "fourth"),
    [
        ("densenet121", *DENSE),
        ("densenet161", *DENSE),
        ("densenet169", *DENSE),
        ("resnet18", "body.layer3", "body.layer4"),
        ("resnet50", "body.layer3", "body.layer4"),
        ("alexnet", "body.features.10", "body.classifier"),
    ],
)
def test_covid_ct_trains_its_heads_and_the_last_blocks_of_each_compared_body(body, third, fourth):
    """The overrides are those of docs/recipes.md; the DenseNets need none."""
    blocks = {
        "supervised": ("head", fourth, third),
        "contrastive": ("embedding", fourth, third),
        "classifier": ("embedding_head", "embedding", fourth),
    }
    overrides = [f"phases.{phase}.trainable=[{', '.join(globs)}]" for phase, globs in blocks.items()]
    config = load(CONFIGS / "recipes" / "covid_ct.yaml", f"body={body}", *([] if third == DENSE[0] else overrides))
    model = build(config, 2)
    for name, phase in config.phases.items():
        freeze_all_but(model, phase.trainable)
        learns = {weights for weights, tensor in model.named_parameters() if tensor.requires_grad}
        parts = tuple(f"{part}." for part in blocks[name])
        expected = {weights for weights, _ in model.named_parameters() if weights.startswith(parts)}
        assert learns == expected != set()
