"""The whole command killed half-way, a worker killed, one worker or two, a cluster: always the same bytes."""

import importlib
import json
import logging
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from converters.cluster import run_on_cluster
from converters.journal import JOURNAL
from converters.pool import Crash
from siimdet.errors import UserError
from siimdet.imaging.dicom_write import write_radiograph

IMAGES = 40


@pytest.fixture(scope="module")
def raw(tmp_path_factory) -> Path:
    """A plain folder of DICOM files that take a moment each."""
    folder = tmp_path_factory.mktemp("raw")
    rng = np.random.default_rng(0)
    for number in range(IMAGES):
        write_radiograph(
            folder / f"image{number:02d}.dcm",
            rng.integers(0, 4096, (900, 800), dtype=np.uint16),
            patient_id=f"p{number // 3}",
            study_uid=f"1.2.{number // 2}",
            series_uid=f"1.3.{number}",
            sop_uid=f"1.4.{number}",
            bits_stored=12,
            syntax="jpeg-lossless",
        )
    return folder


def command(raw: Path, out: Path, *more: str) -> list[str]:
    return [sys.executable, "-m", "siimdet", "convert", "dicom", "--raw", str(raw), "--out", str(out), *more]


def start(raw: Path, out: Path, *more: str) -> subprocess.Popen:
    return subprocess.Popen(command(raw, out, *more), stderr=subprocess.PIPE, text=True, start_new_session=True)


def finish(raw: Path, out: Path, *more: str) -> str:
    done = subprocess.run(command(raw, out, *more), capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stderr


def contents(folder: Path) -> dict[str, bytes]:
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


def wait_until(holds: Callable[[], object]) -> None:
    end = time.monotonic() + 60
    while not holds():
        assert time.monotonic() < end, "nothing happened"
        time.sleep(0.002)


def lines_of_journal(out: Path) -> int:
    """Images recorded: the first line names the source."""
    path = out / JOURNAL
    return max(path.read_bytes().count(b"\n") - 1, 0) if path.exists() else 0


@pytest.fixture(scope="module")
def whole(raw, tmp_path_factory) -> dict[str, bytes]:
    """What an unbroken run with one worker writes."""
    out = tmp_path_factory.mktemp("whole") / "out"
    finish(raw, out, "--workers", "1")
    return contents(out)


def test_one_worker_and_two_write_the_same_bytes(raw, whole, tmp_path):
    finish(raw, tmp_path / "out", "--workers", "2")
    assert contents(tmp_path / "out") == whole


@pytest.mark.parametrize("at", [1, IMAGES // 2])
def test_the_command_killed_and_repeated_writes_the_same_bytes(raw, whole, tmp_path, at):
    out = tmp_path / "out"
    running = start(raw, out, "--workers", "2")
    wait_until(lambda: lines_of_journal(out) >= at)
    os.killpg(running.pid, signal.SIGKILL)
    running.communicate()
    assert running.returncode == -signal.SIGKILL
    assert 0 < lines_of_journal(out) < IMAGES
    assert f"{IMAGES - lines_of_journal(out)} images converted" in finish(raw, out, "--workers", "2")
    assert contents(out) == whole


def workers_of(parent: int) -> list[int]:
    """The processes that convert: grandchildren, below the fork server."""
    server = [pid for child in children(parent) for pid in children(child)]
    return server


def children(pid: int) -> list[int]:
    path = Path(f"/proc/{pid}/task/{pid}/children")
    return [int(child) for child in path.read_text().split()] if path.exists() else []


def test_workers_killed_while_they_write_cost_nothing(raw, whole, tmp_path):
    out = tmp_path / "out"
    running = start(raw, out, "--workers", "2")
    wait_until(lambda: lines_of_journal(out) >= 5)

    def caught() -> bool:
        """Halts the workers; whether one of them is writing an image."""
        for worker in workers_of(running.pid):
            os.kill(worker, signal.SIGSTOP)
        if any((out / "images").glob(".image*")):
            return True
        for worker in workers_of(running.pid):
            os.kill(worker, signal.SIGCONT)
        return False

    wait_until(caught)
    for worker in workers_of(running.pid):
        os.kill(worker, signal.SIGKILL)
    _, errors = running.communicate(timeout=120)
    assert running.returncode == 0, errors
    assert contents(out) == whole


@pytest.fixture(scope="module")
def cluster() -> Iterator[str]:
    """Address of a Dask scheduler with two workers, which are replaced when they die."""
    distributed = pytest.importorskip("distributed", reason="the extra `cluster` is not installed")
    with distributed.LocalCluster(
        n_workers=2, threads_per_worker=1, host="127.0.0.1", dashboard_address=None, silence_logs=logging.CRITICAL
    ) as running:
        yield running.scheduler_address


def test_a_cluster_of_two_writes_the_same_bytes(raw, whole, tmp_path, cluster):
    finish(raw, tmp_path / "out", "--cluster", cluster)
    assert contents(tmp_path / "out") == whole


def test_a_task_that_kills_every_worker_is_named_and_the_others_finish(cluster):
    results = dict(run_on_cluster(signal.raise_signal, [signal.SIGCONT, signal.SIGKILL], address=cluster))
    assert results == {signal.SIGCONT: None, signal.SIGKILL: Crash("the death of every worker that tried")}


def test_an_error_on_the_cluster_is_raised(cluster):
    with pytest.raises(RuntimeError, match="conversion failed on one"):
        list(run_on_cluster(int, ["one"], address=cluster))


NAP = """
import time

def nap(seconds):
    time.sleep(seconds)
    return seconds
"""


@pytest.mark.parametrize(("lost", "complaint"), [("worker", "no worker for 1 s"), ("scheduler", "its scheduler gone")])
def test_a_cluster_that_goes_away_is_one_clear_line(tmp_path, monkeypatch, lost, complaint):
    pytest.importorskip("distributed", reason="the extra `cluster` is not installed")
    monkeypatch.setattr("converters.cluster._PATIENCE_S", 1)
    (tmp_path / "nap.py").write_text(NAP)
    monkeypatch.syspath_prepend(tmp_path)
    environment = {**os.environ, "PYTHONPATH": str(tmp_path)}
    file = tmp_path / "scheduler.json"
    options = ["--scheduler-file", str(file)]
    address = ["--host", "127.0.0.1", "--port", "0", "--no-dashboard", "--no-show"]
    started = [
        subprocess.Popen([*dask_tool("scheduler"), *options, *address], env=environment, stderr=subprocess.DEVNULL)
    ]
    try:
        wait_until(file.exists)
        worker = [*dask_tool("worker"), *options, "--no-nanny", "--no-dashboard", "--nthreads", "1"]
        started.append(subprocess.Popen(worker, env=environment, stderr=subprocess.DEVNULL))
        where = json.loads(file.read_text())["address"]
        results = run_on_cluster(importlib.import_module("nap").nap, [0.0, 60.0], address=where)
        assert next(results) == (0.0, 0.0)
        started[1 if lost == "worker" else 0].kill()
        with pytest.raises(UserError, match=f"--cluster: found {complaint}, expected a cluster that stays"):
            next(results)
    finally:
        for process in reversed(started):
            process.kill()
            process.wait()


def dask_tool(name: str) -> list[str]:
    return [sys.executable, "-m", "distributed.cli.dask_" + name]


IMPATIENT = """
import converters.cluster
from siimdet.__main__ import main
converters.cluster._TIMEOUT_S = 1
main()
"""


@pytest.mark.parametrize("address", ["nonsense://x", "127.0.0.1:9"])
def test_no_scheduler_is_one_clear_line(raw, tmp_path, address):
    pytest.importorskip("distributed", reason="the extra `cluster` is not installed")
    asked = command(raw, tmp_path / "out", "--cluster", address)
    asked[1:3] = ["-c", IMPATIENT]  # for -m siimdet
    done = subprocess.run(asked, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1 and "--cluster: found" in done.stderr
