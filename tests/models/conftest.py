"""What the tests of YOLO share: a small tree to train on, and a home folder in which every trace would show."""

from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "home"
    folder.mkdir()
    monkeypatch.setenv("HOME", str(folder))
    return folder


@pytest.fixture
def one_thread() -> Iterator[None]:
    # At 64 px a second thread only waits, for seconds where other processes want its core.
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """Eight noisy images of 80 x 100 px, most with one bright rectangle, in a YOLO tree."""
    rng = np.random.default_rng(0)
    root = tmp_path / "data"
    for folder in ("images", "labels"):
        (root / folder).mkdir(parents=True)
    for i in range(8):
        image = rng.normal(80, 12, (100, 80))
        label = ""
        if i % 4:
            x, y = rng.integers(8, 40, 2)
            image[y : y + 40, x : x + 30] += 90
            label = f"0 {(x + 15) / 80} {(y + 20) / 100} {30 / 80} {40 / 100}\n"
        cv2.imwrite(str(root / "images" / f"case{i}.png"), np.clip(image, 0, 255).astype(np.uint8))
        (root / "labels" / f"case{i}.txt").write_text(label)
    (root / "train.txt").write_text("".join(f"./images/case{i}.png\n" for i in range(8)))
    (root / "data.yaml").write_text(
        "path: .\ntrain: train.txt\nval: train.txt\nchannels: 1\nnc: 1\nnames: {0: opacity}\n"
    )
    return root / "data.yaml"
