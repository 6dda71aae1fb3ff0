"""Weighted box fusion beside ensemble_boxes: every box, score, label and their order, to the last bit."""

import warnings
from dataclasses import dataclass
from typing import Any

import ensemble_boxes
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from siimdet.inference.weighted_boxes import CONF_TYPES, weighted_boxes


@dataclass(frozen=True)
class Case:
    """Boxes, scores and labels of each image by model, and the options of both sides."""

    images: list[list[tuple[np.ndarray, np.ndarray, np.ndarray]]]
    weights: list[float] | None
    min_iou: float
    conf_type: Any
    skip_below: float


def make(
    seed: int,
    *,
    images: int = 1,
    models: int = 3,
    most: int = 30,
    places: int | None = None,
    scores: int | None = None,
    dtype: type = np.float32,
    weights: list[float] | None = None,
    min_iou: float = 0.55,
    conf_type: Any = "avg",
    skip_below: float = 0.0,
) -> Case:
    """Random boxes, some beyond the image, inverted or without an area; places and scores rounded to decimals."""
    rng = np.random.default_rng(seed)

    def boxes() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        count = int(rng.integers(0, most + 1))
        corner = rng.uniform(-0.1, 0.9, (count, 2))
        xyxy = np.concatenate([corner, corner + rng.uniform(-0.05, 0.4, (count, 2))], axis=1)
        values = rng.uniform(0, 1, count)
        return (
            xyxy if places is None else xyxy.round(places),
            (values if scores is None else values.round(scores)).astype(dtype),
            rng.integers(0, 3, count),
        )

    return Case([[boxes() for _ in range(models)] for _ in range(images)], weights, min_iou, conf_type, skip_below)


@st.composite
def cases(draw) -> Case:
    models = draw(st.integers(1, 10))
    weight = st.one_of(st.integers(0, 3), st.floats(0.01, 5))
    return make(
        draw(st.integers(0, 2**32 - 1)),
        images=draw(st.integers(1, 3)),
        models=models,
        most=draw(st.sampled_from([1, 4, 30, 90])),
        places=draw(st.sampled_from([None, 1, 2])),
        scores=draw(st.sampled_from([None, 0, 1, 2])),
        dtype=draw(st.sampled_from([np.float32, np.float64])),
        weights=draw(st.none() | st.lists(weight, min_size=models, max_size=models).filter(any)),
        min_iou=draw(st.sampled_from([0, 0.3, 0.5, 0.55, 0.9, 1])),
        conf_type=draw(st.sampled_from(CONF_TYPES)),
        skip_below=draw(st.sampled_from([0, 0.1, 0.3, 0.7])),
    )


def assert_same_bits(case: Case) -> None:
    every = [
        (np.full(len(scores), i), np.full(len(scores), m), xyxy, scores, labels)
        for i, image in enumerate(case.images)
        for m, (xyxy, scores, labels) in enumerate(image)
    ]
    found = weighted_boxes(
        *(np.concatenate(column) for column in zip(*every, strict=True)),
        weights=np.ones(len(case.images[0])) if case.weights is None else np.array(case.weights, np.float64),
        min_iou=case.min_iou,
        conf_type=case.conf_type,
        skip_below=case.skip_below,
    )
    for i, image in enumerate(case.images):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # it warns of boxes that it mends, and divides 0 by 0
            xyxy, scores, labels = ensemble_boxes.weighted_boxes_fusion(
                *zip(*image, strict=True),
                weights=case.weights,
                iou_thr=case.min_iou,
                conf_type=case.conf_type,
                skip_box_thr=case.skip_below,
            )
        mine = found.images == i
        assert found.class_ids[mine].tolist() == labels.tolist()
        assert bits(found.scores[mine]) == bits(scores)
        assert bits(found.xyxy[mine]) == bits(xyxy)


def bits(values: np.ndarray) -> list:
    return np.where(np.isnan(values), np.nan, values).astype(np.float64).view(np.int64).tolist()


@given(cases())
def test_the_library_gives_the_same_bits(case):
    assert_same_bits(case)


@pytest.mark.slow
@settings(max_examples=1000)
@given(cases())
def test_the_library_gives_the_same_bits_a_thousand_times(case):
    assert_same_bits(case)


@pytest.mark.parametrize("conf_type", CONF_TYPES)
@pytest.mark.parametrize("weights", [None, [1, 2, 3], [0.3, 0.0, 1.7], [0, 0, 1]], ids=str)
def test_equal_scores_of_many_boxes(conf_type, weights):
    assert_same_bits(make(1, most=400, scores=1, weights=weights, conf_type=conf_type))


@pytest.mark.parametrize("conf_type", CONF_TYPES)
@pytest.mark.parametrize("models", [8, 9, 20, 150])
def test_weights_of_many_models_add_up_in_the_order_of_numpy(conf_type, models):
    weights = np.random.default_rng(2).uniform(0.1, 3, models).tolist()
    assert_same_bits(make(3, models=models, most=6, weights=weights, conf_type=conf_type, min_iou=0.1))


@pytest.mark.parametrize(("min_iou", "fused"), [(0.5, 2), (np.nextafter(0.5, 0), 1)])
def test_an_overlap_of_exactly_the_least_is_too_little(min_iou, fused):
    whole, half = np.array([[0, 0, 0.5, 0.5]]), np.array([[0, 0, 0.25, 0.5]])
    case = Case([[(box, np.array([0.5]), np.array([0])) for box in (whole, half)]], None, min_iou, "avg", 0)
    assert_same_bits(case)
    zeros, boxes = np.zeros(2, int), np.concatenate([whole, half])
    found = weighted_boxes(zeros, np.arange(2), boxes, np.full(2, 0.5), zeros, weights=np.ones(2), min_iou=min_iou)
    assert len(found.scores) == fused


def test_of_two_that_overlap_equally_the_first_is_joined():
    left, right, between = [0, 0, 0.5, 0.5], [0.5, 0, 1, 0.5], [0.25, 0, 0.75, 0.5]
    boxes, scores, zeros = np.array([left, right, between]), np.array([0.8, 0.6, 0.2]), np.zeros(3, int)
    assert_same_bits(Case([[(boxes, scores, zeros)]], None, 0.3, "avg", 0))
    found = weighted_boxes(zeros, zeros, boxes, scores, zeros, weights=np.ones(1), min_iou=0.3)
    assert found.xyxy == pytest.approx(np.array([right, [0.05, 0, 0.55, 0.5]]), abs=1e-6)
    assert found.scores.tolist() == [0.6, 0.5]


def test_a_skip_is_compared_in_the_precision_of_the_scores():
    # .7 in float32 is below .7: a comparison in float64 would leave it out.
    box = np.array([[0.1, 0.1, 0.5, 0.5]])
    case = Case([[(box, np.array([0.7], np.float32), np.array([0]))]], None, 0.55, "avg", 0.7)
    assert_same_bits(case)
    found = weighted_boxes(*np.zeros((2, 1), int), *case.images[0][0], weights=np.ones(1), min_iou=0.55, skip_below=0.7)
    assert found.scores.tolist() == [np.float32(0.7)]


def test_boxes_are_mended_or_left_out():
    boxes = [[0.5, 0.4, 0.1, 0.2], [-0.5, 0.5, 0.25, 1.5], [0.3, 0.3, 0.3, 0.9], [1.2, 0.1, 1.5, 0.4]]
    zeros = np.zeros(4, int)
    found = weighted_boxes(
        zeros, zeros, np.array(boxes), np.array([0.9, 0.8, 0.7, 0.6]), zeros, weights=np.ones(1), min_iou=0.55
    )
    assert found.xyxy.tolist() == [[0.1, 0.2, 0.5, 0.4], [0, 0.5, 0.25, 1]]
    assert found.scores.tolist() == [0.9, 0.8]


@pytest.mark.parametrize("conf_type", CONF_TYPES)
def test_no_boxes_at_all(conf_type):
    assert_same_bits(make(0, most=0, images=2, conf_type=conf_type))
