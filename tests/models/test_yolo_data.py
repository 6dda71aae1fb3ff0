"""What a YOLO trains on: images and boxes of a tree through ultralytics' augmentations, and trees that are broken."""

import importlib.util
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from siimdet.data.loader import fit_image
from siimdet.errors import DatasetError
from siimdet.models.yolo_settings import YoloSettings

if importlib.util.find_spec("ultralytics") is None:
    pytest.skip("needs the extra `yolo`", allow_module_level=True)

from siimdet.models.yolo_data import StretchedImages, epoch_loader, read_yolo_boxes, read_yolo_tree

pytestmark = pytest.mark.usefixtures("home", "one_thread")

SMALL = YoloSettings(image_size=64, batch=3, mosaic=0.5)


def test_training_stretches_images_and_keeps_boxes_on_them(tree: Path) -> None:
    plain = replace(SMALL, flip_horizontal=0, flip_vertical=0, value_jitter=0, mixup=0, mosaic=0)
    sample = StretchedImages(read_yolo_tree(tree), plain)[1]
    image = cv2.imread(str(tree.parent / "images" / "case1.png"), cv2.IMREAD_GRAYSCALE)
    assert sample["img"].shape == (1, 64, 64)
    assert np.array_equal(sample["img"][0].numpy(), fit_image(image, 64, "stretch")[0])
    written = read_yolo_boxes(tree.parent / "images" / "case1.png", 1)
    assert sample["bboxes"].numpy() == pytest.approx(written[:, 1:], abs=1e-6)


def test_value_jitter_changes_grey_images(tree: Path) -> None:
    jittered = replace(SMALL, flip_horizontal=0, flip_vertical=0, value_jitter=0.4, mixup=0, mosaic=0)
    images = StretchedImages(read_yolo_tree(tree), jittered)
    means = set()
    for images.epoch_seed in range(3):
        means.add(float(images[1]["img"].float().mean()))
    assert len(means) == 3


def test_batches_of_an_epoch_do_not_depend_on_what_was_read_before(tree: Path) -> None:
    images = StretchedImages(read_yolo_tree(tree), SMALL)

    def first() -> torch.Tensor:
        return next(iter(epoch_loader(images, SMALL, seed=5, pin_memory=False)))["img"]

    assert torch.equal(first(), first())


@pytest.mark.parametrize(
    ("file", "text", "message"),
    [
        ("labels/case1.txt", "0 .5 .5 .2", r"case1\.txt: line 1: found '0 \.5 \.5 \.2'"),
        ("labels/case1.txt", "0 .5 .5 .2 .2\n1 .5 .5 .2 .2", r"case1\.txt: line 2"),
        ("labels/case1.txt", "0 nan .5 .2 .2", r"case1\.txt: line 1"),
        ("labels/case1.txt", "0 .5 .5 0 .2", r"case1\.txt: line 1"),
        ("train.txt", "./images/absent.png", r"train\.txt: images: found no .*absent\.png"),
        ("train.txt", "", r"train\.txt: images: found none"),
        ("data.yaml", "names: {0: opacity}", r"data\.yaml: train: found nothing"),
    ],
)
def test_a_broken_tree_is_one_line(tree: Path, file: str, text: str, message: str) -> None:
    (tree.parent / file).write_text(text)
    with pytest.raises(DatasetError, match=message):
        StretchedImages(read_yolo_tree(tree), SMALL)
