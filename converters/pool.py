"""A pool of processes that survives the death of any of them.

concurrent.futures and joblib lose the whole batch with one killed worker and cannot tell which task
did it. Here every worker holds one task at a time on a pipe of its own, so the culprit is known.
"""

import multiprocessing
import signal
import traceback
from collections import Counter, deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from typing import Any, Generic, TypeVar

import cv2

from siimdet.errors import UserError

TaskT = TypeVar("TaskT")
ResultT = TypeVar("ResultT")

ATTEMPTS = 2


@dataclass(frozen=True, slots=True)
class Crash:
    """A task that took its worker down on every attempt; the cause tells what happened, and how often."""

    cause: str


def run_tasks(
    work: Callable[[TaskT], ResultT], tasks: Sequence[TaskT], *, workers: int
) -> Iterator[tuple[TaskT, ResultT | Crash]]:
    """Yield (task, result) as `workers` processes finish them, in no fixed order.

    `work` and the tasks are pickled. A worker that dies is replaced and its task tried once more.
    Raises: what `work` raises if that is a UserError, a full disk for one, else RuntimeError with its traceback.
    """
    waiting = deque(range(len(tasks)))
    deaths: Counter[int] = Counter()
    idle = [_Worker(work) for _ in range(min(workers, len(tasks)))]
    busy: dict[Connection, tuple[_Worker[TaskT, ResultT], int]] = {}
    try:
        while waiting or busy:
            while waiting and idle:
                index, worker = waiting.popleft(), idle.pop()
                worker = worker if worker.accepts(tasks[index]) else _replacement(work, tasks[index], worker)
                busy[worker.pipe] = (worker, index)
            for pipe in wait(list(busy)):
                worker, index = busy.pop(pipe)  # type: ignore[index]
                result = worker.result(tasks[index])
                idle.append(_Worker(work) if isinstance(result, Crash) else worker)
                deaths[index] += isinstance(result, Crash)
                if isinstance(result, Crash) and deaths[index] < ATTEMPTS:
                    waiting.append(index)
                else:
                    yield tasks[index], result
    finally:
        for worker in (*idle, *(worker for worker, _ in busy.values())):
            worker.stop()


class _Worker(Generic[TaskT, ResultT]):
    """One process and our end of its pipe."""

    def __init__(self, work: Callable[[TaskT], ResultT]) -> None:
        context = _context()
        self.pipe, theirs = context.Pipe()
        self._process = context.Process(target=_serve, args=(work, theirs), daemon=True)
        self._process.start()
        theirs.close()

    def accepts(self, task: TaskT) -> bool:
        """Hand over a task; False if the process is gone."""
        try:
            self.pipe.send(task)
        except OSError:
            return False
        return True

    def result(self, task: TaskT) -> ResultT | Crash:
        """What came of the task, once the pipe is readable."""
        try:
            failure, result = self.pipe.recv()
        except (EOFError, OSError):
            self.stop()
            return Crash(f"exit code {self._process.exitcode} {ATTEMPTS} times")
        if isinstance(failure, UserError):
            raise failure
        if failure:
            raise RuntimeError(f"conversion failed on {task}\n{failure}")
        return result

    def stop(self) -> None:
        """End the process, whatever it is doing."""
        self.pipe.close()
        self._process.terminate()
        self._process.join()


def _context() -> Any:
    # Never fork ourselves: a child inherits the locks of threads that it does not have. A fork server
    # has no threads, and imports what the work needs once for all workers.
    if "forkserver" not in multiprocessing.get_all_start_methods():
        return multiprocessing.get_context("spawn")
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["converters.item"])
    return context


def _replacement(
    work: Callable[[TaskT], ResultT], task: TaskT, gone: _Worker[TaskT, ResultT]
) -> _Worker[TaskT, ResultT]:
    gone.stop()
    worker = _Worker(work)
    if not worker.accepts(task):
        raise RuntimeError("worker processes die as soon as they start")
    return worker


def _serve(work: Callable[[Any], Any], pipe: Connection) -> None:
    # Ctrl-C reaches the whole group; the parent ends its workers itself.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    # The processes are the parallelism.
    cv2.setNumThreads(1)
    while True:
        try:
            task = pipe.recv()
        except (EOFError, OSError):
            return
        try:
            answer = (None, work(task))
        except UserError as error:
            answer = (error, None)
        except Exception:
            answer = (traceback.format_exc(), None)
        try:
            pipe.send(answer)
        except OSError:
            return
