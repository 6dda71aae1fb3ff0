"""Training YOLO: the network, targets and augmentations of ultralytics, figures and files as for every detector."""

import logging
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from siimdet.config import YoloTraining
from siimdet.core.types import ImageRecord
from siimdet.data.manifest import Dataset
from siimdet.data.yolo import DATA_YAML, write_yolo_lists
from siimdet.inference.predict import detect
from siimdet.models.weights import ModelSpec, read_run_tensors, save_model
from siimdet.scoring.detection import detector_figures
from siimdet.training.detect import CURVES, detector_facts, training_images
from siimdet.training.journal import append_epoch, rewind_journal
from siimdet.training.loop import summary
from siimdet.training.plots import draw_curves
from siimdet.training.setup import identity, training_cache

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
    from siimdet.models.yolo_trainer import YoloEpoch, train_yolo

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
    images = training_images(dataset, train, only_positives=config.only_positives)
    data_yaml = run / "data" / DATA_YAML if resume else write_yolo_lists(run / "data", dataset, images, val)
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
        save_model(run, spec, detector.state_dict(), detector_facts(dataset, train, val, config.fold, last))

    train_yolo(
        settings,
        data_yaml=data_yaml,
        out=run,
        init_state=None if resume else _start(config.init_from),
        device=str(device),
        on_epoch=on_epoch,
        save_best=save_best,
        identity=identity(config, dataset),
        resume=resume,
        cache=cache,
    )
    draw_curves(run, CURVES)


def _start(source: Path | None) -> dict[str, Tensor] | None:
    """Weights of a run of ours, or of a file that the library published."""
    from siimdet.models.yolo import read_yolo_weights

    if source is None:
        return None
    if source.suffix in (".safetensors", ".pt"):
        return read_yolo_weights(source)
    return {key.removeprefix("network."): value for key, value in read_run_tensors(source).items()}
