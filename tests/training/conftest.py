"""Small data sets that a small network learns in seconds."""

from pathlib import Path

import numpy as np
import pytest
import torch

from siimdet.core.labels import OPACITY, STUDY
from siimdet.core.types import BoxLabels, ImageRecord, ImageSize, LabelSpace
from siimdet.data.manifest import Dataset, write_dataset
from siimdet.imaging.png import write_png

SIZE = ImageSize(32, 32)
THREE = LabelSpace("three", ("dark", "left", "COVID-19"))


@pytest.fixture(scope="module", autouse=True)
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)  # at 32 px a second thread only waits
    yield
    torch.set_num_threads(before)


def write_images(root: Path, labels: LabelSpace, classes: LabelSpace, *, images: int, part: int = 4) -> Dataset:
    """Noise with a bright place for every class but the first; every `part`-th patient validates.

    A patient has two images of one class; images with a bright place have it as their box.
    """
    rng, records, boxes = np.random.default_rng(0), [], {}
    for number in range(images):
        kind, name, patient = number // 2 % len(labels), f"image{number:03}", f"patient{number // 2:02}"
        image = rng.integers(0, 60, (32, 32)).astype(np.uint8)
        corner = [(4, 4), (4, 18), (18, 4), (18, 18)][kind]
        boxes[name] = BoxLabels.empty(SIZE)
        if kind:
            y, x = corner
            image[y : y + 10, x : x + 10] += 150
            boxes[name] = BoxLabels([[x, y, x + 10, y + 10]], [0], SIZE) if len(classes) else boxes[name]
        write_png(root / "images" / f"{name}.png", image)
        split = "val" if number // 2 // len(labels) % part == 0 else "train"
        truth = np.eye(len(labels), dtype=np.float32)[kind]
        records.append(ImageRecord(name, patient, patient, f"images/{name}.png", SIZE, SIZE, truth, split))
    return write_dataset(root, records, boxes, source="test", labels=labels, classes=classes, bit_depth=8)


@pytest.fixture(scope="session")
def three_classes(tmp_path_factory) -> Dataset:
    """48 images, 24 patients; 36 to train on."""
    return write_images(tmp_path_factory.mktemp("three"), THREE, LabelSpace("none", ()), images=48)


@pytest.fixture(scope="session")
def studies(tmp_path_factory) -> Dataset:
    """64 images of the four study classes, two per study, all but the negative ones with a box."""
    return write_images(tmp_path_factory.mktemp("studies"), STUDY, OPACITY, images=64)
