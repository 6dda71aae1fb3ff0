"""The end of loading processes where an error ends an epoch in its middle."""

import subprocess
import sys

SAMPLES = """
import multiprocessing
import sys
from pathlib import Path

import numpy as np

from siimdet.core.types import BoxLabels, ImageRecord, ImageSize
from siimdet.data.loader import Samples, ordered_batches
from siimdet.errors import UserError
from siimdet.imaging.png import write_png

root, size = Path(sys.argv[1]), ImageSize(8, 8)
write_png(root / "a.png", np.zeros((8, 8), np.uint8))
records = [ImageRecord(f"{i}", f"{i}", f"{i}", "a.png", size, size, [1], "train") for i in range(64)]
boxes = {record.image_id: BoxLabels.empty(size) for record in records}
samples = Samples(root, records, boxes, side=8, resize="stretch")
"""

UNFINISHED = f"""{SAMPLES}
batches = ordered_batches(samples, batch_size=1, workers=2)
next(batches)
raise RuntimeError("out of memory")
"""

# As Dask does on its import.
TRACEBACKS_TRAVEL = f"""{SAMPLES}
import tblib.pickling_support
tblib.pickling_support.install()
(root / "a.png").write_bytes(b"broken")
try:
    list(ordered_batches(samples, batch_size=1, workers=2))
except UserError as error:
    assert "a.png: file" in str(error), error
    assert multiprocessing.active_children() == [], "they live as long as the error"
else:
    raise AssertionError("no error")
"""


def test_an_error_within_an_epoch_ends_the_process_though_its_workers_ignore_sigterm(tmp_path):
    command = [sys.executable, "-c", UNFINISHED, str(tmp_path)]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=100, check=False)
    assert ended.returncode == 1
    assert ended.stderr.endswith("RuntimeError: out of memory\n")


def test_an_error_held_by_its_handler_keeps_no_worker_even_where_tracebacks_are_pickled(tmp_path):
    command = [sys.executable, "-c", TRACEBACKS_TRAVEL, str(tmp_path)]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=100, check=False)
    assert (ended.returncode, ended.stderr) == (0, "")
