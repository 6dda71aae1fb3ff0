"""The pool names the task that killed its worker, and passes on a worker's own error."""

import importlib
import os
import signal
import time

import pytest

from converters.pool import Crash, run_tasks
from siimdet.errors import UserError


def test_results_come_with_their_tasks():
    assert dict(run_tasks(abs, list(range(-20, 0)), workers=3)) == {i: -i for i in range(-20, 0)}
    assert list(run_tasks(abs, [], workers=2)) == []


def test_only_the_deadly_task_is_lost():
    results = dict(run_tasks(os._exit, [3], workers=2))
    assert results == {3: Crash("exit code 3 2 times")}


def test_an_error_in_the_work_is_raised_with_its_traceback():
    with pytest.raises(RuntimeError, match=r"(?s)conversion failed on one.*ValueError: invalid literal for int"):
        list(run_tasks(int, ["one"], workers=1))


FULL_DISK = """
from siimdet.errors import UserError

def write(place):
    raise UserError(place, "file", found="No space left on device", expected="room to write it")
"""


def test_a_users_error_comes_through_as_such(tmp_path, monkeypatch):
    (tmp_path / "full_disk.py").write_text(FULL_DISK)
    monkeypatch.syspath_prepend(tmp_path)
    write = importlib.import_module("full_disk").write
    with pytest.raises(UserError, match=r"out\.png: file: found No space left on device, expected room"):
        list(run_tasks(write, ["out.png"], workers=1))


def test_an_unfinished_pool_stops_its_workers():
    results = run_tasks(time.sleep, [0.0, 600.0], workers=2)
    assert next(results) == (0.0, None)
    start = time.monotonic()
    results.close()  # type: ignore[attr-defined]
    assert time.monotonic() - start < 30


def test_after_a_death_the_other_tasks_find_a_new_worker():
    assert dict(run_tasks(signal.raise_signal, [signal.SIGKILL, signal.SIGCONT], workers=1)) == {
        signal.SIGKILL: Crash("exit code -9 2 times"),
        signal.SIGCONT: None,
    }
