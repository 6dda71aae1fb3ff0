"""Training Faster R-CNN on our loop, and the figures by which every detector is judged."""

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor, nn

from siimdet.augment import Augmenter
from siimdet.config import FasterRCNNTraining
from siimdet.core.distributed import by_first, rank, world
from siimdet.core.types import ImageRecord
from siimdet.data.loader import Batch, Samples, steps_per_epoch, training_batches
from siimdet.data.manifest import Dataset
from siimdet.errors import DatasetError
from siimdet.inference.predict import Detector, detect
from siimdet.models.weights import ModelSpec, build_model, init_body, init_model, save_model
from siimdet.scoring.detection import detector_figures
from siimdet.training.job import Job, Phase
from siimdet.training.loop import fit
from siimdet.training.plots import draw_curves
from siimdet.training.setup import autocast_type, build_optimiser, build_schedule, identity, provenance

CURVES = {"loss": ("train_loss",), "score": ("ap50", "f1", "precision", "recall")}


def train_faster_rcnn(
    config: FasterRCNNTraining,
    dataset: Dataset,
    train: Sequence[ImageRecord],
    val: Sequence[ImageRecord],
    run: Path,
    *,
    device: torch.device,
    resume: bool,
) -> None:
    """Train on `train`, keep the epoch whose AP@.5 on `val` is best."""
    spec = ModelSpec(
        "faster_rcnn",
        _architecture(config),
        dataset.classes,
        config.inference_size,
        config.resize,
        config.validation_batch_size,
    )
    torch.manual_seed(config.seed)
    model = build_model(spec)
    if config.init_from is not None:
        init_model(model, config.init_from, "faster_rcnn")
    else:
        init_body(cast(Any, model).detector.backbone.body, config.body, config.weights)
    model.to(device).to(memory_format=torch.channels_last)
    samples = Samples(
        dataset.root,
        training_images(dataset, train, only_positives=config.only_positives),
        dataset.boxes,
        side=config.image_size,
        resize=config.resize,
        augmentation=Augmenter(config.augment),
        seed=config.seed,
    )

    def losses(model: nn.Module, batch: Batch) -> dict[str, Tensor]:
        boxes = [values.to(device) for values in batch.boxes]
        class_ids = [values.to(device) for values in batch.class_ids]
        return model(batch.images.to(device, non_blocking=True), boxes, class_ids)

    def evaluate(model: nn.Module) -> dict[str, Any]:
        found = detect(
            cast(Detector, model),
            dataset,
            val,
            side=spec.image_size,
            resize=spec.resize,
            device=device,
            batch_size=config.validation_batch_size,
            workers=config.workers,
        )
        return detector_figures(dataset, val, found)

    def keep(model: nn.Module, figures: dict[str, Any]) -> None:
        save_model(run, spec, model.state_dict(), detector_facts(dataset, train, val, config.fold, figures))

    steps = steps_per_epoch(samples, config.batch_size)
    phase = Phase(
        name=config.kind,
        epochs=config.epochs,
        steps=steps,
        losses=losses,
        batches=lambda epoch, skip: training_batches(
            samples,
            batch_size=config.batch_size,
            epoch=epoch,
            skip=skip,
            workers=config.workers,
            part=(rank(), world()),
        ),
        evaluate=evaluate,
        score=lambda figures: figures["ap50"],
        keep=keep,
        optimiser=partial(build_optimiser, config.optimiser),
        learning_rate=build_schedule(config.schedule, config.optimiser.lr, epochs=config.epochs, steps=steps),
        amp=autocast_type(config.amp, device),
        gradient_clip=config.gradient_clip,
    )
    job = Job(model=model, device=device, phases=(phase,), seed=config.seed, identity=identity(config, dataset))
    fit(job, run, resume=resume)
    by_first(partial(draw_curves, run, CURVES))


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
        "epoch": figures["epoch"],
        "scores": figures,
        "operating_points": figures["operating_points"],
    }


def _architecture(config: FasterRCNNTraining) -> dict[str, Any]:
    return {
        "body": config.body,
        "mean": list(config.mean),
        "std": list(config.std),
        "finest_stage": config.finest_stage,
        "fpn_channels": config.fpn_channels,
        "box_head_features": config.box_head_features,
        "anchor_sizes": list(config.anchor_sizes),
        "anchor_ratios": list(config.anchor_ratios),
        "proposals": config.proposals,
        "training_regions": config.training_regions,
        "freeze_batch_norm": config.freeze_batch_norm,
        "nms_iou": config.nms_iou,
    }
