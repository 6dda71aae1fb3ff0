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
from siimdet.data.cache import DESCRIPTION, PIXELS, open_cache
from siimdet.data.dataset import Dataset
from siimdet.data.placement import fit_image
from siimdet.imaging.png import read_grey, write_png

SIDE = 96
BUILD = f"""
import pickle, sys
from pathlib import Path
from siimdet.core.distributed import process_group
from siimdet.data.cache import open_cache
from siimdet.errors import UserError
folder, *described = map(Path, sys.argv[1:])
with process_group():
    for each in described:
        try:
            cache = open_cache(folder, pickle.loads(each.read_bytes()), side={SIDE}, resize="stretch")
            print(cache["0000"].sum())
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
    """A process that opens the caches of pickled data sets, and prints the sum of an image or the error of each."""
    everything = {**os.environ, "OMP_NUM_THREADS": "1", **(environment or {})}
    command = [sys.executable, "-c", BUILD, str(folder), *map(str, described)]
    return subprocess.Popen(command, env=everything, stdout=subprocess.PIPE, text=True)


def pickled(dataset: Dataset, path: Path) -> Path:
    path.write_bytes(pickle.dumps(dataset))
    return path


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
    assert files(tmp_path / "cache") == [DESCRIPTION, PIXELS]


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
    assert files(folder) == [DESCRIPTION, PIXELS]
    expected, _ = fit_image(read_grey(slow.root / "images/a.png"), SIDE, "stretch")
    assert all(np.array_equal(cache[f"{i:04d}"], expected) for i in range(1000))


def test_under_torchrun_one_process_of_a_machine_builds_and_all_stop_at_what_it_cannot_read(slow, tmp_path):
    few = replace(slow, records=slow.records[:3])
    absent = replace(few, records=(*few.records, replace(few.records[0], image_id="x", path="images/b.png")))
    (slow.root / "images/b.png").write_bytes(b"broken")
    described = [pickled(few, tmp_path / "few"), pickled(absent, tmp_path / "absent")]
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    together = {"WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
    ranks = [{"RANK": rank, "LOCAL_RANK": rank} for rank in "01"]
    processes = [builder(tmp_path / "cache", described, together | rank) for rank in ranks]
    said = [process.communicate(timeout=120)[0].splitlines() for process in processes]
    complaint = f"{slow.root / 'images/b.png'}: file: found a file that starts with b'broken', expected a whole PNG"
    expected, _ = fit_image(read_grey(slow.root / "images/a.png"), SIDE, "stretch")
    for total, error in said:
        assert int(total) == expected.sum()
        assert error.startswith(complaint)
