"""Results in order, computed by threads a little ahead of the one who takes them."""

import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")

_AHEAD = 4
"""Results for each thread that are computed or wait to be taken, at most."""


def computed_ahead(
    function: Callable[[Item], Result], items: Iterable[Item], *, threads: int | None = None
) -> Iterator[Result]:
    """`function` of every item, in the order of the items, by as many threads as there are cores unless told.

    A result that is taken makes room for the next one: one slow item does not leave the other threads idle until
    it is done. What `function` raises is raised where its result would come; no further item is begun then.
    """
    threads = threads or os.cpu_count() or 1
    waiting: deque[Future[Result]] = deque()
    pool = ThreadPoolExecutor(threads)
    try:
        for item in items:
            waiting.append(pool.submit(function, item))
            if len(waiting) == _AHEAD * threads:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    finally:
        pool.shutdown(cancel_futures=True)
