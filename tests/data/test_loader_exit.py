"""The end of a process that an error takes down in the middle of an epoch."""

import subprocess
import sys

import pytest

UNFINISHED = """
import sys
from pathlib import Path

import numpy as np

from siimdet.core.types import BoxLabels, ImageRecord, ImageSize
from siimdet.data.loader import Samples, ordered_batches
from siimdet.imaging.png import write_png

root, size = Path(sys.argv[1]), ImageSize(8, 8)
write_png(root / "a.png", np.zeros((8, 8), np.uint8))
records = [ImageRecord(f"{i}", f"{i}", f"{i}", "a.png", size, size, [1], "train") for i in range(64)]
boxes = {record.image_id: BoxLabels.empty(size) for record in records}
samples = Samples(root, records, boxes, side=8, resize="stretch")
batches = ordered_batches(samples, batch_size=1, workers=2)
next(batches)
raise RuntimeError("out of memory")
"""


@pytest.mark.timeout(120)
def test_an_error_within_an_epoch_ends_the_process_though_its_workers_ignore_sigterm(tmp_path):
    command = [sys.executable, "-c", UNFINISHED, str(tmp_path)]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=100, check=False)
    assert ended.returncode == 1
    assert ended.stderr.endswith("RuntimeError: out of memory\n")
