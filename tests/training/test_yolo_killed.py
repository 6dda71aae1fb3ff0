"""YOLO's training killed at any moment and resumed through the command line."""

import importlib.util
import shutil
import signal
import time
from pathlib import Path

import pytest
import torch

from siimdet.cli import run
from siimdet.data.manifest import read_dataset
from siimdet.data.yolo import write_yolo
from siimdet.training.checkpoint import STATE
from siimdet.training.journal import JOURNAL, read_journal

if importlib.util.find_spec("ultralytics") is None:
    pytest.skip("needs the extra `yolo`", allow_module_level=True)

DEMO = Path(__file__).parents[2] / "configs" / "demo" / "yolo_siim.yaml"
EPOCHS = 4
SETTINGS = (f"epochs={EPOCHS}", "image_size=64", "batch_size=8", "nominal_batch=16", "mosaic=.5", "mixup=.3")


@pytest.fixture(scope="module")
def data(studies, tmp_path_factory) -> Path:
    root = tmp_path_factory.mktemp("boxes") / "data"
    shutil.copytree(studies.root, root)
    write_yolo(read_dataset(root))
    return root


def arguments(data: Path, out: Path) -> list[str]:
    return ["train-detector", str(DEMO), *SETTINGS, "--dataset", str(data), "--out", str(out), "--device", "cpu"]


@pytest.fixture(scope="module")
def unbroken(data, tmp_path_factory) -> Path:
    out = tmp_path_factory.mktemp("unbroken") / "run"
    assert run(arguments(data, out)) == 0
    return out


def figures(out: Path) -> list[dict]:
    return [{key: value for key, value in entry.items() if key != "seconds"} for entry in read_journal(out)]


@pytest.mark.parametrize("lines", [1, 2])
def test_killed_and_resumed_it_gives_the_numbers_of_an_unbroken_run(data, unbroken, start, tmp_path, lines):
    broken = tmp_path / "run"
    log = tmp_path / "stderr.txt"
    child = start(arguments(data, broken), log)
    journal, deadline = broken / JOURNAL, time.monotonic() + 120
    while not (journal.is_file() and journal.read_bytes().count(b"\n") >= lines):
        assert child.is_alive() and time.monotonic() < deadline, log.read_text()
        time.sleep(0.002)
    child.kill()
    child.join()
    assert child.exitcode == -signal.SIGKILL
    assert lines <= len(read_journal(broken)) < EPOCHS
    resume = ["--resume"] if (broken / STATE).is_file() else []  # killed before its first epoch was whole
    assert run([*arguments(data, broken), *resume]) == 0
    assert figures(broken) == figures(unbroken)
    for name in ("weights/best.safetensors", "data/train.txt"):
        assert (broken / name).read_bytes() == (unbroken / name).read_bytes(), name
    one, other = (torch.load(out / STATE, weights_only=True) for out in (broken, unbroken))
    for part in ("model", "ema"):
        assert all(torch.equal(value, other[part][key]) for key, value in one[part].items())
