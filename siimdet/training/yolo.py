"""Training YOLO: the network, targets and augmentations of ultralytics, figures and files as for every detector."""

import logging
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import nn

from siimdet.config import YoloTraining
from siimdet.core.types import ImageRecord
from siimdet.data.manifest import Dataset
from siimdet.data.yolo import DATA_YAML, check_depth, write_yolo_lists
from siimdet.inference.predict import detect
from siimdet.models.weights import WEIGHTS, ModelSpec, read_run_tensors, save_model
from siimdet.scoring.detection import detector_figures
from siimdet.training.detect import CURVES, detector_facts, training_images
from siimdet.training.journal import append_epoch, rewind_journal
from siimdet.training.loop import summary
from siimdet.training.plots import draw_curves
from siimdet.training.setup import begin_run, identity, training_cache

log = logging.getLogger(__name__)


def train_yolo_run(
    config: YoloTraining,
    dataset: Dataset,
    train: Sequence[ImageRecord],
    val: Sequence[ImageRecord],
    run: Path,
    *,
    device: torch.device,
    resume: bool,
) -> None:
    """Train on `train`, keep the epoch whose AP@.5 on `val` is best.

    Raises: MissingExtra without ultralytics; DatasetError for a 16-bit data set, which it cannot read.
    """
    from siimdet.models.yolo import YoloDetector
    from siimdet.models.yolo_settings import YoloSettings
    from siimdet.models.yolo_trainer import YoloEpoch, starting_model, train_yolo

    images = training_images(dataset, train, only_positives=config.only_positives)
    check_depth(dataset)
    settings = YoloSettings(
        batch=config.batch_size,
        **{
            name: getattr(config, name)
            for name in YoloSettings.__dataclass_fields__
            if name in YoloTraining.model_fields
        },
    )
    spec = ModelSpec(
        "yolo",
        {"architecture": config.architecture, "confidence": config.nms_confidence, "iou": config.nms_iou},
        dataset.classes,
        config.image_size,
        "stretch",
        config.batch_size,
    )
    model = starting_model(settings, num_classes=len(dataset.classes))
    if config.init_from is not None and not resume:
        _adopt(model, config.init_from)
    data_yaml = run / "data" / DATA_YAML if resume else write_yolo_lists(run / "data", dataset, images, val)
    begin_run(config, images, val, run, device=device, resume=resume)
    cache = training_cache(config, dataset, side=config.image_size, resize=spec.resize)
    last: dict[str, Any] = {}

    def on_epoch(epoch: YoloEpoch) -> float:
        if epoch.epoch == 0 or not last:
            rewind_journal(run, epoch.epoch)
        detector = YoloDetector(epoch.model, confidence=config.nms_confidence, iou=config.nms_iou)
        found = detect(
            detector,
            dataset,
            val,
            side=spec.image_size,
            resize=spec.resize,
            device=device,
            batch_size=spec.batch_size,
            workers=config.workers,
            cache=cache,
        )
        figures = {"phase": "yolo", "epoch": epoch.epoch, "lr": epoch.lr, "train_loss": sum(epoch.losses.values())}
        figures |= {f"train_{name}": value for name, value in epoch.losses.items()}
        figures |= detector_figures(dataset, val, found) | {"seconds": round(epoch.seconds, 2)}
        last.clear()
        last.update(figures)
        append_epoch(run, figures)
        log.info("%s", summary(figures, config.epochs))
        return -math.inf if figures["ap50"] is None else figures["ap50"]

    def save_best(epoch: YoloEpoch, score: float) -> None:
        detector = YoloDetector(epoch.model, confidence=config.nms_confidence, iou=config.nms_iou)
        save_model(run, spec, detector.state_dict(), detector_facts(dataset, images, val, config.fold, last))

    train_yolo(
        settings,
        model=model,
        data_yaml=data_yaml,
        out=run,
        device=str(device),
        on_epoch=on_epoch,
        save_best=save_best,
        identity=identity(config, dataset),
        resume=resume,
        cache=cache,
    )
    draw_curves(run, CURVES)


def _adopt(model: nn.Module, source: Path) -> None:
    """Start from a run of ours, its weights alone, or a file that the library published."""
    from siimdet.models.yolo import adopt_weights, read_yolo_weights

    file, state = (
        (source / WEIGHTS, read_run_tensors(source)) if source.is_dir() else (source, read_yolo_weights(source))
    )
    adopt_weights(model, {key.removeprefix("network."): value for key, value in state.items()}, file)
