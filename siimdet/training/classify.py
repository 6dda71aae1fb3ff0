"""Training classifiers: the NIH backbone (multi-label) and the study level (one class of four)."""

import fnmatch
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from siimdet.augment import Augmenter
from siimdet.config import BackboneTraining, StudyTraining
from siimdet.core.labels import STUDY
from siimdet.core.types import ImageRecord
from siimdet.data.loader import Samples, steps_per_epoch, training_batches
from siimdet.data.manifest import Dataset
from siimdet.errors import ConfigError, DatasetError
from siimdet.inference.predict import classify
from siimdet.models.classifier import Classifier
from siimdet.models.weights import ModelSpec, build_model, init_body, save_model
from siimdet.scoring.classification import multiclass_score, multilabel_score
from siimdet.training.journal import draw_curves
from siimdet.training.loop import Job, fit
from siimdet.training.setup import build_optimiser, build_schedule, identity, provenance

CURVES = {"loss": ("train_loss", "val_loss"), "score": ("accuracy", "precision", "recall", "f1", "auroc", "ap")}


def train_classifier(
    config: BackboneTraining | StudyTraining,
    dataset: Dataset,
    train: Sequence[ImageRecord],
    val: Sequence[ImageRecord],
    run: Path,
    *,
    device: torch.device,
    resume: bool,
) -> None:
    """Train on `train`, keep the epoch that is best on `val`."""
    study = isinstance(config, StudyTraining)
    if study and dataset.labels.names != STUDY.names:
        raise DatasetError(dataset.root, "labels", found=dataset.labels.name, expected=f"the classes of {STUDY.name}")
    architecture: dict[str, Any] = {
        "body": config.body,
        "activation": "softmax" if study else "sigmoid",
        "mean": list(config.mean),
        "std": list(config.std),
    }
    if isinstance(config, StudyTraining):
        architecture |= {"hidden": config.hidden, "dropout": config.dropout}
    spec = ModelSpec("classifier", architecture, dataset.labels, config.image_size, config.resize, config.batch_size)
    torch.manual_seed(config.seed)
    model = cast(Classifier, build_model(spec))
    init_body(model.body, config.body, config.weights)
    frozen = freeze_all_but(model, config.trainable) if isinstance(config, StudyTraining) else ()
    model.to(device).to(memory_format=torch.channels_last)
    losses = _cross_entropy(_class_weights(config, train)) if isinstance(config, StudyTraining) else _binary_losses
    samples = Samples(
        dataset.root,
        train,
        dataset.boxes,
        side=config.image_size,
        resize=config.resize,
        augmentation=Augmenter(config.augment),
        seed=config.seed,
    )

    def evaluate(model: nn.Module) -> dict[str, Any]:
        return _figures(cast(Classifier, model), spec, dataset, val, device, config.workers)

    def keep(model: nn.Module, figures: dict[str, Any]) -> None:
        facts = provenance(dataset, train, val) | {"epoch": figures["epoch"], "scores": figures}
        save_model(run, spec, model.state_dict(), facts)

    job = Job(
        phase=config.kind,
        model=model,
        device=device,
        losses=lambda model, batch: losses(model(batch.images.to(device)), batch.labels.to(device)),
        batches=lambda epoch, skip: training_batches(
            samples, batch_size=config.batch_size, epoch=epoch, skip=skip, workers=config.workers
        ),
        evaluate=evaluate,
        best="accuracy" if study else "auroc",
        keep=keep,
        optimiser=build_optimiser(config.optimiser, model),
        learning_rate=build_schedule(config, steps_per_epoch(samples, config.batch_size)),
        epochs=config.epochs,
        frozen=frozen,
        amp=config.amp,
        gradient_clip=config.gradient_clip,
        seed=config.seed,
        identity=identity(config, dataset),
    )
    fit(job, run, resume=resume)
    draw_curves(run, CURVES)


def freeze_all_but(model: nn.Module, globs: Sequence[str]) -> tuple[nn.Module, ...]:
    """Let only modules that match a glob train; return those that must stay in evaluation mode.

    A module trains with everything below it: `head`, `body.layer4`, `body.layer?`.
    Raises: ConfigError for a glob that matches nothing.
    """
    trains: set[nn.Module] = set()
    for pattern in globs:
        matched = [module for name, module in model.named_modules() if fnmatch.fnmatchcase(name, pattern)]
        if not matched:
            names = ", ".join(name for name, _ in model.named_children())
            raise ConfigError("config", "trainable", found=repr(pattern), expected=f"a glob of modules below {names}")
        trains.update(below for module in matched for below in module.modules())
    if not any(True for module in trains for _ in module.parameters(recurse=False)):
        raise ConfigError("config", "trainable", found=", ".join(globs), expected="modules that have weights")
    frozen = tuple(module for module in model.modules() if module not in trains)
    for module in frozen:
        for parameter in module.parameters(recurse=False):
            parameter.requires_grad_(False)
    # A container above a module that trains must not put that one into evaluation mode.
    return tuple(module for module in frozen if not any(below in trains for below in module.modules()))


def _binary_losses(logits: Tensor, labels: Tensor) -> dict[str, Tensor]:
    known = ~labels.isnan()
    losses = functional.binary_cross_entropy_with_logits(logits.float(), labels.nan_to_num(), reduction="none")
    return {"bce": (losses * known).sum() / known.sum().clamp(min=1)}


def _cross_entropy(weights: Tensor | None) -> Callable[[Tensor, Tensor], dict[str, Tensor]]:
    def losses(logits: Tensor, labels: Tensor) -> dict[str, Tensor]:
        factors = None if weights is None else weights.to(logits.device)
        return {"cross_entropy": functional.cross_entropy(logits.float(), labels.argmax(1), factors)}

    return losses


def _class_weights(config: StudyTraining, records: Sequence[ImageRecord]) -> Tensor | None:
    if not config.class_weights:
        return None
    counts = np.array([record.labels for record in records]).sum(0)
    return torch.tensor(counts.sum() / (len(counts) * np.maximum(counts, 1)), dtype=torch.float32)


def _figures(
    model: Classifier,
    spec: ModelSpec,
    dataset: Dataset,
    records: Sequence[ImageRecord],
    device: torch.device,
    workers: int,
) -> dict[str, Any]:
    if not records:
        return {}
    found = classify(
        model, dataset, records, spec.classes, side=spec.image_size, resize=spec.resize, device=device, workers=workers
    )
    truth = np.array([record.labels for record in records])
    score = multiclass_score if model.activation == "softmax" else multilabel_score
    return {"val_loss": _validation_loss(found.values, truth, model.activation)} | score(
        found.values, truth, spec.classes
    ).as_dict()


def _validation_loss(values: np.ndarray, truth: np.ndarray, activation: str) -> float | None:
    known = ~np.isnan(truth)
    if not known.any():
        return None
    log = np.log(np.clip(values.astype(np.float64), 1e-7, 1))
    if activation == "softmax":
        return float(-(log * np.nan_to_num(truth)).sum(1).mean())
    other = np.log(np.clip(1 - values.astype(np.float64), 1e-7, 1))
    return float(-np.where(truth == 1, log, other)[known].mean())
