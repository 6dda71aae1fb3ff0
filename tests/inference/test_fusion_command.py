"""`siimdet fuse`: files of COCO results in, one out; what it refuses."""

import json

import numpy as np
import pytest

from siimdet.cli import run
from siimdet.core.labels import OPACITY
from siimdet.core.types import BoxLabels, Detections, ImageRecord, ImageSize, LabelSpace
from siimdet.data.coco import write_detections
from siimdet.data.manifest import write_dataset
from siimdet.imaging.png import write_png

SIZE = ImageSize(40, 20)


@pytest.fixture
def fuse(tmp_path):
    """Runs the command on two files, one with two boxes of one image, one with a box of each."""
    root, records = tmp_path / "data", []
    for name in ("a", "b"):
        write_png(root / "images" / f"{name}.png", np.zeros((20, 40), np.uint8))
        records.append(ImageRecord(name, name, name, f"images/{name}.png", SIZE, SIZE, [], "test"))
    nothing = {name: BoxLabels.empty(SIZE) for name in ("a", "b")}
    data = write_dataset(
        root, records, nothing, source="dicom", labels=LabelSpace("none", ()), classes=OPACITY, bit_depth=8
    )
    first = {"a": Detections([[0, 0, 10, 10], [20, 10, 30, 20]], [0, 0], [0.75, 0.25], SIZE)}
    second = {name: Detections([[2, 0, 12, 10]], [0], [0.25], SIZE) for name in ("a", "b")}
    write_detections(tmp_path / "1.json", data, first)
    write_detections(tmp_path / "2.json", data, second)

    def command(*options: object) -> int:
        files = ("fuse", tmp_path / "1.json", tmp_path / "2.json", "--dataset", root, "--out", tmp_path / "fused.json")
        return run([str(word) for word in (*files, *options)])

    return command


@pytest.mark.parametrize(
    ("options", "boxes"),
    [
        ((), [(1, [0.5, 0, 10, 10], 0.5), (1, [20, 10, 10, 10], 0.125), (2, [2, 0, 10, 10], 0.125)]),
        (("--conf-type", "max"), [(1, [0.5, 0, 10, 10], 0.75), (1, [20, 10, 10, 10], 0.25), (2, [2, 0, 10, 10], 0.25)]),
        (("--skip-below", 0.3), [(1, [0, 0, 10, 10], 0.375)]),
        (("--weights", 1, 3, "--skip-below", 0.25, "--conf-type", "absent_model_aware_avg"), None),
    ],
)
def test_files_fuse_to_one(fuse, tmp_path, options, boxes):
    assert fuse(*options) == 0
    found = json.loads((tmp_path / "fused.json").read_text())
    if boxes is None:  # weighted scores .75 and .75 by all weights; .25 by all; .75 by all
        assert [row["score"] for row in found] == [0.375, 0.0625, 0.1875]
    else:
        assert [(row["image_id"], row["bbox"], row["score"]) for row in found] == boxes


@pytest.mark.parametrize("method", ["wbf", "nms", "soft-nms", "nmw"])
def test_equal_weights_give_the_file_that_none_give(fuse, tmp_path, method):
    assert fuse("--method", method) == 0
    without = (tmp_path / "fused.json").read_bytes()
    assert fuse("--method", method, "--weights", 1, 1) == 0
    assert (tmp_path / "fused.json").read_bytes() == without


def test_options_of_other_methods_are_refused(fuse, capfd):
    for option in (("--conf-type", "avg"), ("--skip-below", 0)):
        assert fuse("--method", "nmw", *option) == 2
        assert capfd.readouterr().err.endswith("expected nothing: only wbf has it\n")
    assert fuse("--method", "soft-nms", "--iou", 0.55) == 2
    expected = "siimdet: fusion: min_iou: found 0.55, expected nothing: only wbf, nms and nmw have it\n"
    assert capfd.readouterr().err == expected
    assert fuse("--conf-type", "mean") == 2
    assert "box_and_model_avg" in capfd.readouterr().err
