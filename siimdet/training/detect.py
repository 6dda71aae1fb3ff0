"""Training torchvision's detectors on our loop, and the figures by which every detector is judged."""

import inspect
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor, nn
from torchvision.models.detection.roi_heads import RoIHeads
from torchvision.models.detection.rpn import RegionProposalNetwork

from siimdet.augment import Augmenter
from siimdet.config import FasterRCNNTraining, FCOSTraining, RetinaNetTraining
from siimdet.config import Phase as PhaseConfig
from siimdet.core.distributed import by_first, rank, world
from siimdet.core.types import ImageRecord
from siimdet.data.cache import ImageCache
from siimdet.data.loader import Batch, Samples, steps_per_epoch, training_batches
from siimdet.data.manifest import Dataset
from siimdet.errors import DatasetError
from siimdet.inference.predict import Detector, detect
from siimdet.models.weights import BUILDERS, ModelSpec, build_model, init_model, init_trunk, save_model
from siimdet.scoring.detection import detector_figures
from siimdet.training.freezing import freeze_all_but
from siimdet.training.job import Job, Phase
from siimdet.training.keeping import archive_best
from siimdet.training.loop import fit
from siimdet.training.plots import draw_curves
from siimdet.training.setup import (
    autocast_type,
    begin_run,
    build_optimiser,
    build_schedule,
    identity,
    provenance,
    training_cache,
)

AnyDetector = FasterRCNNTraining | RetinaNetTraining | FCOSTraining
CURVES = {"loss": ("train_loss",), "score": ("ap50", "coco_ap", "f1", "precision", "recall")}


@dataclass(frozen=True, slots=True, eq=False)
class _Setting:
    """What the phases of one training have in common."""

    config: AnyDetector
    dataset: Dataset
    train: tuple[ImageRecord, ...]
    val: tuple[ImageRecord, ...]
    model: nn.Module
    spec: ModelSpec
    device: torch.device
    run: Path


def train_detector(
    config: AnyDetector,
    dataset: Dataset,
    train: Sequence[ImageRecord],
    val: Sequence[ImageRecord],
    run: Path,
    *,
    device: torch.device,
    resume: bool,
) -> None:
    """Train on `train`; of every phase the epoch is kept whose AP@.5 on `val` is best, of the run the last phase's."""
    images = training_images(dataset, train, only_positives=config.only_positives)
    spec = ModelSpec(
        config.kind,
        _architecture(config),
        dataset.classes,
        config.inference_size,
        config.resize,
        config.validation_batch_size,
    )
    torch.manual_seed(config.seed)
    model = build_model(spec)
    if config.init_from is not None and not resume:
        init_model(model, spec, config.init_from)
    elif not resume:
        init_trunk(cast(Any, model).detector.backbone.body, config.body, config.weights)
    model.to(device).to(memory_format=torch.channels_last)
    setting = _Setting(config, dataset, images, tuple(val), model, spec, device, run)
    phases = tuple(_phase(setting, name, phase) for name, phase in config.phases.items())
    for phase in reversed(phases):  # a glob that matches nothing is told before any phase trains
        phase.begin()
    job = Job(model=model, device=device, phases=phases, seed=config.seed, identity=identity(config, dataset))
    begin_run(config, images, val, run, device=device, resume=resume)
    fit(job, run, resume=resume)
    by_first(partial(draw_curves, run, CURVES))


def _phase(setting: _Setting, name: str, phase: PhaseConfig) -> Phase:
    config, dataset, device = setting.config, setting.dataset, setting.device
    samples = Samples(
        dataset.root,
        setting.train,
        dataset.boxes,
        side=phase.image_size,
        resize=config.resize,
        augmentation=Augmenter(phase.augment),
        seed=config.seed,
        cache=training_cache(config, dataset, side=phase.image_size, resize=config.resize),
    )
    steps = steps_per_epoch(samples, phase.batch_size)

    def losses(model: nn.Module, batch: Batch) -> dict[str, Tensor]:
        return model(batch.greys(device), *batch.targets(device))

    def keep(model: nn.Module, figures: dict[str, Any]) -> None:
        facts = detector_facts(dataset, setting.train, setting.val, config.fold, figures)
        save_model(setting.run, setting.spec, model.state_dict(), facts)

    last = name == list(config.phases)[-1]
    return Phase(
        name=name,
        epochs=phase.epochs,
        steps=steps,
        losses=losses,
        counts=lambda batch: {"dropped_boxes": batch.dropped_boxes},
        batches=lambda epoch, skip: training_batches(
            samples,
            batch_size=phase.batch_size,
            epoch=epoch,
            skip=skip,
            workers=config.workers,
            part=(rank(), world()),
            pin=device.type == "cuda",
        ),
        begin=partial(_begin, setting.model, phase.trainable),
        evaluate=partial(_evaluate, setting, samples.cache),
        score=lambda figures: figures["ap50"],
        keep=keep,
        finish=(lambda: None) if last else partial(archive_best, setting.run, name),
        optimiser=partial(build_optimiser, phase.optimiser),
        learning_rate=build_schedule(
            phase.schedule, phase.optimiser.lr, epochs=phase.epochs, steps=-(-steps // phase.accumulate)
        ),
        accumulate=phase.accumulate,
        ema=phase.ema,
        patience=phase.patience,
        amp=autocast_type(phase.amp, device),
        gradient_clip=phase.gradient_clip,
    )


def _begin(model: nn.Module, globs: Sequence[str]) -> tuple[nn.Module, ...]:
    """Let modules train; Faster R-CNN's two stages, which give losses in training mode alone, stay in it frozen too."""
    frozen = freeze_all_but(model, globs)
    return tuple(module for module in frozen if not isinstance(module, (RegionProposalNetwork, RoIHeads)))


def _evaluate(setting: _Setting, cache: ImageCache | None, model: nn.Module) -> dict[str, Any]:
    found = detect(
        cast(Detector, model),
        setting.dataset,
        setting.val,
        side=setting.spec.image_size,
        resize=setting.spec.resize,
        device=setting.device,
        batch_size=setting.spec.batch_size,
        workers=setting.config.workers,
        cache=cache,
    )
    return detector_figures(setting.dataset, setting.val, found)


def training_images(
    dataset: Dataset, records: Sequence[ImageRecord], *, only_positives: bool
) -> tuple[ImageRecord, ...]:
    """The images that a detector trains on; those without boxes are true negatives unless left out.

    Raises: DatasetError if none has a box.
    """
    positives = tuple(record for record in records if len(dataset.boxes[record.image_id]))
    if not positives:
        raise DatasetError(dataset.root, "boxes", found=f"none on {len(records)} images", expected="boxes to learn")
    return positives if only_positives else tuple(records)


def detector_facts(
    dataset: Dataset,
    train: Sequence[ImageRecord],
    val: Sequence[ImageRecord],
    fold: int | None,
    figures: dict[str, Any],
) -> dict[str, Any]:
    """What model.json says of a detector beyond its architecture."""
    return provenance(dataset, train, val, fold) | {
        "phase": figures["phase"],
        "epoch": figures["epoch"],
        "scores": figures,
        "operating_points": figures["operating_points"],
    }


def _architecture(config: AnyDetector) -> dict[str, Any]:
    """What the config says of the builder's arguments."""
    values = config.model_dump(mode="json")
    return {name: values[name] for name in inspect.signature(BUILDERS[config.kind]).parameters if name in values}
