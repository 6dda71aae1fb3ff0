"""Fusion of boxes: by hand, and beside the library."""

import ensemble_boxes
import numpy as np
import pytest

from siimdet.core.types import Detections, ImageSize
from siimdet.errors import FusionError
from siimdet.inference.fusion import fuse

SIZE = ImageSize(200, 100)
METHODS = ("wbf", "nms", "soft-nms", "nmw")
# IoU of the first with the second is 80 / 120, with the third 0.
LEFT, RIGHT, AWAY = [0, 0, 10, 10], [2, 0, 12, 10], [100, 50, 150, 90]


def detections(boxes, scores, class_ids=None, size=SIZE) -> Detections:
    return Detections(boxes, class_ids if class_ids is not None else [0] * len(boxes), scores, size)


def fused(*models: Detections, **options) -> Detections:
    return fuse([{"i": model} for model in models], **options)["i"]


def as_lists(found: Detections):
    return found.xyxy.astype(float).round(4).tolist(), found.scores.astype(float).round(5).tolist()


def test_weighted_box_fusion_by_hand():
    found = fused(detections([LEFT, AWAY], [0.9, 0.6]), detections([RIGHT], [0.3]))
    # x1 = (0 * .9 + 2 * .3) / 1.2; the score is the mean; the box that one of two models sees halves.
    assert as_lists(found) == ([[0.5, 0, 10.5, 10], AWAY], [0.6, 0.3])


def test_weighted_box_fusion_with_weights_by_hand():
    found = fused(detections([LEFT], [0.9]), detections([RIGHT], [0.3]), weights=[1, 3])
    # Both count .9, so the box is in the middle; the score is (.9 + .9) / 2 * 2 / 4.
    assert as_lists(found) == ([[1, 0, 11, 10]], [0.45])


@pytest.mark.parametrize(
    ("conf_type", "score"),
    [
        (None, 1.8 / 4),  # by the sum of the weights
        ("avg", 1.8 / 4),
        ("max", 0.8 / 2),  # the highest by the highest weight
        ("box_and_model_avg", 1.8 / 4 * 3 / 4),  # by the boxes' weights, times the share of the two models
        ("absent_model_aware_avg", 1.8 / 5),  # by the boxes' weights and the third model's
    ],
)
def test_how_scores_become_one_by_hand(conf_type, score):
    first, second = detections([LEFT, LEFT], [0.6, 0.4]), detections([RIGHT], [0.4])
    found = fused(first, second, Detections.empty(SIZE), weights=[1, 2, 1], conf_type=conf_type)
    # x1 = 2 * .8 / 1.8, the weighted scores being .8, .6 and .4.
    assert as_lists(found) == ([pytest.approx([1.6 / 1.8, 0, 10 + 1.6 / 1.8, 10], abs=1e-4)], [pytest.approx(score)])


def test_more_boxes_than_models_count_as_many_as_models():
    assert as_lists(fused(detections([LEFT, LEFT], [0.8, 0.4]))) == ([LEFT], [pytest.approx(0.6)])


def test_boxes_below_a_score_are_left_out_before_they_fuse():
    pair = detections([LEFT], [0.9]), detections([RIGHT], [0.3])
    assert as_lists(fused(*pair, skip_below=0.3)) == ([[0.5, 0, 10.5, 10]], [0.6])
    assert as_lists(fused(*pair, skip_below=0.31)) == ([LEFT], [0.45])
    assert len(fused(*pair, skip_below=1)) == 0


def test_a_score_above_one_becomes_one():
    found = fused(detections([LEFT, LEFT], [1, 1]), detections([RIGHT], [0.01]), weights=[3, 1], min_iou=0.7)
    assert found.scores[0] == 1  # the mean, 3, twice, by the sum of the weights, 4


def test_boxes_fuse_above_the_iou_only_and_within_a_class_only():
    pair = detections([LEFT], [0.9]), detections([RIGHT], [0.3])
    assert len(fused(*pair, min_iou=0.66)) == 1
    assert len(fused(*pair, min_iou=0.67)) == 2
    other = detections([RIGHT], [0.3], [1])
    assert sorted(fused(pair[0], other, min_iou=0.1).class_ids) == [0, 1]


def test_one_model_alone_keeps_boxes_that_do_not_overlap():
    given = detections([AWAY, LEFT], [0.4, 0.8], [1, 0])
    for method in METHODS:
        found = fused(given, method=method)
        assert as_lists(found) == ([LEFT, AWAY], [0.8, 0.4])
        assert found.class_ids.tolist() == [0, 1]


def test_suppression_by_hand():
    models = detections([LEFT, AWAY], [0.9, 0.5]), detections([RIGHT], [0.8])
    assert as_lists(fused(*models, method="nms")) == ([LEFT, AWAY], [0.9, 0.5])
    assert as_lists(fused(*models, method="nms", min_iou=0.7)) == ([LEFT, RIGHT, AWAY], [0.9, 0.8, 0.5])
    assert as_lists(fused(*models, method="nms", weights=[1, 3])) == ([RIGHT, AWAY], [0.8, 0.16667])


@pytest.mark.parametrize("method", METHODS)
def test_equal_weights_are_no_weights(method):
    rng = np.random.default_rng(4)
    models = [random_detections(rng, 20) for _ in range(3)]
    without = fused(*models, method=method)
    for weight in (1, 0.25, 7):
        found = fused(*models, method=method, weights=[weight] * 3)
        np.testing.assert_allclose(found.xyxy, without.xyxy, rtol=1e-6)
        np.testing.assert_allclose(found.scores, without.scores, rtol=1e-6)
        assert found.class_ids.tolist() == without.class_ids.tolist()


@pytest.mark.parametrize("method", METHODS)
def test_weights_matter_by_their_proportions_alone(method):
    rng = np.random.default_rng(5)
    models = [random_detections(rng, 20) for _ in range(2)]
    first, second = (fused(*models, method=method, weights=weights) for weights in ([1, 2], [4, 8]))
    assert as_lists(first) == as_lists(second)


def test_soft_suppression_by_weights_by_hand():
    found = fused(detections([LEFT, AWAY], [0.9, 0.5]), detections([RIGHT], [0.8]), weights=[1, 2], method="soft-nms")
    lowered = 0.45 * np.exp(-((80 / 120) ** 2) / 0.5)
    boxes, scores = as_lists(found)
    assert boxes == [RIGHT, AWAY, LEFT]
    assert scores == pytest.approx([0.8, 0.25, lowered], abs=1e-5)


def test_soft_suppression_lowers_the_scores_of_the_rest():
    models = detections([LEFT, AWAY], [0.9, 0.5]), detections([RIGHT], [0.8])
    lowered = 0.8 * np.exp(-((80 / 120) ** 2) / 0.5)
    boxes, scores = as_lists(fused(*models, method="soft-nms"))
    assert boxes == [LEFT, AWAY, RIGHT]
    assert scores == pytest.approx([0.9, 0.5, lowered], abs=1e-5)
    other_class = detections([RIGHT], [0.8], [1])
    assert as_lists(fused(models[0], other_class, method="soft-nms"))[1] == [0.9, 0.8, 0.5]


def test_soft_suppression_goes_on_from_the_lowered_scores():
    third = [1, 0, 11, 10]
    found = fused(detections([LEFT, RIGHT, third], [0.9, 0.8, 0.7]), method="soft-nms")
    near, far = np.exp(-((90 / 110) ** 2) / 0.5), np.exp(-((80 / 120) ** 2) / 0.5)
    expected = {tuple(LEFT): 0.9, tuple(RIGHT): 0.8 * far, tuple(third): 0.7 * near * near}
    assert {tuple(b): s for b, s in zip(*as_lists(found), strict=True)} == pytest.approx(expected, abs=1e-5)


def test_non_maximum_weighted_by_hand():
    boxes, scores = as_lists(fused(detections([LEFT], [0.9]), detections([RIGHT], [0.6]), method="nmw"))
    weight = 0.6 * 80 / 120  # score times IoU with the best; the best's own weight is .9
    x1 = 2 * weight / (0.9 + weight)
    assert boxes == pytest.approx(np.array([[x1, 0, 10 + x1, 10]]), abs=1e-4)
    assert scores == [0.9]


def random_detections(rng: np.random.Generator, count: int, size: ImageSize = SIZE) -> Detections:
    corners = rng.uniform(0, (150, 60), (count, 2))
    boxes = np.concatenate([corners, corners + rng.uniform(5, 40, (count, 2))], axis=1)
    return detections(boxes, rng.uniform(0.01, 1, count), rng.integers(0, 2, count), size)


@pytest.mark.parametrize("seed", range(8))
def test_fusion_equals_the_library_on_random_boxes(seed):
    rng = np.random.default_rng(seed)
    models = [random_detections(rng, int(rng.integers(0, 25))) for _ in range(3)]
    extent = np.array([200, 100, 200, 100])
    weights = [1.0, 2.0, 0.5] if seed % 2 else None
    for method, theirs in (("wbf", ensemble_boxes.weighted_boxes_fusion), ("nmw", ensemble_boxes.non_maximum_weighted)):
        boxes, scores, labels = theirs(
            [m.xyxy / extent for m in models],
            [m.scores for m in models],
            [m.class_ids for m in models],
            weights=weights,
            iou_thr=0.4,
        )
        found = fused(*models, method=method, min_iou=0.4, weights=weights)
        order = np.lexsort((boxes[:, 0], -scores.astype(np.float32)))
        ours = np.lexsort((found.xyxy[:, 0], -found.scores))
        assert found.scores[ours] == pytest.approx(scores[order], abs=1e-6)
        assert found.xyxy[ours] == pytest.approx((boxes * extent)[order], abs=1e-3)
        assert found.class_ids[ours].tolist() == labels[order].tolist()
        assert (np.diff(found.scores) <= 0).all()


@pytest.mark.parametrize("method", METHODS)
def test_a_model_of_weight_0_has_no_say(method):
    without = detections([RIGHT, AWAY, AWAY], [0.5, 0.9, 0.8])
    assert as_lists(fused(detections([LEFT], [0.9]), without, weights=[1, 0], method=method)) == ([LEFT], [0.9])


@pytest.mark.parametrize("conf_type", [None, "max", "box_and_model_avg", "absent_model_aware_avg"])
def test_boxes_without_weight_do_not_count_in_the_mean_of_more_boxes_than_models(conf_type):
    # Counted, .8 and 0 would be .4, and with the second model's boxes (.8 + 0) / 4 * 2 = .4.
    alone = detections([LEFT, RIGHT], [0.8, 0])
    assert as_lists(fused(alone, conf_type=conf_type)) == ([LEFT], [0.8])
    silent = detections([LEFT, RIGHT], [0.9, 0.7])
    assert as_lists(fused(alone, silent, weights=[1, 0], conf_type=conf_type)) == ([LEFT], [0.8])


def test_a_box_without_an_area_is_none():
    with pytest.raises(ValueError, match="has no area"):
        detections([[5, 5, 5, 9]], [0.5])


@pytest.mark.parametrize("method", METHODS)
def test_nothing_found_stays_nothing_and_zero_scores_carry_no_weight(method):
    empty, worthless = Detections.empty(SIZE), detections([LEFT, RIGHT], [0, 0])
    for models in ((empty,), (empty, empty), (worthless, empty)):
        found = fused(*models, method=method)
        assert (len(found), found.size) == (0, SIZE)
    sure = detections([AWAY], [0.5])
    assert as_lists(fused(detections([LEFT, AWAY], [0, 0.5]), sure, method=method))[0][0] == AWAY
    assert fuse([], method=method) == {}


def test_an_image_that_a_model_lacks_has_no_boxes_from_it():
    found = fuse([{"a": detections([LEFT], [0.8])}, {"b": detections([AWAY], [0.6])}])
    assert list(found) == ["a", "b"]
    assert as_lists(found["a"]) == ([LEFT], [0.4])
    assert as_lists(found["b"]) == ([AWAY], [0.3])


@pytest.mark.parametrize("method", METHODS)
def test_images_of_other_sizes_do_not_touch_each_other(method):
    rng = np.random.default_rng(0)
    sizes = {name: ImageSize(200 + i, 100) for i, name in enumerate("badc")}
    models = [{name: random_detections(rng, 12, size) for name, size in sizes.items()} for _ in range(3)]
    options = {"method": method} if method == "soft-nms" else {"method": method, "min_iou": 0.3}
    together = fuse(models, **options)
    assert list(together) == ["a", "b", "c", "d"]
    for name, size in sizes.items():
        alone = fuse([{name: model[name]} for model in models], **options)[name]
        assert together[name].size == alone.size == size
        assert together[name].xyxy.tobytes() == alone.xyxy.tobytes()
        assert together[name].scores.tobytes() == alone.scores.tobytes()
        assert together[name].class_ids.tobytes() == alone.class_ids.tobytes()


@pytest.mark.parametrize(
    ("options", "line"),
    [
        ({"weights": [1]}, "weights: found 1, expected 2, one per model"),
        ({"weights": [1, -1]}, "weights: found [1, -1], expected numbers from 0 to 1000000, one of them above 0"),
        ({"weights": [0, 0]}, "weights: found [0, 0], expected numbers from 0 to 1000000, one of them above 0"),
        ({"weights": [1, np.nan]}, "weights: found [1, nan], expected numbers from 0 to 1000000, one of them above 0"),
        ({"weights": [1, np.inf]}, "weights: found [1, inf], expected numbers from 0 to 1000000, one of them above 0"),
        ({"min_iou": 1.1}, "min_iou: found 1.1, expected a number from 0 to 1"),
        ({"method": "median"}, "method: found median, expected one of wbf, nms, soft-nms, nmw"),
        (
            {"conf_type": "mean"},
            "conf_type: found mean, expected one of avg, max, box_and_model_avg, absent_model_aware_avg",
        ),
        (
            {"method": "soft-nms", "min_iou": 0.55},
            "min_iou: found 0.55, expected nothing: only wbf, nms and nmw have it",
        ),
        ({"method": "nms", "conf_type": "max"}, "conf_type: found max, expected nothing: only wbf has it"),
        ({"method": "nmw", "skip_below": 0.0}, "skip_below: found 0.0, expected nothing: only wbf has it"),
    ],
)
def test_options_that_do_not_fit_are_refused(options, line):
    with pytest.raises(FusionError) as refused:
        fused(detections([LEFT], [0.5]), detections([LEFT], [0.5]), **options)
    assert str(refused.value) == f"fusion: {line}"


def test_models_must_agree_on_the_size():
    other = Detections.empty(ImageSize(100, 200))
    with pytest.raises(FusionError, match=r"^image i: size: found .*, expected one size in all models$"):
        fused(detections([LEFT], [0.5]), other)
