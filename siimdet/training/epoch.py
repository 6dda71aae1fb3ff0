"""One epoch of a phase: forward, backward, step, over one process or many."""

import contextlib
import math
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field
from typing import Any

import torch
from torch import nn

from siimdet.core.distributed import gathered, summed, world
from siimdet.data.loader import Batch
from siimdet.errors import UserError
from siimdet.models.losses import NonFiniteLoss
from siimdet.training.job import Engine, Phase

TERMINATED = 128 + 15
"""Exit code after SIGTERM."""


@dataclass(slots=True)
class Progress:
    """Where a training stands: what a state remembers beside weights."""

    phase: int = 0
    epoch: int = 0
    step: int = 0
    """Batches done in this epoch."""
    entries: int = 0
    """Epochs done in all phases: lines of the journal."""
    stale: int = 0
    """Epochs since the best one."""
    best: list[float] = field(default_factory=lambda: [-math.inf, -math.inf])
    totals: dict[str, list[float]] = field(default_factory=dict)
    """Per loss the sums over the batches done of loss x weight and of weight."""
    counts: dict[str, int] = field(default_factory=dict)
    """Sums over the batches done, of all processes."""

    def means(self) -> dict[str, float]:
        """Mean losses of the epoch and their sum, as the journal names them, and its counts."""
        means = {name: total / weight if weight else 0.0 for name, (total, weight) in self.totals.items()}
        losses = {f"train_{name}": value for name, value in means.items()}
        return {"train_loss": sum(means.values()), **losses, **self.counts}

    def next_epoch(self, *, better: bool) -> None:
        """Begin the next epoch."""
        self.epoch, self.step, self.totals, self.counts = self.epoch + 1, 0, {}, {}
        self.entries, self.stale = self.entries + 1, 0 if better else self.stale + 1

    def next_phase(self) -> None:
        """Begin the next phase."""
        self.phase, self.epoch, self.stale, self.best = self.phase + 1, 0, 0, [-math.inf, -math.inf]

    def as_dict(self) -> dict[str, Any]:
        """For the state."""
        return asdict(self)


def train_epoch(
    phase: Phase,
    engine: Engine,
    device: torch.device,
    progress: Progress,
    *,
    stopped: Callable[[], bool],
    save: Callable[[], None],
) -> list[str]:
    """The rest of an epoch; `progress` moves on with every batch. Returns the ids of the last one.

    When the process is asked to stop, or an image cannot be read, the state is saved first.
    Raises: NonFiniteLoss, the UserError of an image, SystemExit after SIGTERM; in every process.
    """
    engine.trained.train()
    for module in engine.frozen:
        module.eval()
    engine.optimiser.zero_grad()
    ids: list[str] = []
    for batch in _agreed(phase.batches(progress.epoch, progress.step), phase, progress, stopped, save):
        place = progress.step % phase.accumulate
        group = min(phase.accumulate, phase.steps - (progress.step - place))
        last = place == group - 1
        spread = contextlib.nullcontext() if last or world() == 1 else engine.trained.no_sync()  # type: ignore[operator]
        with spread:
            _backward(phase, engine, device, batch, progress, group)
        if last:
            _step(phase, engine, progress)
        progress.step += 1
        ids = batch.ids
    return ids


def check_weights(model: nn.Module, phase: Phase, progress: Progress, image_ids: list[str]) -> None:
    """Raise NonFiniteLoss if the last step of an epoch left a weight or a statistic of NaN or infinity."""
    values = (value for value in model.state_dict().values() if value.is_floating_point())
    if not all(torch.isfinite(value).all() for value in values):
        step = max(0, progress.step - 1)
        raise NonFiniteLoss(phase=phase.name, epoch=progress.epoch, step=step, loss=math.nan, image_ids=image_ids)


def _agreed(
    batches: Iterator[Batch],
    phase: Phase,
    progress: Progress,
    stopped: Callable[[], bool],
    save: Callable[[], None],
) -> Iterator[Batch]:
    """The batches, as long as every process has one and none was asked to stop."""
    while True:
        batch, failure = None, None
        try:
            batch = next(batches, None)
        except UserError as error:
            failure = error
        # Numbers in every step; what failed is pickled only where something did.
        failed, stops = summed([failure is not None, stopped()])
        error = next(each for each in gathered(failure) if each is not None) if failed else None
        whole = progress.step % phase.accumulate == 0 or progress.step == phase.steps
        if (error is not None or stops) and whole:
            save()
        if error is not None:
            raise error
        if stops and whole:
            raise SystemExit(TERMINATED)
        if batch is None:
            return
        yield batch


def _backward(phase: Phase, engine: Engine, device: torch.device, batch: Batch, progress: Progress, group: int) -> None:
    with torch.autocast(device.type, dtype=phase.amp, enabled=phase.amp is not None):
        losses = phase.losses(engine.trained, batch)
    own = [phase.weight(batch, name) for name in losses]
    everybodys = summed(own)
    # The processes' gradients are averaged: a share that is not 1/world must be evened out here.
    shares = [world() * mine / all_of_it if all_of_it else 0.0 for mine, all_of_it in zip(own, everybodys, strict=True)]
    total = torch.stack([loss * share for loss, share in zip(losses.values(), shares, strict=True)]).sum()
    engine.scaler.scale(total / group).backward()
    values = torch.stack([loss.detach() for loss in losses.values()]).tolist()  # the one wait for the device
    counts = phase.counts(batch)
    sums = summed([*(value * weight for value, weight in zip(values, own, strict=True)), *counts.values()])
    sums, counted = sums[: len(own)], sums[len(own) :]
    if not all(map(math.isfinite, sums)):
        raise _non_finite(phase, progress, sum(values), batch)
    for name, number in zip(counts, counted, strict=True):
        progress.counts[name] = progress.counts.get(name, 0) + int(number)
    for name, value, weight in zip(losses, sums, everybodys, strict=True):
        before = progress.totals.get(name, [0.0, 0.0])
        progress.totals[name] = [before[0] + value, before[1] + weight]


def _non_finite(phase: Phase, progress: Progress, loss: float, batch: Batch) -> NonFiniteLoss:
    found = [part for part in gathered((loss, batch.ids)) if not math.isfinite(part[0])]
    return NonFiniteLoss(
        phase=phase.name,
        epoch=progress.epoch,
        step=progress.step,
        loss=found[0][0] if found else loss,
        image_ids=[image_id for _, ids in found for image_id in ids],
    )


def _step(phase: Phase, engine: Engine, progress: Progress) -> None:
    for parameters in engine.optimiser.param_groups:
        parameters["lr"] = phase.learning_rate(progress.epoch, progress.step // phase.accumulate)
    if phase.gradient_clip is not None:
        engine.scaler.unscale_(engine.optimiser)
        nn.utils.clip_grad_norm_(engine.trained.parameters(), phase.gradient_clip)
    engine.scaler.step(engine.optimiser)
    engine.scaler.update()
    engine.optimiser.zero_grad()
    if engine.average is not None:
        module = engine.trained.module if world() > 1 else engine.trained
        engine.average.update(module)  # type: ignore[arg-type]
