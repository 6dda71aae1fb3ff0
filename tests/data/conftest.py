"""A small data set on disk that the tests of batches share."""

from pathlib import Path

import numpy as np
import pytest

from siimdet.core.types import BoxLabels, ImageRecord, ImageSize
from siimdet.imaging.png import write_png


@pytest.fixture(scope="session")
def stored(tmp_path_factory) -> tuple[Path, list[ImageRecord], dict[str, BoxLabels]]:
    """Eleven images of 60 x 40 px; the even ones have a box."""
    root = tmp_path_factory.mktemp("dataset")
    rng = np.random.default_rng(0)
    size, records, boxes = ImageSize(60, 40), [], {}
    for index in range(11):
        name = f"image{index:02d}"
        write_png(root / "images" / f"{name}.png", rng.integers(0, 256, (40, 60), np.uint8))
        labels = [index % 2, np.nan]
        records.append(ImageRecord(name, name, name, f"images/{name}.png", size, size, labels, "train"))
        boxes[name] = BoxLabels.empty(size) if index % 2 else BoxLabels([[index, 5, 40, 30]], [0], size)
    return root, records, boxes
