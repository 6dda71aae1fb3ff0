"""Who builds a cache of images: one for all, and the next one where the first was killed."""

import signal
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
BUILD = """
import importlib, logging
if lockless:
    import siimdet.core.files
    sys.modules["fcntl"] = None  # as where there is none
    importlib.reload(siimdet.core.files)
    del sys.modules["fcntl"]
from siimdet.core.distributed import process_group
from siimdet.data.cache import open_cache
from siimdet.errors import UserError
logging.getLogger("siimdet.data.cache").addHandler(logging.StreamHandler(sys.stdout))
logging.getLogger("siimdet.data.cache").setLevel("INFO")
with process_group():
    for dataset in datasets:
        try:
            cache = open_cache(folder, dataset, side=side, resize="stretch")
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


@pytest.fixture
def builder(forked, tmp_path):
    """Starts a process that opens caches: prints what it builds, and an image's sum or the error, into `said`."""

    def begin(datasets: list[Dataset], said: Path, environment: dict[str, str], *, lockless: bool = False):
        values = {"folder": tmp_path / "cache", "datasets": datasets, "side": SIDE, "lockless": lockless}
        return forked(BUILD, values, environment=environment, stdout=said)

    return begin


@pytest.fixture
def said(builder, tmp_path):
    """Lines that processes print which open caches: said(datasets, environments, lockless=False)."""

    def by(datasets: list[Dataset], environments: list[dict[str, str]], *, lockless: bool = False) -> list[list[str]]:
        logs = [tmp_path / f"said{number}" for number in range(len(environments))]
        processes = [
            builder(datasets, log, environment, lockless=lockless)
            for log, environment in zip(logs, environments, strict=True)
        ]
        for process in processes:
            process.join(120)
        assert [process.exitcode for process in processes] == [0] * len(processes)
        return [log.read_text().splitlines() for log in logs]

    return by


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


def test_where_a_builder_is_killed_the_one_that_waits_builds_and_clears_up(slow, builder, tmp_path):
    folder = tmp_path / "cache"
    process = builder([slow], tmp_path / "said", {})
    while not any(path.stat().st_size for path in folder.rglob(f".{PIXELS}.*")):
        assert process.is_alive()
        time.sleep(0.002)
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(open_cache, folder, slow, side=SIDE, resize="stretch")
        process.kill()
        process.join()
        assert process.exitcode == -signal.SIGKILL
        cache = waiting.result()
    assert files(folder) == [DESCRIPTION, LOCK, PIXELS]
    expected, _ = fit_image(read_grey(slow.root / "images/a.png"), SIDE, "stretch")
    assert all(np.array_equal(cache[f"{i:04d}"], expected) for i in range(1000))


def test_under_torchrun_one_process_of_a_machine_builds_and_all_stop_at_what_it_cannot_read(slow, said, places):
    few = replace(slow, records=slow.records[:3])
    absent = replace(few, records=(*few.records, replace(few.records[0], image_id="x", path="images/b.png")))
    (slow.root / "images/b.png").write_bytes(b"broken")
    lines_of = said([few, absent], places(2))
    complaint = f"{slow.root / 'images/b.png'}: file: found a file that starts with b'broken', expected a whole PNG"
    expected, _ = fit_image(read_grey(slow.root / "images/a.png"), SIDE, "stretch")
    assert [line[:15] for line in lines_of[0] if line.startswith("caching")] == ["caching 3 image", "caching 4 image"]
    for lines in lines_of:
        total, error = (line for line in lines if not line.startswith("caching"))
        assert total == f"sum {expected.sum()}"
        assert error.startswith(complaint)


def test_of_two_machines_on_one_folder_without_locks_the_first_builds(slow, said, places):
    machines = [place | {"LOCAL_RANK": "0"} for place in places(2)]
    first, second = said([slow], machines, lockless=True)
    assert [line.split(" in ")[0] for line in first[:-1]] == ["caching 1000 images"]
    assert second == first[-1:]
    assert first[-1].startswith("sum ")


@pytest.mark.parametrize("lockless", [True, False])
def test_what_another_builder_may_be_writing_is_left_alone_where_there_are_no_locks(slow, said, tmp_path, lockless):
    few = replace(slow, records=slow.records[:3])
    open_cache(tmp_path / "cache", few, side=SIDE, resize="stretch")
    (pixels,) = (tmp_path / "cache").rglob(PIXELS)
    pixels.rename(pixels.with_name(f".{PIXELS}.1234"))
    (lines,) = said([few], [{}], lockless=lockless)
    assert lines[-1].startswith("sum ")
    assert files(tmp_path / "cache") == [*[f".{PIXELS}.1234"] * lockless, DESCRIPTION, LOCK, PIXELS]
