"""Studies that wait for the models, one after the other, and their results until these expire."""

import contextlib
import logging
import secrets
import shutil
import tempfile
import threading
import time
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from siimdet.errors import UserError
from siimdet.serve.audit import Audit
from siimdet.serve.metrics import Metrics
from siimdet.serve.runtime import Found, Runtime
from siimdet.serve.scratch import private_folder
from siimdet.serve.uploads import Upload

State = Literal["queued", "running", "done", "failed", "cancelled"]
ENDED: tuple[State, ...] = ("done", "failed", "cancelled")

log = logging.getLogger(__name__)

_SWEEP = 30.0  # seconds between two looks for what has expired, at most
SERVER_ERROR = "an error of the server, whose log has it"


class QueueFull(Exception):
    """As many studies wait as may, or the server ends: which of them is the message."""


@dataclass(slots=True, eq=False)
class Job:
    """A study from its upload to its result; `key` is what a client asks for it by, and cannot guess."""

    key: str
    folder: Path
    uploads: tuple[Upload, ...]
    detector: str
    bytes: int
    """Of its files."""
    state: State = "queued"
    progress: float = 0.0
    detail: str | None = None
    """Why it failed."""
    refused: bool = False
    """It failed by what was asked for, not by the server."""
    found: Found | None = None
    ended: threading.Event = field(default_factory=threading.Event)
    expires: float = float("inf")
    """By time.monotonic."""


@dataclass(frozen=True, slots=True, eq=False)
class _Outcome:
    state: State
    found: Found | None = None
    detail: str | None = None
    refused: bool = False


class Jobs:
    """A queue with one worker, a private folder for files, and the results of the last hour.

    `longest` is the number of studies that may wait, those that are still being sent among them. Results and files
    are deleted `keep_for` seconds after a study has ended, earlier where all kept files are more than `keep_bytes`,
    and all at `close`.
    """

    def __init__(
        self,
        runtime: Runtime,
        *,
        longest: int = 32,
        keep_for: float = 3600,
        keep_bytes: int = 4 << 30,
        audit: Audit | None = None,
    ) -> None:
        self.runtime, self.metrics = runtime, Metrics()
        self._longest, self._keep_for, self._keep_bytes, self._audit = longest, keep_for, keep_bytes, audit
        self._ending = contextlib.ExitStack()
        self._root = self._ending.enter_context(private_folder())
        self._jobs: dict[str, Job] = {}
        self._waiting: deque[Job] = deque()
        self._receiving: list[str | None] = []
        self._changed = threading.Condition()
        self._closed = False
        self._worker = threading.Thread(target=self._work, name="inference", daemon=True)
        self._worker.start()

    @contextlib.contextmanager
    def receiving(self, address: str | None = None) -> Iterator[Path]:
        """A place in the queue and a folder for files that are being sent; deleted again unless they are submitted.

        Raises: QueueFull, also to an address that already sends half of `longest`.
        """
        with self._changed:
            self._check_open()
            if len(self._waiting) + len(self._receiving) >= self._longest:
                raise QueueFull("too many studies wait")
            if address is not None and self._receiving.count(address) >= max(1, self._longest // 2):
                raise QueueFull("this address is sending as many studies as it may at once")
            self._receiving.append(address)
        try:
            folder = Path(tempfile.mkdtemp(dir=self._root))
            try:
                yield folder
            finally:
                with self._changed:
                    kept = any(job.folder == folder for job in self._jobs.values())
                if not kept:
                    shutil.rmtree(folder, ignore_errors=True)
        finally:
            with self._changed:
                self._receiving.remove(address)

    def submit(self, folder: Path, uploads: Sequence[Upload], detector: str) -> Job:
        """Queue a study whose files lie in a folder of `receiving`. Raises: QueueFull if the server ends."""
        size = sum(path.stat().st_size for path in folder.iterdir())
        job = Job(secrets.token_urlsafe(16), folder, tuple(uploads), detector, size)
        with self._changed:
            self._check_open()
            self._jobs[job.key] = job
            self._waiting.append(job)
            self._sweep()
            self._changed.notify_all()
        return job

    def get(self, key: str) -> Job | None:
        """A job that has not expired."""
        with self._changed:
            self._sweep()
            return self._jobs.get(key)

    def position(self, job: Job) -> int:
        """How many are before it."""
        with self._changed:
            return self._waiting.index(job) if job in self._waiting else 0

    def waiting(self) -> int:
        """How many wait."""
        with self._changed:
            return len(self._waiting)

    def cancel(self, job: Job) -> None:
        """End a job: one that runs stops between two models, and its result is not kept."""
        with self._changed:
            if job in self._waiting:
                self._waiting.remove(job)
                self.metrics.ended("cancelled", 0.0)
            self._end(job, "cancelled")

    def forget(self, job: Job) -> None:
        """Delete a job's result and files before they expire."""
        with self._changed:
            self.cancel(job)
            job.expires = 0.0
            self._sweep()

    def stop(self) -> None:
        """Take no more, and cancel what waits or runs."""
        with self._changed:
            self._closed = True
            for job in self._jobs.values():
                self.cancel(job)
            self._changed.notify_all()

    def close(self) -> None:
        """Stop, wait for the model that runs, and delete all files."""
        self.stop()
        self._worker.join()
        self._ending.close()

    def _check_open(self) -> None:
        if self._closed:
            raise QueueFull("the server ends")

    def _work(self) -> None:
        while True:
            with self._changed:
                while not self._waiting and not self._closed:
                    self._changed.wait(timeout=min(_SWEEP, self._keep_for))
                    self._sweep()
                if self._closed:
                    return
                job = self._waiting.popleft()
                job.state = "running"
            self._run(job)

    def _run(self, job: Job) -> None:
        started = time.monotonic()
        outcome = self._outcome(job)
        seconds = time.monotonic() - started
        try:
            self._write_audit(job, outcome.state, seconds)
        except OSError:
            # Without its line a study is not answered.
            log.exception("the audit file cannot be written")
            outcome = _Outcome("failed", detail=SERVER_ERROR)
        self.metrics.ended(outcome.state, seconds)
        with self._changed:
            if job.state == "running":
                job.found, job.refused, job.detail = outcome.found, outcome.refused, outcome.detail
                job.progress = 1.0 if outcome.found else job.progress
            self._end(job, outcome.state)

    def _outcome(self, job: Job) -> "_Outcome":
        def tell(share: float) -> None:
            job.progress = share

        try:
            found = self.runtime.find(job.uploads, job.detector, tell=tell, go_on=lambda: job.state == "running")
        except UserError as error:
            return _Outcome("failed", detail=error.reason, refused=True)
        except Exception:
            # One study must not take the others with it.
            log.exception("inference failed")
            return _Outcome("failed", detail=SERVER_ERROR)
        return _Outcome("cancelled") if found is None else _Outcome("done", found)

    def _end(self, job: Job, state: State) -> None:
        """The lock is held. A job ends once."""
        if job.state not in ENDED:
            job.state, job.expires = state, time.monotonic() + self._keep_for
            job.ended.set()

    def _sweep(self) -> None:
        """Forget what has expired or is too much, the oldest first; the lock is held."""
        now, size = time.monotonic(), sum(job.bytes for job in self._jobs.values())
        for job in sorted((job for job in self._jobs.values() if job.state in ENDED), key=lambda job: job.expires):
            if job.expires > now and size <= self._keep_bytes:
                break
            size -= job.bytes
            del self._jobs[job.key]
            shutil.rmtree(job.folder, ignore_errors=True)

    def _write_audit(self, job: Job, outcome: State, seconds: float) -> None:
        if self._audit is None:
            return
        asked = self.runtime.asked(job.detector)
        shown = dict.fromkeys((*asked, job.detector))
        self._audit.write(
            {
                "inputs": [upload.digest for upload in job.uploads],
                "detector": job.detector,
                "models": {name: each.digest for name, each in asked.items()},
                "study": self.runtime.study.digest,
                "coupling": self.runtime.coupling_digest,
                "thresholds": {name: self.runtime.threshold(name) for name in shown},
                "outcome": outcome,
                "seconds": round(seconds, 3),
            }
        )
