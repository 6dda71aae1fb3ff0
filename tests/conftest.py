"""Fixtures that every folder of tests shares."""

import gc
import multiprocessing
import os
import shutil
import socket
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from multiprocessing.forkserver import ForkServer
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings
from playwright.sync_api import Browser, sync_playwright

from converters import SOURCES
from converters.run import ConversionSummary, convert

CHROMIUM = (
    *("--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"),
    *("--disable-background-networking", "--disable-component-update", "--disable-sync"),
)
"""Root has no sandbox; the rest keeps the browser itself from asking for anything outside."""

IMPORTED = (
    "siimdet.cli",
    "siimdet.training.train",
    "siimdet.inference.device",
    "siimdet.serve.app",
    "siimdet.serve.archive",
    "numba.typed",
    "torch.utils.tensorboard",
    "tests.kernels",
)
"""What a process of `forked` has imported, and compiled: twenty seconds and more of an interpreter of its own."""
settings.register_profile("siimdet", deadline=None)  # the cores are shared
settings.load_profile("siimdet")
HERE = Path(__file__).parent
LONG = ("serve", "training", "chain")
"""Folders of files that take the longest."""
CHILD = """
import os, sys
import torch
os.environ.update(environment)
for stream, path in streams.items():
    handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.dup2(handle, getattr(sys, stream).fileno())
    setattr(sys, stream, os.fdopen(handle, "w", buffering=1))
torch.set_num_threads(1)
"""
COMMAND = "from siimdet.cli import run; sys.exit(run(arguments))"
_SERVER = pytest.StashKey[ForkServer]()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The longest first, so that of several processes none ends long after the others."""
    items.sort(key=lambda item: item.path.relative_to(HERE).parts[0] not in LONG)


def pytest_collection_finish(session: pytest.Session) -> None:
    """Start the server of `forked` where a test asks for it: it imports while others run."""
    server = session.config.stash[_SERVER] = ForkServer()
    server.set_forkserver_preload(list(IMPORTED))
    if any("forked" in getattr(item, "fixturenames", ()) for item in session.items):
        server.ensure_running()


def pytest_sessionfinish(session: pytest.Session) -> None:
    """End and name the processes of multiprocessing that tests left: the interpreter would wait for them for ever."""
    gc.collect()
    left = multiprocessing.active_children()
    for process in left:
        process.kill()
    names = [str(process) for process in left]
    if hasattr(session.config, "workeroutput"):
        session.config.workeroutput["left"] = names  # one of several processes has no terminal
    else:
        _tell_of(names, session.config)


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: Any) -> None:
    """Name what a process of pytest-xdist found left."""
    _tell_of(getattr(node, "workeroutput", {}).get("left", ()), node.config)


def _tell_of(left: Sequence[str], config: pytest.Config) -> None:
    for name in left:
        config.get_terminal_writer().line(f"left behind, and killed: {name}")


@pytest.fixture(scope="session")
def forked(pytestconfig: pytest.Config) -> Callable[..., BaseProcess]:
    """Starts code in a process of its own: forked(code, values, environment={}, stdout=PATH, stderr=PATH).

    The values are the code's globals. The process comes from a server that has imported torch and started no threads:
    a fork of the test process would wait for the threads of its parent's pools. The server is not the one that the
    library starts, whose processes must not find more imported than a user's.
    """
    context = multiprocessing.get_context("forkserver")

    def begin(code: str, values: Mapping[str, Any], *, environment: Mapping[str, str] | None = None, **streams: Path):
        given = {**values, "environment": dict(environment or {}), "streams": streams}
        process = context.Process(target=exec, args=(CHILD + code, given))
        connect = pytestconfig.stash[_SERVER].connect_to_new_process
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("multiprocessing.forkserver.connect_to_new_process", connect)
            process.start()
        return process

    return begin


@pytest.fixture(scope="session")
def start(forked) -> Callable[..., BaseProcess]:
    """Starts a command line in a process of its own: start(arguments, log, environment={}); the log is its stderr."""

    def begin(arguments: Sequence[str], log: Path, environment: Mapping[str, str] | None = None):
        return forked(COMMAND, {"arguments": list(arguments)}, environment=environment, stderr=log)

    return begin


@pytest.fixture(scope="session")
def places() -> Callable[[int], list[dict[str, str]]]:
    """What torchrun tells each of so many processes of one machine by its environment: places(processes)."""

    def of(processes: int) -> list[dict[str, str]]:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        together = {"WORLD_SIZE": str(processes), "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
        return [together | {"RANK": str(rank), "LOCAL_RANK": str(rank)} for rank in range(processes)]

    return of


@pytest.fixture(scope="session")
def launch(start, places) -> Callable[..., tuple[list[int | None], str]]:
    """Runs a command line as torchrun would: launch(processes, folder, *arguments) gives exit codes and stderr."""

    def together(processes: int, folder: Path, *arguments: object) -> tuple[list[int | None], str]:
        log, given = folder / "stderr.txt", [str(argument) for argument in arguments]
        children = [start(given, log, environment) for environment in places(processes)]
        end = time.monotonic() + 240
        for child in children:
            child.join(max(end - time.monotonic(), 0))
            child.kill()  # what a failure of the other one left waiting
            child.join()
        return [child.exitcode for child in children], log.read_text()

    return together


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of real radiographs and label tables, beside the checkout."""
    folder = Path(__file__).parents[2] / "shared" / "data"
    if not folder.is_dir():
        pytest.skip("no real data: the folder ../shared/data is missing")
    return folder


@pytest.fixture(scope="session")
def converted_nih(shared_data, tmp_path_factory) -> ConversionSummary:
    """NIH as `siimdet convert` leaves it: 1109 radiographs of the official lists. No test changes it."""
    return convert(SOURCES["nih"], shared_data / "nih", tmp_path_factory.mktemp("nih"), present_only=True)


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    """The system's Chromium, headless; where it is missing the test is skipped, or fails if one is required."""
    found = shutil.which("chromium")
    if found is None and "SIIMDET_REQUIRE_BROWSER" in os.environ:
        pytest.fail("SIIMDET_REQUIRE_BROWSER is set, but there is no chromium on the path")
    if found is None:
        pytest.skip("no browser: chromium is missing")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=found, args=list(CHROMIUM))
        yield browser
        browser.close()
