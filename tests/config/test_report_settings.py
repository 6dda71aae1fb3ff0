"""The figures of the report behind S1, as the files under configs/ hold them; S2 to S5: test_recipe_settings.py."""

import math
from pathlib import Path
from typing import Any

import pytest

from siimdet.config import Augment
from siimdet.config_file import load_config
from siimdet.training.setup import build_schedule

CONFIGS = Path(__file__).parents[2] / "configs"
KINDS = ("backbone", "study", "classifier", "faster_rcnn", "yolo", "coupling")


def settings(name: str) -> dict[str, Any]:
    return load_config(CONFIGS / f"{name}.yaml", kinds=KINDS).model_dump()


def pinned(name: str, **expected) -> None:
    config = settings(name)
    assert {key: config[key] for key in expected} == expected


def pinned_phases(name: str, **phases: dict[str, Any]) -> None:
    """The phases are these, in this order, and hold these values."""
    found = settings(name)["phases"]
    assert list(found) == list(phases)
    assert {phase: {key: found[phase][key] for key in keys} for phase, keys in phases.items()} == phases


def optimiser(kind: str, lr: float, **more) -> dict[str, Any]:
    return {"name": kind, "lr": lr, "momentum": 0.9, "nesterov": False, "weight_decay": 0.0, **more}


def part(config: dict[str, Any], **expected) -> None:
    assert {key: config[key] for key in expected} == expected


SGD = optimiser("sgd", 0.001, nesterov=True)
COSINE_EVERY_2 = {"name": "cosine_floor", "floor": 0.05, "step_every": 2, "gamma": 0.5, "warmup_steps": 0}
IMAGENET = {"mean": (0.485, 0.456, 0.406), "std": (0.229, 0.224, 0.225)}
NO_AUGMENT = Augment().model_dump()
CLASSIFIER_AUGMENT = {
    **NO_AUGMENT,
    "horizontal_flip": 0.5,
    "affine": {"p": 1.0, "rotate": 20.0, "shift": 0.0},
    "blur": 0.3,
    "erase": {"p": 0.3, "area": (0.01, 0.1)},
}
DETECTOR_AUGMENT = {
    **NO_AUGMENT,
    "horizontal_flip": 0.3,
    "affine": {"p": 0.3, "rotate": 20.0, "shift": 0.0625},
    "sharpen": 0.5,
    "blur": 0.25,
    "brightness_contrast": 0.3,
    "cutout": {"p": 0.3, "holes": 6, "radius": 0.05},
}


def test_backbone():
    pinned(
        "backbone/resnext101_nih",
        kind="backbone",
        body="resnext101_32x8d",
        weights="imagenet",
        resize="shorter",
        **IMAGENET,
    )
    pinned_phases(
        "backbone/resnext101_nih",
        backbone={
            "epochs": 35,
            "batch_size": 32,
            "image_size": 224,
            "trainable": ("*",),
            "amp": True,
            "optimiser": SGD,
            "schedule": COSINE_EVERY_2,
            "augment": CLASSIFIER_AUGMENT,
            "best": {"figure": "auroc", "goal": None},
        },
    )
    part(settings("backbone/resnext101_nih")["phases"]["backbone"]["task"], name="multilabel", class_weights=False)


@pytest.mark.parametrize(("source", "only_positives"), [("rsna", True), ("siim", False)])
def test_faster_rcnn(source, only_positives):
    name = f"detector/faster_rcnn_{source}"
    pinned(
        name,
        kind="faster_rcnn",
        body="resnext101_32x8d",
        validation_batch_size=6,
        inference_size=1024,
        resize="stretch",
        box_loss="smooth_l1",
        only_positives=only_positives,
        **IMAGENET,
    )
    phase = {
        "epochs": 50,
        "batch_size": 10,
        "image_size": 512,
        "amp": True,
        "optimiser": SGD,
        "schedule": COSINE_EVERY_2,
        "augment": DETECTOR_AUGMENT,
    }
    pinned_phases(name, faster_rcnn=phase)


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
        head={"hidden": (1024,), "dropout": 0.5, "input_dropout": 0.0, "input_norm": False, "kernel": None},
        auxiliary={"opacity": 0.0, "mask": 0.0},
        study_images="all",
        resize="shorter",
        **IMAGENET,
    )
    pinned_phases(
        "study/resnext101_siim",
        study={
            "trainable": ("head",),
            "epochs": 58,
            "batch_size": 15,
            "image_size": 224,
            "optimiser": optimiser("sgd", 5e-4),
            "schedule": {**COSINE_EVERY_2, "step_every": 1},
            "augment": CLASSIFIER_AUGMENT,
            "best": {"figure": "accuracy", "goal": None},
        },
    )
    part(settings("study/resnext101_siim")["phases"]["study"]["task"], name="cross_entropy", class_weights=False)


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
    (phase,) = load_config(CONFIGS / f"{name}.yaml", kinds=KINDS).phases.values()
    rate = build_schedule(phase.schedule, phase.optimiser.lr, epochs=phase.epochs, steps=10)
    assert rate(0, 0) == phase.optimiser.lr
    assert rate(phase.epochs - 1, 9) == pytest.approx(last, rel=1e-12)
