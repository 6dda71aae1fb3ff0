"""Who builds a cache of images: one for all, and the next one where the first was killed."""

import os
import pickle
import signal
import socket
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from siimdet.core.labels import OPACITY
from siimdet.core.types import ImageRecord, ImageSize
from siimdet.data.cache import DESCRIPTION, LOCK, PIXELS, open_cache
from siimdet.data.dataset import Dataset
from siimdet.data.placement import fit_image
from siimdet.imaging.png import read_grey, write_png

SIDE = 96
BUILD = f"""
import logging, os, pickle, sys
from pathlib import Path
if "LOCKLESS" in os.environ:
    sys.modules["fcntl"] = None  # as where there is none
    import siimdet.core.files
    del sys.modules["fcntl"]
from siimdet.core.distributed import process_group
from siimdet.data.cache import open_cache
from siimdet.errors import UserError
logging.getLogger("siimdet.data.cache").addHandler(logging.StreamHandler(sys.stdout))
logging.getLogger("siimdet.data.cache").setLevel("INFO")
folder, *described = map(Path, sys.argv[1:])
with process_group():
    for each in described:
        try:
            cache = open_cache(folder, pickle.loads(each.read_bytes()), side={SIDE}, resize="stretch")
            print("sum", cache["0000"].sum())
        except UserError as error:
            print(error)
"""


@pytest.fixture
def slow(tmp_path) -> Dataset:
    """A thousand records of one image, which take a while to cache."""
    root, size, labels = tmp_path / "slow", ImageSize(400, 400), np.zeros(1, np.float32)
    write_png(root / "images/a.png", np.random.default_rng(0).integers(0, 256, (400, 400), np.uint8))
    records = tuple(
        ImageRecord(f"{i:04d}", "study", "patient", "images/a.png", size, size, labels, "train") for i in range(1000)
    )
    return Dataset(root, "test", OPACITY, OPACITY, 8, records, {}, "a" * 64)


def builder(folder: Path, described: list[Path], environment: dict[str, str] | None = None) -> subprocess.Popen:
    """A process that opens the caches of pickled data sets: prints what it builds, and an image's sum or the error."""
    everything = {**os.environ, "OMP_NUM_THREADS": "1", **(environment or {})}
    command = [sys.executable, "-c", BUILD, str(folder), *map(str, described)]
    return subprocess.Popen(command, env=everything, stdout=subprocess.PIPE, text=True)


def pickled(dataset: Dataset, path: Path) -> Path:
    path.write_bytes(pickle.dumps(dataset))
    return path


def torchrun(folder: Path, described: list[Path], *ranks: dict[str, str]) -> list[list[str]]:
    """Lines that the processes of a torchrun print."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    together = {"WORLD_SIZE": str(len(ranks)), "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
    processes = [builder(folder, described, together | rank) for rank in ranks]
    return [process.communicate(timeout=120)[0].splitlines() for process in processes]


def files(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.rglob("*") if path.is_file())


def test_of_two_builders_at_once_one_builds_and_the_other_waits(slow, tmp_path, caplog):
    start = threading.Barrier(2)

    def build(_: int):
        start.wait()
        return open_cache(tmp_path / "cache", slow, side=SIDE, resize="stretch")

    with caplog.at_level("INFO", logger="siimdet.data.cache"), ThreadPoolExecutor(2) as pool:
        one, other = pool.map(build, range(2))
    assert [record.getMessage()[:19] for record in caplog.records] == ["caching 1000 images"]
    assert np.array_equal(one["0999"], other["0999"])
    assert files(tmp_path / "cache") == [DESCRIPTION, LOCK, PIXELS]


def test_where_a_builder_is_killed_the_one_that_waits_builds_and_clears_up(slow, tmp_path):
    folder = tmp_path / "cache"
    process = builder(folder, [pickled(slow, tmp_path / "described")])
    while not any(path.stat().st_size for path in folder.rglob(f".{PIXELS}.*")):
        assert process.poll() is None
        time.sleep(0.002)
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(open_cache, folder, slow, side=SIDE, resize="stretch")
        process.send_signal(signal.SIGKILL)
        assert process.wait() == -signal.SIGKILL
        cache = waiting.result()
    process.communicate()
    assert files(folder) == [DESCRIPTION, LOCK, PIXELS]
    expected, _ = fit_image(read_grey(slow.root / "images/a.png"), SIDE, "stretch")
    assert all(np.array_equal(cache[f"{i:04d}"], expected) for i in range(1000))


def test_under_torchrun_one_process_of_a_machine_builds_and_all_stop_at_what_it_cannot_read(slow, tmp_path):
    few = replace(slow, records=slow.records[:3])
    absent = replace(few, records=(*few.records, replace(few.records[0], image_id="x", path="images/b.png")))
    (slow.root / "images/b.png").write_bytes(b"broken")
    described = [pickled(few, tmp_path / "few"), pickled(absent, tmp_path / "absent")]
    said = torchrun(tmp_path / "cache", described, *({"RANK": rank, "LOCAL_RANK": rank} for rank in "01"))
    complaint = f"{slow.root / 'images/b.png'}: file: found a file that starts with b'broken', expected a whole PNG"
    expected, _ = fit_image(read_grey(slow.root / "images/a.png"), SIDE, "stretch")
    assert [line[:15] for line in said[0] if line.startswith("caching")] == ["caching 3 image", "caching 4 image"]
    for lines in said:
        total, error = (line for line in lines if not line.startswith("caching"))
        assert total == f"sum {expected.sum()}"
        assert error.startswith(complaint)


def test_of_two_machines_on_one_folder_without_locks_the_first_builds(slow, tmp_path):
    machines = ({"RANK": rank, "LOCAL_RANK": "0", "LOCKLESS": "1"} for rank in "01")
    first, second = torchrun(tmp_path / "cache", [pickled(slow, tmp_path / "described")], *machines)
    assert [line.split(" in ")[0] for line in first[:-1]] == ["caching 1000 images"]
    assert second == first[-1:]
    assert first[-1].startswith("sum ")


@pytest.mark.parametrize("lockless", [True, False])
def test_what_another_builder_may_be_writing_is_left_alone_where_there_are_no_locks(slow, tmp_path, lockless):
    few = replace(slow, records=slow.records[:3])
    open_cache(tmp_path / "cache", few, side=SIDE, resize="stretch")
    (pixels,) = (tmp_path / "cache").rglob(PIXELS)
    pixels.rename(pixels.with_name(f".{PIXELS}.1234"))
    environment = {"LOCKLESS": "1"} if lockless else {}
    process = builder(tmp_path / "cache", [pickled(few, tmp_path / "few")], environment)
    assert process.communicate(timeout=120)[0].splitlines()[-1].startswith("sum ")
    assert files(tmp_path / "cache") == [*[f".{PIXELS}.1234"] * lockless, DESCRIPTION, LOCK, PIXELS]
