"""Training a YOLO: ultralytics' network, targets, augmentations and moving average in a loop of our own.

Its trainer is left out. It keeps the position within an accumulated batch in a local variable, so that
no resumed run can equal an unbroken one; it halves the batch when memory is short, restarts after a
NaN, pickles whole fp16 models, and writes caches beside the data.
Every epoch starts from a seed made of `seed` and its number and ends with an optimiser step: what an
epoch does follows from the state on disk alone, and no generator's state has to be kept.
"""

import contextlib
import math
import random
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor, nn

from siimdet.data.cache import ImageCache
from siimdet.errors import ConfigError, UserError
from siimdet.models.determinism import deterministic_kernels
from siimdet.models.losses import NonFiniteLoss
from siimdet.models.state import check_identity, read_state, write_state
from siimdet.models.yolo import build_yolo, open_ultralytics
from siimdet.models.yolo_data import StretchedImages, epoch_loader, read_yolo_tree
from siimdet.models.yolo_loss import build_criterion
from siimdet.models.yolo_settings import YoloSettings

open_ultralytics()

from ultralytics.utils.torch_utils import ModelEMA  # noqa: E402  (only after the door)

_MAX_GRADIENT_NORM = 10.0
_LOSSES = {"box_loss": "box", "cls_loss": "class", "dfl_loss": "distribution", "l1_loss": "distribution"}


@dataclass(frozen=True, slots=True, eq=False)
class YoloEpoch:
    """What an epoch left behind."""

    epoch: int
    """From 0."""
    losses: dict[str, float]
    """Weighted losses per image, mean over the epoch: box, class, distribution."""
    lr: float
    """Learning rate of the weights at the last step."""
    seconds: float
    """Wall time of the training part."""
    model: nn.Module
    """The exponential moving average of the weights, in evaluation mode: predict with it, do not train it."""


def starting_model(settings: YoloSettings, *, num_classes: int) -> nn.Module:
    """The network that a training starts from, of weights drawn by its seed.

    Raises: ConfigError for an architecture or a side of the input that cannot be trained.
    """
    with _own_randomness(torch.device("cpu")):
        _seed(settings.seed, 0)
        model = build_yolo(settings.architecture, num_classes=num_classes)
    # The coarsest map needs whole cells, and more than one: batch norm has nothing to norm a single value by.
    stride = int(cast(Any, model).stride.max())
    if settings.image_size % stride or settings.image_size < 2 * stride:
        expected = f"a multiple of {stride} from {2 * stride} on, for {settings.architecture}"
        raise ConfigError("model", "image_size", found=settings.image_size, expected=expected)
    return model


def train_yolo(
    settings: YoloSettings,
    *,
    model: nn.Module,
    data_yaml: Path,
    out: Path,
    device: str,
    on_epoch: Callable[[YoloEpoch], float],
    save_best: Callable[[YoloEpoch, float], None],
    identity: str,
    resume: bool = False,
    cache: ImageCache | None = None,
) -> float:
    """Train `model` on the YOLO tree's `train` images and return the best score.

    `on_epoch` validates and returns the score (higher is better, NaN for none); `save_best` follows
    when it beats every earlier one, and after the first epoch; then out/state/last.pt is replaced.
    Nothing else is written. `identity` is what a state must have been written under to be resumed.
    Raises: DatasetError for a broken tree, RunError for a state that does not fit,
    NonFiniteLoss; the state on disk is then the last whole epoch's.
    """
    state_file = out / "state" / "last.pt"
    with _own_randomness(torch.device(device)):
        run = _Run(settings, model, data_yaml, torch.device(device), identity, cache)
        if resume:
            run.restore(state_file)
        while run.epoch < settings.epochs:
            result = run.train_epoch()
            score = on_epoch(result)
            if score > run.best or run.epoch == 0:  # a validation split without truth has no score, but a model
                run.best = score
                save_best(result, score)
            run.epoch += 1
            run.save(state_file)
    return run.best


class _Run:
    def __init__(
        self,
        settings: YoloSettings,
        model: nn.Module,
        data_yaml: Path,
        device: torch.device,
        identity: str,
        cache: ImageCache | None,
    ) -> None:
        tree = read_yolo_tree(data_yaml)
        self.settings, self.device, self.identity = settings, device, identity
        self.images = StretchedImages(tree, settings, cache=cache)
        self.model = model.to(device)
        for module in self.model.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.momentum = settings.norm_momentum
        self.criterion = build_criterion(self.model, settings)
        self.passes = math.ceil(len(tree.images) / settings.batch)
        self.accumulate = max(1, round(settings.nominal_batch / settings.batch))
        self.optimizer = _optimizer(self.model, settings, self.accumulate)
        self.amp = settings.amp and device.type == "cuda"
        self.scaler = torch.amp.GradScaler(device.type, enabled=self.amp)
        self.ema = ModelEMA(self.model)
        self.epoch = 0
        self.best = -math.inf

    def train_epoch(self) -> YoloEpoch:
        seed = _seed(self.settings.seed, self.epoch + 1)
        began, totals, waiting = time.perf_counter(), dict.fromkeys(_LOSSES.values(), 0.0), 0
        self.model.train()
        if hasattr(self.criterion, "update"):  # end-to-end models shift weight between their two heads
            self.criterion.updates = self.epoch - 1
            self.criterion.update()
        for index, batch in enumerate(
            epoch_loader(self.images, self.settings, seed=seed, pin_memory=self.device.type == "cuda")
        ):
            if isinstance(batch, UserError):
                raise batch
            step = self.epoch * self.passes + index
            accumulate = self._set_rates(step)
            for name, value in self._backward(batch, step).items():
                totals[_LOSSES[name]] += float(value) * len(batch["img"]) / len(self.images)
            waiting += 1
            if waiting >= accumulate or index + 1 == self.passes:
                self._optimizer_step()
                waiting = 0
        seconds = time.perf_counter() - began
        return YoloEpoch(self.epoch, totals, self.optimizer.param_groups[0]["lr"], seconds, self.ema.ema)

    def _set_rates(self, step: int) -> int:
        """Learning rates and momentum of a forward pass, counted over the run; returns passes per optimiser step."""
        s = self.settings
        cosine = (1 + math.cos(math.pi * self.epoch / s.epochs)) / 2
        target = s.lr * (cosine * (1 - s.final_lr_fraction) + s.final_lr_fraction)
        warm = min(1.0, step / s.warmup_iterations) if s.warmup_iterations else 1.0
        for group in self.optimizer.param_groups:
            start = s.warmup_bias_lr if group["kind"] == "bias" else 0.0
            group["lr"] = start + (target - start) * warm
            if "momentum" in group:
                group["momentum"] = s.warmup_momentum + (s.momentum - s.warmup_momentum) * warm
        return max(1, round(1 + (self.accumulate - 1) * warm))

    def _backward(self, batch: dict[str, Any], step: int) -> dict[str, Tensor]:
        with torch.autocast(self.device.type, dtype=torch.float16, enabled=self.amp):
            pixels = batch["img"].to(self.device, non_blocking=True).float() / 255
            losses, items = self.criterion(self.model(pixels), batch)
            loss = losses.sum()
        if not torch.isfinite(loss):
            ids = [Path(name).stem for name in batch["im_file"]]
            raise NonFiniteLoss(phase="yolo", epoch=self.epoch, step=step, loss=float(loss.detach()), image_ids=ids)
        self.scaler.scale(loss).backward()
        return items

    def _optimizer_step(self) -> None:
        self.scaler.unscale_(self.optimizer)
        nn.utils.clip_grad_norm_(self.model.parameters(), _MAX_GRADIENT_NORM)
        self.scaler.step(self.optimizer)
        self.scaler.update()
        self.optimizer.zero_grad()
        self.ema.update(self.model)

    def save(self, path: Path) -> None:
        """Replace the state on disk: tensors, numbers and strings only, so weights_only reads it."""
        state = {
            "identity": self.identity,
            "epoch": self.epoch,
            "best": self.best,
            "model": self.model.state_dict(),
            "ema": self.ema.ema.state_dict(),
            "ema_updates": self.ema.updates,
            "optimizer": self.optimizer.state_dict(),
            "scaler": self.scaler.state_dict(),
        }
        write_state(path, state)

    def restore(self, path: Path) -> None:
        """Continue after the last whole epoch on disk."""
        state = read_state(path)
        check_identity(path, state, self.identity)
        self.epoch, self.best = state["epoch"], state["best"]
        self.model.load_state_dict(state["model"])
        self.ema.ema.load_state_dict(state["ema"])
        self.ema.updates = state["ema_updates"]
        self.optimizer.load_state_dict(state["optimizer"])
        self.scaler.load_state_dict(state["scaler"])


def _optimizer(model: nn.Module, settings: YoloSettings, accumulate: int) -> torch.optim.Optimizer:
    kinds: dict[str, list[nn.Parameter]] = {"weight": [], "norm": [], "bias": []}
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:  # the distribution's bins are fixed
            kind = "bias" if name.endswith("bias") else "weight" if parameter.ndim > 1 else "norm"
            kinds[kind].append(parameter)
    decay = settings.weight_decay * settings.batch * accumulate / settings.nominal_batch
    groups = [{"params": p, "kind": k, "weight_decay": decay if k == "weight" else 0.0} for k, p in kinds.items()]
    if settings.optimizer == "adamw":
        return torch.optim.AdamW(groups, lr=settings.lr, betas=(settings.momentum, 0.999))
    return torch.optim.SGD(groups, lr=settings.lr, momentum=settings.momentum, nesterov=True)


def _seed(seed: int, epoch: int) -> int:
    value = int(np.random.SeedSequence([seed, epoch]).generate_state(1)[0])
    torch.manual_seed(value)
    return value


@contextlib.contextmanager
def _own_randomness(device: torch.device) -> Iterator[None]:
    """Deterministic kernels, and global generators (ultralytics augments from them) that come back as they were."""
    python, numpy = random.getstate(), np.random.get_state()
    try:
        with (
            torch.random.fork_rng(devices=[device] if device.type == "cuda" else []),
            deterministic_kernels(device),
        ):
            yield
    finally:
        random.setstate(python)
        np.random.set_state(numpy)
