"""TensorBoard events of a run, written where the extra `track` is installed."""

import contextlib
import importlib.util
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

EVENTS = "events"


@contextlib.contextmanager
def event_writer(run: Path | None, *, step: int) -> Iterator[Callable[[Mapping[str, Any], int], None]]:
    """A function that adds an epoch's numbers to RUN/events: its figures, and its number over all phases.

    `step` is the first number to come: what an interrupted run had written from there on is void. Without
    a run, or without tensorboard, the function does nothing.
    """
    if run is None or importlib.util.find_spec("tensorboard") is None:
        yield lambda figures, step: None
        return
    from torch.utils.tensorboard import SummaryWriter

    with SummaryWriter(str(run / EVENTS), purge_step=step) as writer:

        def write(figures: Mapping[str, Any], step: int) -> None:
            for name, value in _scalars(figures):
                writer.add_scalar(f"{figures['phase']}/{name}", value, step)
            writer.flush()

        yield write


def _scalars(figures: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, float]]:
    for key, value in figures.items():
        if isinstance(value, Mapping):
            yield from _scalars(value, f"{prefix}{key}/")
        elif isinstance(value, int | float) and not isinstance(value, bool):
            yield f"{prefix}{key}", float(value)
