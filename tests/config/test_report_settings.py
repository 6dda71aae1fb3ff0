"""The figures of the report behind S1, as the files under configs/ hold them."""

import math
from pathlib import Path

import pytest

from siimdet.config_file import load_config
from siimdet.training.setup import build_schedule

CONFIGS = Path(__file__).parents[2] / "configs"
KINDS = ("backbone", "study", "faster_rcnn", "yolo", "coupling")


def pinned(name: str, **expected) -> None:
    config = load_config(CONFIGS / f"{name}.yaml", kinds=KINDS).model_dump()
    assert {key: config[key] for key in expected} == expected


SGD = {"name": "sgd", "lr": 0.001, "momentum": 0.9, "nesterov": True, "weight_decay": 0.0}
COSINE_EVERY_2 = {"name": "cosine_floor", "floor": 0.05, "step_every": 2}
IMAGENET = {"mean": (0.485, 0.456, 0.406), "std": (0.229, 0.224, 0.225)}
CLASSIFIER_AUGMENT = {
    "horizontal_flip": 0.5,
    "affine": {"p": 1.0, "rotate": 20.0, "shift": 0.0},
    "sharpen": 0.0,
    "blur": 0.3,
    "brightness_contrast": 0.0,
    "cutout": None,
    "erase": {"p": 0.3, "area": (0.01, 0.1)},
}
DETECTOR_AUGMENT = {
    "horizontal_flip": 0.3,
    "affine": {"p": 0.3, "rotate": 20.0, "shift": 0.0625},
    "sharpen": 0.5,
    "blur": 0.25,
    "brightness_contrast": 0.3,
    "cutout": {"p": 0.3, "holes": 6, "radius": 0.05},
    "erase": None,
}


def test_backbone():
    pinned(
        "backbone/resnext101_nih",
        kind="backbone",
        body="resnext101_32x8d",
        weights="imagenet",
        epochs=35,
        batch_size=32,
        image_size=224,
        resize="shorter",
        amp=True,
        optimiser=SGD,
        schedule=COSINE_EVERY_2,
        augment=CLASSIFIER_AUGMENT,
        **IMAGENET,
    )


@pytest.mark.parametrize(("source", "only_positives"), [("rsna", True), ("siim", False)])
def test_faster_rcnn(source, only_positives):
    pinned(
        f"detector/faster_rcnn_{source}",
        kind="faster_rcnn",
        body="resnext101_32x8d",
        epochs=50,
        batch_size=10,
        validation_batch_size=6,
        image_size=512,
        inference_size=1024,
        resize="stretch",
        amp=True,
        optimiser=SGD,
        schedule=COSINE_EVERY_2,
        augment=DETECTOR_AUGMENT,
        only_positives=only_positives,
        **IMAGENET,
    )


@pytest.mark.parametrize(("source", "epochs", "only_positives"), [("rsna", 30, True), ("siim", 35, False)])
def test_yolo(source, epochs, only_positives):
    pinned(
        f"detector/yolo_{source}",
        kind="yolo",
        architecture="yolov5l.yaml",
        epochs=epochs,
        image_size=512,
        batch_size=3,
        nominal_batch=64,
        optimizer="sgd",
        lr=0.01,
        final_lr_fraction=0.05,
        momentum=0.937,
        weight_decay=5e-4,
        warmup_iterations=1000,
        overlap="giou",
        flip_vertical=0.1,
        flip_horizontal=0.5,
        mixup=0.5,
        mosaic=0.0,
        amp=True,
        nms_confidence=0.1,
        nms_iou=0.2,
        only_positives=only_positives,
    )


def test_study_level():
    pinned(
        "study/resnext101_siim",
        kind="study",
        body="resnext101_32x8d",
        trainable=("head",),
        epochs=58,
        batch_size=15,
        hidden=1024,
        dropout=0.5,
        class_weights=False,
        image_size=224,
        resize="shorter",
        optimiser={**SGD, "lr": 5e-4, "nesterov": False},
        schedule={**COSINE_EVERY_2, "step_every": 1},
        augment=CLASSIFIER_AUGMENT,
        **IMAGENET,
    )


def test_fusion_and_submission():
    pinned("submit/s1", kind="coupling", fusion_iou=0.55, fusion_weights=None)


@pytest.mark.parametrize(
    ("name", "last"),
    [
        ("backbone/resnext101_nih", 0.001 * (0.5 * (1 + math.cos(math.pi * 17 / 35)) * 0.95 + 0.05)),
        ("study/resnext101_siim", 0.0005 * (0.5 * (1 + math.cos(math.pi * 57 / 58)) * 0.95 + 0.05)),
    ],
)
def test_where_the_learning_rate_starts_and_ends(name, last):
    config = load_config(CONFIGS / f"{name}.yaml", kinds=KINDS)
    rate = build_schedule(config, steps=10)
    assert rate(0, 0) == config.optimiser.lr
    assert rate(config.epochs - 1, 9) == pytest.approx(last, rel=1e-12)
