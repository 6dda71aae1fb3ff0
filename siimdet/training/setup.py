"""What every training sets up alike: optimiser, schedule, and where its data and code come from."""

import importlib.metadata
import logging
import subprocess
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import nn

import siimdet
from siimdet.config import Amp, AnyTraining, Optimiser, Schedule, Training
from siimdet.config_file import dump_config
from siimdet.core.distributed import by_first, rank
from siimdet.core.files import atomic_write
from siimdet.core.types import ImageRecord
from siimdet.data.cache import ImageCache, open_cache
from siimdet.data.manifest import Dataset, by_split
from siimdet.data.placement import Resize
from siimdet.errors import RunError
from siimdet.training.schedules import LearningRate, constant, cosine_floor, one_cycle, stepped, warmed_up

log = logging.getLogger(__name__)

CONFIG = "config.yaml"


def begin_run(
    config: AnyTraining,
    train: Sequence[ImageRecord],
    val: Sequence[ImageRecord],
    run: Path,
    *,
    device: torch.device,
    resume: bool,
) -> None:
    """Log how many images are trained on, and write config.yaml; called after the checks, so refusals leave none."""
    if rank() == 0:
        log.info("%s: %d images to train on, %d to validate, on %s", config.kind, len(train), len(val), device)
    if not resume:
        by_first(partial(_write_config, run, config))


def _write_config(run: Path, config: AnyTraining) -> None:
    with atomic_write(run / CONFIG) as stream:
        stream.write(dump_config(config))


def build_optimiser(settings: Optimiser, model: nn.Module) -> torch.optim.Optimizer:
    """An optimiser over the parameters that train."""
    parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
    if settings.name == "adam":
        return torch.optim.Adam(parameters, lr=settings.lr, weight_decay=settings.weight_decay)
    if settings.name == "adamw":
        return torch.optim.AdamW(parameters, lr=settings.lr, weight_decay=settings.weight_decay)
    return torch.optim.SGD(
        parameters,
        lr=settings.lr,
        momentum=settings.momentum,
        nesterov=settings.nesterov,
        weight_decay=settings.weight_decay,
    )


def build_schedule(schedule: Schedule, lr: float, *, epochs: int, steps: int) -> LearningRate:
    """The learning rate of `epochs` epochs with `steps` optimiser steps each."""
    if schedule.name == "one_cycle":
        return one_cycle(lr, epochs=epochs, steps=steps)
    if schedule.name == "cosine_floor":
        rate = cosine_floor(lr, epochs=epochs, floor=schedule.floor, step_every=schedule.step_every)
    elif schedule.name == "step":
        rate = stepped(lr, gamma=schedule.gamma, step_every=schedule.step_every)
    else:
        rate = constant(lr)
    return warmed_up(rate, warmup_steps=schedule.warmup_steps, steps=steps) if schedule.warmup_steps else rate


def training_cache(config: Training, dataset: Dataset, *, side: int, resize: Resize) -> ImageCache | None:
    """The images of the data set at the side of a phase, where the config asks for them to be kept."""
    return None if config.cache is None else open_cache(config.cache, dataset, side=side, resize=resize)


def autocast_type(amp: Amp, device: torch.device) -> torch.dtype | None:
    """What autocast computes in, for true fp16 on CUDA and bf16 on the CPU.

    Raises: RunError for what a device lacks.
    """
    if amp is False:
        return None
    if device.type == "mps" or (device.type == "cpu" and amp == "fp16"):
        raise RunError("config", "amp", found=f"{str(amp).lower()} on {device.type}", expected="amp=false there")
    return torch.float16 if amp == "fp16" or (amp is True and device.type == "cuda") else torch.bfloat16


def identity(config: Training, dataset: Dataset) -> str:
    """What a state remembers of its training: config and data, less what changes no number: how images are loaded."""
    same = config.model_copy(update={"workers": 0, "cache": None})
    return f"{dump_config(same)}data: {dataset.fingerprint}\n"


def provenance(
    dataset: Dataset, train: Sequence[ImageRecord], val: Sequence[ImageRecord], fold: int | None
) -> dict[str, Any]:
    """What model.json says of data, versions and code; how many patients of the training images are in val and test."""
    packages = ("torch", "torchvision", "numpy")
    mine = {record.patient_id for record in train}
    others = {"val": val, "test": by_split(dataset, "test")}
    splits = dataset.details.get("splits")
    return {
        "fold": fold,
        "data": {
            "split_by": splits.get("split_by") if isinstance(splits, dict) else None,
            "shared_patients": {name: len(mine & {r.patient_id for r in part}) for name, part in others.items()},
            "source": dataset.source,
            "fingerprint": dataset.fingerprint,
            "mixed_in": dataset.details.get("mixed_in", []),
            "train_images": len(train),
            "val_images": len(val),
        },
        "versions": {"siimdet": siimdet.__version__, **{p: importlib.metadata.version(p) for p in packages}},
        "git": _git_hash(),
    }


def _git_hash() -> str | None:
    """Commit of the checkout that siimdet runs from; None for an installed wheel."""
    root = Path(siimdet.__file__).parents[1]
    if not (root / ".git").exists():
        return None
    command = ["git", "-C", str(root), "rev-parse", "--verify", "--quiet", "HEAD"]
    answer = subprocess.run(command, capture_output=True, text=True, check=False)
    return answer.stdout.strip() or None
