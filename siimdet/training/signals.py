"""SIGTERM as a wish: the step in hand is finished first."""

import contextlib
import signal
from collections.abc import Callable, Iterator


@contextlib.contextmanager
def terminated() -> Iterator[Callable[[], bool]]:
    """A function that says whether SIGTERM came while the block ran."""
    received: list[int] = []
    previous = signal.signal(signal.SIGTERM, lambda number, _: received.append(number))
    try:
        yield lambda: bool(received)
    finally:
        signal.signal(signal.SIGTERM, previous)
