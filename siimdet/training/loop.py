"""The loop that trains every model of ours: it knows losses and batches, never a model's name."""

import contextlib
import logging
import math
import signal
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from siimdet.data.loader import Batch
from siimdet.models.determinism import deterministic_kernels
from siimdet.models.losses import NonFiniteLoss
from siimdet.training.checkpoint import load_state, save_state
from siimdet.training.journal import append_epoch, rewind_journal
from siimdet.training.schedules import LearningRate

log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True, eq=False)
class Job:
    """Everything that one training is."""

    phase: str
    """Name in messages and in the journal."""
    model: nn.Module
    device: torch.device
    losses: Callable[[nn.Module, Batch], dict[str, Tensor]]
    """Named scalar losses of a batch on the model's device; their sum is minimised."""
    batches: Callable[[int, int], Iterator[Batch]]
    """(epoch, number of batches to skip) to the rest of that epoch's batches."""
    evaluate: Callable[[nn.Module], dict[str, Any]]
    """Figures of the model on the validation images, for the journal."""
    best: str
    """The figure that decides which epoch is kept; higher is better, None counts as worst."""
    keep: Callable[[nn.Module, dict[str, Any]], None]
    """Writes the model as the run's best."""
    optimiser: torch.optim.Optimizer
    learning_rate: LearningRate
    epochs: int
    frozen: tuple[nn.Module, ...] = ()
    """Modules that stay in evaluation mode, so that their batch-norm statistics stay too."""
    amp: bool = False
    gradient_clip: float | None = None
    seed: int = 0
    identity: str = ""
    """Config and data: a state is resumed only under the same ones."""


@dataclass(slots=True)
class _Progress:
    epoch: int = 0
    step: int = 0
    best: float = -math.inf
    totals: dict[str, float] | None = None


def fit(job: Job, run: Path, *, resume: bool = False) -> None:
    """Train; after every epoch the journal, the best model and the state on disk are whole.

    SIGTERM saves the state within the epoch and exits; resumed, the run goes on to the same numbers
    as an unbroken one on the same machine. Randomness comes from the job's seed and leaves torch's
    own generators as they were.
    Raises: NonFiniteLoss, with the last good state kept; RunError if there is no state to resume.
    """
    cuda = [job.device.index or 0] if job.device.type == "cuda" else []
    with torch.random.fork_rng(devices=cuda), deterministic_kernels(job.device), _terminated() as stopped:
        torch.manual_seed(job.seed)
        scaler = torch.amp.GradScaler(job.device.type, enabled=job.amp and job.device.type == "cuda")
        progress = _Progress()
        if resume:
            _restore(job, run, scaler, progress)
        rewind_journal(run, progress.epoch)
        while progress.epoch < job.epochs:
            started = time.perf_counter()
            _train_epoch(job, run, scaler, progress, stopped)
            figures = {"phase": job.phase, "epoch": progress.epoch, "lr": job.learning_rate(progress.epoch, 0)}
            figures |= {f"train_{name}": total / progress.step for name, total in (progress.totals or {}).items()}
            job.model.eval()
            figures |= job.evaluate(job.model)
            figures["seconds"] = round(time.perf_counter() - started, 2)
            score = figures.get(job.best)
            score = -math.inf if score is None else float(score)
            if score > progress.best or progress.epoch == 0:
                progress.best = score
                job.keep(job.model, figures)
            append_epoch(run, figures)
            log.info("%s", summary(figures, job.epochs))
            progress.epoch, progress.step, progress.totals = progress.epoch + 1, 0, None
            _save(job, run, scaler, progress)


def _train_epoch(job: Job, run: Path, scaler: Any, progress: _Progress, stopped: list[int]) -> None:
    job.model.train()
    for module in job.frozen:
        module.eval()
    autocast = torch.float16 if job.device.type == "cuda" else torch.bfloat16
    for batch in job.batches(progress.epoch, progress.step):
        for group in job.optimiser.param_groups:
            group["lr"] = job.learning_rate(progress.epoch, progress.step)
        with torch.autocast(job.device.type, dtype=autocast, enabled=job.amp):
            losses = job.losses(job.model, batch)
            total = torch.stack(list(losses.values())).sum()
        if not torch.isfinite(total):
            raise NonFiniteLoss(
                phase=job.phase, epoch=progress.epoch, step=progress.step, loss=total.item(), image_ids=batch.ids
            )
        job.optimiser.zero_grad()
        scaler.scale(total).backward()
        if job.gradient_clip is not None:
            scaler.unscale_(job.optimiser)
            nn.utils.clip_grad_norm_(job.model.parameters(), job.gradient_clip)
        scaler.step(job.optimiser)
        scaler.update()
        sums = progress.totals or {}
        progress.totals = {name: sums.get(name, 0.0) + loss.item() for name, loss in {"loss": total, **losses}.items()}
        progress.step += 1
        if stopped:
            _save(job, run, scaler, progress)
            raise SystemExit(128 + stopped[0])


def _save(job: Job, run: Path, scaler: Any, progress: _Progress) -> None:
    state = {
        "identity": job.identity,
        "epoch": progress.epoch,
        "step": progress.step,
        "best": progress.best,
        "totals": progress.totals,
        "model": job.model.state_dict(),
        "optimiser": job.optimiser.state_dict(),
        "scaler": scaler.state_dict(),
    }
    save_state(run, state, device=job.device)


def _restore(job: Job, run: Path, scaler: Any, progress: _Progress) -> None:
    state = load_state(run, identity=job.identity, device=job.device)
    progress.epoch, progress.step = state["epoch"], state["step"]
    progress.best, progress.totals = state["best"], state["totals"]
    job.model.load_state_dict(state["model"])
    job.optimiser.load_state_dict(state["optimiser"])
    scaler.load_state_dict(state["scaler"])


@contextlib.contextmanager
def _terminated() -> Iterator[list[int]]:
    """A list that holds SIGTERM's number once it came; the step in hand is finished first."""
    received: list[int] = []
    previous = signal.signal(signal.SIGTERM, lambda number, _: received.append(number))
    try:
        yield received
    finally:
        signal.signal(signal.SIGTERM, previous)


def summary(figures: Mapping[str, Any], epochs: int) -> str:
    """One line about an epoch, for the log."""
    shown = [f"{k} {v:.4g}" for k, v in figures.items() if isinstance(v, float) and k != "lr"]
    return f"{figures['phase']} epoch {figures['epoch'] + 1}/{epochs}: " + ", ".join(shown)
