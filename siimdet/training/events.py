"""TensorBoard events of a run, written where the extra `track` is installed."""

import importlib.util
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

EVENTS = "events"


def write_events(run: Path, figures: Mapping[str, Any], *, step: int) -> None:
    """Add an epoch's numbers to RUN/events, `step` being its number over all phases; without tensorboard, nothing.

    A file per epoch: a run that was killed and goes on leaves no half-written one behind, and what it
    writes again takes the place of what was there.
    """
    if importlib.util.find_spec("tensorboard") is None:
        return
    from torch.utils.tensorboard import SummaryWriter

    with SummaryWriter(str(run / EVENTS), purge_step=step, filename_suffix=f".{step}") as writer:
        for name, value in _scalars(figures):
            writer.add_scalar(f"{figures['phase']}/{name}", value, step)


def _scalars(figures: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, float]]:
    for key, value in figures.items():
        if isinstance(value, Mapping):
            yield from _scalars(value, f"{prefix}{key}/")
        elif isinstance(value, int | float) and not isinstance(value, bool):
            yield f"{prefix}{key}", float(value)
