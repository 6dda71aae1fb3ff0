"""The work of many machines: tasks on the workers of a Dask cluster, which must see the same files."""

import time
from collections.abc import Callable, Collection, Iterator, Sequence
from itertools import islice
from typing import Any, TypeVar

from converters.pool import Crash
from siimdet.errors import MissingExtra, UserError

TaskT = TypeVar("TaskT")
ResultT = TypeVar("ResultT")

_AHEAD = 4
_TIMEOUT_S = 10
_PATIENCE_S = 20


def run_on_cluster(
    work: Callable[[TaskT], ResultT], tasks: Sequence[TaskT], *, address: str
) -> Iterator[tuple[TaskT, ResultT | Crash]]:
    """Yield (task, result) as the cluster's workers finish them, in no fixed order.

    Few tasks more than there are threads are on their way at a time, so memory stays bounded. A task
    whose worker dies is tried on another one; what takes down every worker that tries it is a Crash.
    Raises: UserError if no scheduler answers, it or its last worker is lost; what `work` raises as run_tasks does.
    """
    try:
        from distributed import CancelledError
    except ImportError:
        raise MissingExtra("distributed", "cluster") from None
    with _connect(address) as client:
        waiting = iter(range(len(tasks)))
        futures: dict[Any, int] = {}

        def send(count: int) -> None:
            for index in islice(waiting, count):
                # The same file may be converted again by a later run: Dask's own cache must not answer for it.
                futures[client.submit(work, tasks[index], key=f"{client.id}-{index}", pure=False)] = index

        try:
            send(_AHEAD * sum(client.nthreads().values()))
            while futures:
                for future in _finished(client, futures):
                    task = tasks[futures.pop(future)]
                    yield task, _outcome(task, future)
                    future.release()
                    send(1)
        except TimeoutError:
            raise _lost(address, f"no worker for {_PATIENCE_S} s") from None
        except (CancelledError, OSError):
            raise _lost(address, "its scheduler gone") from None


def _lost(address: str, found: str) -> UserError:
    return UserError(address, "--cluster", found=found, expected="a cluster that stays; the same line goes on")


def _connect(address: str) -> Any:
    """A client of a scheduler that has a worker."""
    from distributed import Client
    from distributed.comm.addressing import resolve_address

    try:
        # A client of an address that cannot be one would hang for a minute at exit.
        client = Client(resolve_address(address), timeout=_TIMEOUT_S)
    except (OSError, ValueError) as error:
        raise UserError(address, "--cluster", found=error, expected="the address of a Dask scheduler") from None
    try:
        client.wait_for_workers(1, timeout=_TIMEOUT_S)
    except TimeoutError:
        client.close()
        raise UserError(address, "--cluster", found="no worker", expected="a scheduler with workers") from None
    return client


def _finished(client: Any, futures: Collection[Any]) -> Collection[Any]:
    """The futures that are done, one at least. Raises: TimeoutError if all workers stay away."""
    from distributed import wait

    alone_since = None
    while True:
        try:
            done, _ = wait(list(futures), timeout=1, return_when="FIRST_COMPLETED")  # type: ignore[misc]
            return done
        except TimeoutError:
            if client.nthreads():
                alone_since = None
                continue
            alone_since = alone_since or time.monotonic()
            if time.monotonic() - alone_since > _PATIENCE_S:
                raise


def _outcome(task: object, future: Any) -> Any:
    from distributed import KilledWorker

    error = future.exception()
    if isinstance(error, KilledWorker):
        return Crash("the death of every worker that tried")
    if isinstance(error, UserError):
        raise error
    if error is not None:
        raise RuntimeError(f"conversion failed on {task}") from error
    return future.result()
