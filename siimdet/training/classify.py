"""Training classifiers: the phases of a config on one model."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from siimdet.augment import Augmenter
from siimdet.config import Auxiliary, ClassifierPhase, ClassifierTraining, StudyTraining
from siimdet.core.distributed import by_first, rank, world
from siimdet.core.labels import STUDY
from siimdet.core.types import ImageRecord, LabelSpace
from siimdet.data.loader import Batch, Samples, steps_per_epoch, training_batches
from siimdet.data.manifest import Dataset
from siimdet.data.sampling import balancing_weights
from siimdet.data.triplets import TripletSamples
from siimdet.errors import DatasetError
from siimdet.inference.predict import Classifies, ClassPredictions, classify, embed
from siimdet.models.classifier import Classifier
from siimdet.models.image_classifier import ImageClassifier
from siimdet.models.weights import ModelSpec, build_model, init_body
from siimdet.training.figures import check_best, class_figures, embedding_figures, ranked
from siimdet.training.freezing import check_batch, freeze_all_but
from siimdet.training.job import Job, Phase
from siimdet.training.keeping import Keeper, architecture, draw_run
from siimdet.training.loop import fit
from siimdet.training.mixup import mixed
from siimdet.training.overfit import overfit_one_batch
from siimdet.training.setup import (
    autocast_type,
    begin_run,
    build_optimiser,
    build_schedule,
    identity,
    training_cache,
)
from siimdet.training.tasks import build_objective
from siimdet.training.truth import boxed_images, check_classes, exclusive_records, has_boxes


@dataclass(frozen=True, slots=True, eq=False)
class _Setting:
    """What the phases of one training have in common."""

    config: ClassifierTraining
    dataset: Dataset
    train: tuple[ImageRecord, ...]
    val: tuple[ImageRecord, ...]
    model: ImageClassifier
    device: torch.device
    run: Path
    architecture: Mapping[str, Any]


def train_classifier(
    config: ClassifierTraining,
    dataset: Dataset,
    train: Sequence[ImageRecord],
    val: Sequence[ImageRecord],
    run: Path,
    *,
    device: torch.device,
    resume: bool,
) -> None:
    """Train on `train`; of every phase the epoch is kept that is best on `val`, of the run that of the last phase."""
    exclusive = all(phase.task.name != "multilabel" for phase in config.phases.values())
    if isinstance(config, StudyTraining):
        if dataset.labels.names != STUDY.names:
            found, expected = dataset.labels.name, f"the classes of {STUDY.name}"
            raise DatasetError(dataset.root, "labels", found=found, expected=expected)
        train = boxed_images(dataset, train) if config.study_images == "boxed" else train
    if exclusive:
        train, val = (exclusive_records(dataset, part, name) for part, name in ((train, "train"), (val, "val")))
    check_classes(dataset, train, exclusive=exclusive)
    boxed = has_boxes(dataset, val) if isinstance(config, StudyTraining) and config.auxiliary.opacity else None
    for phase in config.phases.values():
        check_best(phase.best, val, dataset.labels, phase.task, config.patients, boxed)
    torch.manual_seed(config.seed)
    arguments = architecture(config, dataset, train)
    first = next(iter(config.phases.values()))
    model = cast(ImageClassifier, build_model(_spec(config, arguments, first, dataset.labels)))
    for body in () if resume else model.bodies():
        init_body(body, config.body, config.weights)
    model.to(device).to(memory_format=torch.channels_last)
    setting = _Setting(config, dataset, tuple(train), tuple(val), model, device, run, arguments)
    phases = tuple(_phase(setting, name, phase) for name, phase in config.phases.items())
    # A glob that matches nothing is told before any phase trains; the first one's turn comes last, and stays.
    frozen: tuple[nn.Module, ...] = ()
    for phase, settings in reversed(list(zip(phases, config.phases.values(), strict=True))):
        frozen = phase.begin()
        check_batch(model, frozen, batch_size=settings.batch_size, images=len(train), processes=world())
    begin_run(config, train, val, run, device=device, resume=resume)
    if config.overfit_steps and not resume:
        by_first(partial(_overfit, setting, phases[0], first, frozen))
    job = Job(model=model, device=device, phases=phases, seed=config.seed, identity=identity(config, dataset))
    fit(job, run, resume=resume)
    by_first(partial(draw_run, run))


def _phase(setting: _Setting, name: str, phase: ClassifierPhase) -> Phase:
    config, dataset = setting.config, setting.dataset
    samples = _samples(setting, phase, Augmenter(phase.augment))
    steps = steps_per_epoch(samples, phase.batch_size)
    auxiliary = config.auxiliary if isinstance(config, StudyTraining) else Auxiliary()
    objective = build_objective(phase.task, auxiliary, setting.train, dataset.labels, device=setting.device)
    spec = _spec(config, setting.architecture, phase, dataset.labels)
    keeper = Keeper(setting.run, name, spec, dataset, setting.train, setting.val, config)
    told: list[ClassPredictions] = []

    def evaluate(model: nn.Module) -> dict[str, Any]:
        if phase.task.name == "triplet":
            rows = embed(model, dataset, setting.val, **_reading(setting, phase, samples))
            return embedding_figures(rows, _class_ids(setting.val), phase.task)
        found = classify(
            cast(Classifies, model), dataset, setting.val, dataset.labels, **_reading(setting, phase, samples)
        )
        told[:] = [found]
        return class_figures(found, setting.val, has_boxes(dataset, setting.val), phase.task, config.patients)

    def keep(model: nn.Module, figures: dict[str, Any]) -> None:
        if phase.task.name != "triplet":
            keeper.keep(model, figures, told[0])

    last = name == list(config.phases)[-1]
    tells = phase.task.name != "triplet"
    return Phase(
        name=name,
        epochs=phase.epochs,
        steps=steps,
        losses=objective.losses,
        weight=objective.weight,
        batches=partial(_batches, setting, phase, samples),
        begin=partial(_begin, setting.model, phase),
        evaluate=evaluate,
        score=partial(ranked, phase.best),
        keep=keep,
        finish=partial(keeper.finish, archive=not last) if tells else lambda: None,
        optimiser=partial(build_optimiser, phase.optimiser),
        learning_rate=build_schedule(
            phase.schedule, phase.optimiser.lr, epochs=phase.epochs, steps=-(-steps // phase.accumulate)
        ),
        accumulate=phase.accumulate,
        ema=phase.ema,
        patience=phase.patience,
        amp=autocast_type(phase.amp, setting.device),
        gradient_clip=phase.gradient_clip,
    )


def _overfit(setting: _Setting, phase: Phase, settings: ClassifierPhase, frozen: tuple[nn.Module, ...]) -> None:
    samples = _samples(setting, settings, None)
    batch = next(training_batches(samples, batch_size=max(1, settings.batch_size // world()), epoch=0))
    overfit_one_batch(
        setting.model,
        phase,
        batch,
        frozen,
        steps=setting.config.overfit_steps,
        space=setting.dataset.labels,
        device=setting.device,
        run=setting.run,
    )


def _spec(
    config: ClassifierTraining, arguments: Mapping[str, Any], phase: ClassifierPhase, labels: LabelSpace
) -> ModelSpec:
    own = {**arguments, "on": phase.task.on}
    return ModelSpec("classifier", own, labels, phase.image_size, config.resize, config.validation_batch_size)


def _begin(model: nn.Module, phase: ClassifierPhase) -> tuple[nn.Module, ...]:
    """Let the phase's head tell the classes, and its modules train; those that its loss does not reach never do."""
    idle = ("embedding", "embedding_head")
    if phase.task.name == "triplet":
        idle = ("head", "embedding_head", "opacity_head", "mask_head")
    elif phase.task.on == "embedding":
        idle = ("head",)
    if isinstance(model, Classifier):
        model.on = phase.task.on
    return freeze_all_but(model, phase.trainable, idle=idle)


def _batches(setting: _Setting, phase: ClassifierPhase, samples: Samples, epoch: int, skip: int) -> Iterator[Batch]:
    labels = np.array([record.labels for record in setting.train])
    drawn: Samples | TripletSamples = samples
    if phase.task.name == "triplet":
        augmentation = Augmenter(phase.task.augment)
        drawn = TripletSamples(
            samples, _class_ids(setting.train), positives=phase.task.positives, augmentation=augmentation
        )
    batches = training_batches(
        drawn,
        batch_size=phase.batch_size,
        epoch=epoch,
        skip=skip,
        workers=setting.config.workers,
        part=(rank(), world()),
        weights=balancing_weights(labels) if phase.oversample else None,
        pin=setting.device.type == "cuda",
    )
    if phase.mixup is None:
        return batches
    return mixed(batches, alpha=phase.mixup, seed=setting.config.seed, epoch=epoch, skip=skip, rank=rank())


def _class_ids(records: Sequence[ImageRecord]) -> NDArray[np.int64]:
    return np.array([record.labels for record in records]).argmax(1)


def _reading(setting: _Setting, phase: ClassifierPhase, samples: Samples) -> dict[str, Any]:
    config = setting.config
    return {
        "side": phase.image_size,
        "resize": config.resize,
        "device": setting.device,
        "batch_size": config.validation_batch_size,
        "workers": config.workers,
        "cache": samples.cache,
    }


def _samples(setting: _Setting, phase: ClassifierPhase, augmenter: Augmenter | None) -> Samples:
    return Samples(
        setting.dataset.root,
        setting.train,
        setting.dataset.boxes,
        side=phase.image_size,
        resize=setting.config.resize,
        augmentation=augmenter,
        seed=setting.config.seed,
        cache=training_cache(setting.config, setting.dataset, side=phase.image_size, resize=setting.config.resize),
    )
