"""The loop that trains every model of ours: it knows phases, losses and batches, never a model's name."""

import contextlib
import logging
import math
import time
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import nn

from siimdet.core.distributed import by_first, rank, same_buffers, world
from siimdet.models.determinism import deterministic_kernels
from siimdet.training.checkpoint import load_state, save_state
from siimdet.training.epoch import Progress, check_weights, train_epoch
from siimdet.training.events import event_writer
from siimdet.training.job import Engine, Job, Phase
from siimdet.training.journal import append_epoch, rewind_journal
from siimdet.training.moving_average import MovingAverage
from siimdet.training.signals import terminated

log = logging.getLogger(__name__)


def fit(job: Job, run: Path, *, resume: bool = False) -> None:
    """Train; after every epoch the journal, the best model and the state on disk are whole.

    SIGTERM saves the state within the epoch and exits; resumed, the run goes on to the same numbers
    as an unbroken one on the same machine. Randomness comes from the job's seed and leaves torch's
    own generators as they were. Under torchrun one process writes.
    Raises: NonFiniteLoss, with the last good state kept; RunError if there is no state to resume.
    """
    cuda = [job.device.index or 0] if job.device.type == "cuda" else []
    with (
        torch.random.fork_rng(devices=cuda),
        deterministic_kernels(job.device),
        terminated() as stopped,
        contextlib.ExitStack() as stack,
    ):
        torch.manual_seed(job.seed + rank())
        progress, state = Progress(), None
        if resume:
            state = load_state(run, identity=job.identity, device=job.device)
            progress = Progress(**state["progress"])
            job.model.load_state_dict(state["model"])
        by_first(lambda: rewind_journal(run, progress.entries))
        write_events = stack.enter_context(event_writer(run if rank() == 0 else None, step=progress.entries))
        for number in range(progress.phase, len(job.phases)):
            phase = job.phases[number]
            engine = _start(job, phase)
            if state is not None and state["optimiser"] is not None:
                _restore(engine, state)
            state = None
            _run_phase(job, phase, engine, run, progress, stopped, write_events)
            if engine.average is not None:
                job.model.load_state_dict(engine.average.model.state_dict())
            by_first(phase.finish)
            progress.next_phase()
            _save(job, None, run, progress)


def _start(job: Job, phase: Phase) -> Engine:
    frozen = phase.begin()
    trained: nn.Module = job.model
    if world() > 1:
        ours = [job.device.index or 0] if job.device.type == "cuda" else None
        trained = nn.parallel.DistributedDataParallel(job.model, device_ids=ours)
    return Engine(
        optimiser=phase.optimiser(job.model),
        scaler=torch.amp.GradScaler(job.device.type, enabled=phase.amp == torch.float16),
        average=None if phase.ema is None else MovingAverage(job.model, phase.ema),
        frozen=frozen,
        trained=trained,
    )


def _run_phase(
    job: Job,
    phase: Phase,
    engine: Engine,
    run: Path,
    progress: Progress,
    stopped: Callable[[], bool],
    write_events: Callable[[Mapping[str, Any], int], None],
) -> None:
    while progress.epoch < phase.epochs and not (phase.patience and progress.stale >= phase.patience):
        started = time.perf_counter()

        def save() -> None:
            _save(job, engine, run, progress)

        last = train_epoch(phase, engine, job.device, progress, stopped=stopped, save=save)
        figures = {"phase": phase.name, "epoch": progress.epoch, "lr": phase.learning_rate(progress.epoch, 0)}
        figures |= progress.means()
        model = job.model if engine.average is None else engine.average.model
        same_buffers(job.model)
        same_buffers(model)
        check_weights(model, phase, progress, last)
        model.eval()
        figures |= phase.evaluate(model)
        figures["seconds"] = round(time.perf_counter() - started, 2)
        score = phase.score(figures)
        ranking = [
            score if score is not None and math.isfinite(score) else -math.inf,
            -(figures.get("val_loss") or 0.0),
        ]
        better = progress.epoch == 0 or ranking > progress.best
        if better:
            progress.best = ranking
        by_first(partial(_record, phase, model, figures, run, better=better))
        write_events(figures, progress.entries)
        progress.next_epoch(better=better)
        _save(job, engine, run, progress)


def _record(phase: Phase, model: nn.Module, figures: dict[str, Any], run: Path, *, better: bool) -> None:
    if better:
        phase.keep(model, figures)
    append_epoch(run, figures)
    log.info("%s", summary(figures, phase.epochs))


def _save(job: Job, engine: Engine | None, run: Path, progress: Progress) -> None:
    state = {
        "identity": job.identity,
        "progress": progress.as_dict(),
        "model": job.model.state_dict(),
        "optimiser": None if engine is None else engine.optimiser.state_dict(),
        "scaler": None if engine is None else engine.scaler.state_dict(),
        "average": None if engine is None or engine.average is None else engine.average.state_dict(),
    }
    save_state(run, state, device=job.device)


def _restore(engine: Engine, state: Mapping[str, Any]) -> None:
    engine.optimiser.load_state_dict(state["optimiser"])
    engine.scaler.load_state_dict(state["scaler"])
    if engine.average is not None:
        engine.average.load_state_dict(state["average"])


def summary(figures: Mapping[str, Any], epochs: int) -> str:
    """One line about an epoch, for the log."""
    shown = [f"{k} {v:.4g}" for k, v in figures.items() if isinstance(v, float) and k != "lr"]
    return f"{figures['phase']} epoch {figures['epoch'] + 1}/{epochs}: " + ", ".join(shown)
