"""YOLO's training images from the cache: the very samples that it makes of the files."""

import importlib.util

import numpy as np
import pytest
import torch

from siimdet.core.labels import OPACITY
from siimdet.core.types import BoxLabels, ImageRecord, ImageSize
from siimdet.data.cache import open_cache
from siimdet.data.manifest import write_dataset
from siimdet.data.yolo import write_yolo, write_yolo_lists
from siimdet.imaging.png import write_png
from siimdet.models.yolo_settings import YoloSettings

if importlib.util.find_spec("ultralytics") is None:
    pytest.skip("needs the extra `yolo`", allow_module_level=True)

from siimdet.models.yolo_data import StretchedImages, read_yolo_tree


def test_samples_with_and_without_a_cache_are_the_same_to_the_bit(tmp_path):
    rng, size, records, boxes = np.random.default_rng(0), ImageSize(60, 40), [], {}
    for name in ("a", "b", "c", "d"):
        write_png(tmp_path / f"images/{name}.png", rng.integers(0, 256, (40, 60), np.uint8))
        records.append(ImageRecord(name, name, name, f"images/{name}.png", size, size, np.ones(1), "train"))
        boxes[name] = BoxLabels(np.array([[10, 5, 40, 30]]), np.zeros(1, np.int64), size)
    dataset = write_dataset(tmp_path, records, boxes, source="test", labels=OPACITY, classes=OPACITY, bit_depth=8)
    write_yolo(dataset)
    tree = read_yolo_tree(write_yolo_lists(tmp_path / "run", dataset, records[1:], []))
    cache = open_cache(tmp_path / "cache", dataset, side=64, resize="stretch")
    settings = YoloSettings(image_size=64, mosaic=0.5, mixup=0.5, translate=0.1, scale=0.2)
    without, within = StretchedImages(tree, settings), StretchedImages(tree, settings, cache=cache)
    for epoch in range(5):
        without.epoch_seed = within.epoch_seed = epoch
        for index in range(3):
            one, other = without[index], within[index]
            assert one.keys() == other.keys()
            assert torch.equal(one["img"], other["img"])
            assert torch.equal(one["bboxes"], other["bboxes"])
            assert (one["ori_shape"], one["resized_shape"]) == (other["ori_shape"], other["resized_shape"])
