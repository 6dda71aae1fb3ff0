"""The work of many machines: tasks on the workers of a Dask cluster, which must see the same files."""

from collections.abc import Callable, Iterator, Sequence
from itertools import islice
from typing import Any, TypeVar

from converters.pool import Crash
from siimdet.errors import MissingExtra, UserError

TaskT = TypeVar("TaskT")
ResultT = TypeVar("ResultT")

_AHEAD = 4
_TIMEOUT_S = 10


def run_on_cluster(
    work: Callable[[TaskT], ResultT], tasks: Sequence[TaskT], *, address: str
) -> Iterator[tuple[TaskT, ResultT | Crash]]:
    """Yield (task, result) as the cluster's workers finish them, in no fixed order.

    Few tasks more than there are threads are on their way at a time, so memory stays bounded. A task
    whose worker dies is tried on another one; what takes down every worker that tries it is a Crash.
    Raises: UserError if no scheduler answers or it has no worker; what `work` raises as run_tasks does.
    """
    try:
        from distributed import as_completed
    except ImportError:
        raise MissingExtra("distributed", "cluster") from None
    with _connect(address) as client:
        threads = sum(client.nthreads().values())
        waiting = iter(range(len(tasks)))

        def send(index: int) -> Any:
            # The same file may be converted again by a later run: Dask's own cache must not answer for it.
            return client.submit(work, tasks[index], key=f"{client.id}-{index}", pure=False)

        futures = {send(index): index for index in islice(waiting, threads * _AHEAD)}
        finished = as_completed(list(futures), loop=client.loop)
        for future in finished:
            task = tasks[futures.pop(future)]
            yield task, _outcome(task, future)
            future.release()
            for following in islice(waiting, 1):
                futures[added := send(following)] = following
                finished.add(added)


def _connect(address: str) -> Any:
    """A client of a scheduler that has a worker."""
    from distributed import Client
    from distributed.comm.addressing import resolve_address

    try:
        # A client of an address that cannot be one would hang for a minute at exit.
        client = Client(resolve_address(address), timeout=_TIMEOUT_S, set_as_default=False)
    except (OSError, ValueError) as error:
        raise UserError(address, "--cluster", found=error, expected="the address of a Dask scheduler") from None
    try:
        client.wait_for_workers(1, timeout=_TIMEOUT_S)
    except TimeoutError:
        client.close()
        raise UserError(address, "--cluster", found="no worker", expected="a scheduler with workers") from None
    return client


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
