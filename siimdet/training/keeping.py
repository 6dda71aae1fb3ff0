"""What a training leaves in its run: the best model of every phase; of a classifier its predictions and pictures."""

import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from torch import nn

from siimdet.config import ClassifierTraining, StudyTraining
from siimdet.core.files import atomic_write
from siimdet.core.types import ImageRecord, LabelSpace
from siimdet.data.manifest import Dataset
from siimdet.data.statistics import grey_statistics
from siimdet.data.table import read_table, write_table
from siimdet.errors import ConfigError, RunError
from siimdet.inference.predict import ClassPredictions
from siimdet.models.bodies import input_channels
from siimdet.models.weights import MODEL, WEIGHTS, ModelSpec, read_card, save_model
from siimdet.training.plots import draw_confusion, draw_curves, draw_roc_pr
from siimdet.training.setup import provenance

VALIDATION = "validation.csv"
"""What the best model said of the validation images."""
PHASES = "phases"
CURVES = {
    "loss": ("train_loss", "val_loss"),
    "score": ("accuracy", "precision", "recall", "f1", "auroc", "ap", "pair_auroc"),
}


def architecture(config: ClassifierTraining, dataset: Dataset, train: Sequence[ImageRecord]) -> dict[str, Any]:
    """Arguments of the builder; mean and deviation of the training images are computed where the config says so."""
    ends = {"multilabel": "sigmoid", "nll": "log_softmax"}
    arguments: dict[str, Any] = {
        "body": config.body,
        "activation": ends.get(list(config.phases.values())[-1].task.name, "softmax"),
        "mean": list(config.mean),
        "std": list(config.std),
        "head": config.head.model_dump(mode="json"),
        "flip_tta": config.flip_tta,
    }
    if config.mean == "dataset":
        mean, std = grey_statistics(dataset.root, train, dataset.bit_depth)
        channels = input_channels(config.body)
        arguments |= {"mean": [mean] * channels, "std": [std] * channels}
    if config.embedding is not None:
        arguments["embedding"] = config.embedding.model_dump(mode="json")
    if config.groups is not None:
        arguments["groups"] = _groups(config.groups, dataset.labels)
    if isinstance(config, StudyTraining):
        arguments |= {"opacity": bool(config.auxiliary.opacity), "mask": bool(config.auxiliary.mask)}
    return arguments


def _groups(groups: Mapping[str, Sequence[str]], labels: LabelSpace) -> dict[str, list[int]]:
    members = [each for classes in groups.values() for each in classes]
    if sorted(members) != sorted(labels.names):
        expected = f"each of {', '.join(labels.names)} once"
        raise ConfigError("config", "groups", found=f"classes {', '.join(members)}", expected=expected)
    return {name: [labels.index(each) for each in classes] for name, classes in groups.items()}


@dataclass(frozen=True, slots=True, eq=False)
class Keeper:
    """Writes the best model of one phase."""

    run: Path
    phase: str
    spec: ModelSpec
    dataset: Dataset
    train: Sequence[ImageRecord]
    val: Sequence[ImageRecord]
    config: ClassifierTraining

    def keep(self, model: nn.Module, figures: Mapping[str, Any], found: ClassPredictions) -> None:
        """Make this the run's best model, with what it said of the validation images."""
        facts = provenance(self.dataset, self.train, self.val, self.config.fold) | {
            "phase": self.phase,
            "epoch": figures["epoch"],
            "scores": dict(figures),
        }
        if self.config.patients is not None:
            threshold = figures["patients"]["threshold"]
            facts["patients"] = {**self.config.patients.model_dump(mode="json"), "threshold": threshold}
        header, rows = found.table()
        write_table(self.run / VALIDATION, header, rows)
        save_model(self.run, self.spec, model.state_dict(), facts)

    def finish(self, *, archive: bool) -> None:
        """Draw the phase's pictures; with `archive` keep its best model where the next phase's does not replace it."""
        folder = self.run / "plots" / self.phase if len(self.config.phases) > 1 else self.run / "plots"
        scores = read_card(self.run)["scores"]
        if scores["confusion"] is not None:
            draw_confusion(folder / "confusion.png", scores["confusion"], self.dataset.labels.names)
        names = self.dataset.labels.names
        cells = read_table(self.run / VALIDATION, ("image_id", *names), kind=RunError)
        values = np.array([[float(cell) for cell in row] for _, row in cells.select(*names)])
        draw_roc_pr(folder, values, np.array([record.labels for record in self.val]), self.dataset.labels)
        if archive:
            archive_best(self.run, self.phase, (VALIDATION,))


def archive_best(run: Path, phase: str, further: Sequence[str] = ()) -> None:
    """Copy a run's best model, and further files of it, to where the next phase's does not replace them."""
    for name in (WEIGHTS, MODEL, *further):
        with open(run / name, "rb") as source, atomic_write(run / PHASES / phase / name, "wb") as copy:
            shutil.copyfileobj(source, copy)


def draw_run(run: Path) -> None:
    """The curves of a classifier's run, over all phases and of each."""
    draw_curves(run, CURVES)
