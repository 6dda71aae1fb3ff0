"""The types take what fits, freeze it, and say what does not."""

import numpy as np
import pytest

from siimdet.core.labels import NIH_FINDINGS, OPACITY, STUDY, SUBMISSION_CLASSES
from siimdet.core.types import BoxLabels, Detections, ImageRecord, ImageSize, LabelSpace, Probabilities

SIZE = ImageSize(100, 50)
NONE = np.zeros((0, 4))

BAD_BOXES = [
    ([[1, 2, 3]], r"array of shape \(1, 3\), expected \(-1, 4\)"),
    ([1, 2, 3, 4], r"array of shape \(4,\), expected \(-1, 4\)"),
    (np.zeros((0, 5)), r"array of shape \(0, 5\), expected \(-1, 4\)"),
    ([[1, 2, np.nan, 4]], "box with NaN or infinite coordinates"),
    ([[1, 2, np.inf, 4]], "box with NaN or infinite coordinates"),
    ([[30, 2, 10, 4]], r"box \[30.0, 2.0, 10.0, 4.0\] has no area, expected x1 < x2 and y1 < y2"),
    ([[3, 20, 10, 4]], "has no area"),
    ([[3, 4, 3, 10]], "has no area"),
    ([[-1, 2, 3, 4]], r"box \[-1.0, 2.0, 3.0, 4.0\] is outside its 100x50 image"),
    ([[1, 2, 101, 4]], "is outside its 100x50 image"),
    ([[0, 0, 9, 9], [1, 2, 3, 50.5]], r"box \[1.0, 2.0, 3.0, 50.5\] is outside its 100x50 image"),
]


@pytest.mark.parametrize(("xyxy", "message"), BAD_BOXES)
def test_bad_boxes_are_refused_as_truth_and_as_prediction(xyxy, message):
    ids = np.zeros(len(xyxy), np.int64)
    with pytest.raises(ValueError, match=message):
        BoxLabels(xyxy, ids, SIZE)
    with pytest.raises(ValueError, match=message):
        Detections(xyxy, ids, ids, SIZE)


def test_a_box_may_fill_its_image_and_no_box_may_be_an_empty_list():
    assert BoxLabels([[0, 0, 100, 50]], [0], SIZE).xyxy.tolist() == [[0, 0, 100, 50]]
    for empty in (BoxLabels([], [], SIZE), BoxLabels.empty(SIZE), Detections([], [], [], SIZE), Detections.empty(SIZE)):
        assert len(empty) == 0
        assert empty.xyxy.shape == (0, 4)
        assert (empty.xyxy.dtype, empty.class_ids.dtype) == (np.float32, np.int64)


def test_counts_of_boxes_ids_and_scores_must_agree():
    box = [[0, 0, 1, 1]]
    with pytest.raises(ValueError, match="2 class ids for 1 boxes, expected as many"):
        BoxLabels(box, [0, 0], SIZE)
    with pytest.raises(ValueError, match="1 boxes, 1 class ids and 2 scores, expected as many of each"):
        Detections(box, [0], [0.5, 0.5], SIZE)


@pytest.mark.parametrize("score", [-0.01, 1.01, np.nan, np.inf])
def test_scores_and_probabilities_lie_in_the_unit_interval(score):
    with pytest.raises(ValueError, match=r"score outside \[0, 1\]"):
        Detections([[0, 0, 1, 1]], [0], [score], SIZE)
    with pytest.raises(ValueError, match=r"probability outside \[0, 1\]"):
        Probabilities(("a",), [[score]], OPACITY)


def test_negative_class_ids_are_refused():
    with pytest.raises(ValueError, match="class id -1, expected 0 or more"):
        BoxLabels([[0, 0, 1, 1]], [-1], SIZE)
    with pytest.raises(ValueError, match="class id -1, expected 0 or more"):
        Detections([[0, 0, 1, 1]], [-1], [0.5], SIZE)


def test_probabilities_have_a_row_per_key_and_a_column_per_class():
    with pytest.raises(ValueError, match="1 rows for 2 keys"):
        Probabilities(("a", "b"), [[1, 0, 0, 0]], STUDY)
    with pytest.raises(ValueError, match=r"array of shape \(1, 3\), expected \(-1, 4\)"):
        Probabilities(("a",), [[1, 0, 0]], STUDY)
    assert Probabilities((), [], STUDY).values.shape == (0, 4)


def test_arrays_are_copied_and_frozen():
    given = np.array([[0, 0, 1, 1]], np.float32)
    labels = BoxLabels(given, [0], SIZE)
    given[:] = 9
    assert labels.xyxy.tolist() == [[0, 0, 1, 1]]
    with pytest.raises(ValueError, match="read-only"):
        labels.xyxy[0, 0] = 5
    with pytest.raises(AttributeError):
        labels.size = SIZE


@pytest.mark.parametrize(("width", "height"), [(0, 5), (5, 0), (-1, 5)])
def test_an_image_has_at_least_one_pixel(width, height):
    with pytest.raises(ValueError, match=f"image size is {width}x{height}, expected at least 1x1"):
        ImageSize(width, height)


def record(**changes) -> ImageRecord:
    values = {"labels": [1, 0, np.nan, 0], "split": "train"} | changes
    return ImageRecord("i", "s", "p", "images/i.png", SIZE, SIZE, **values)


def test_records_hold_known_labels_and_splits_only():
    assert record().labels.dtype == np.float32
    with pytest.raises(ValueError, match=r"image i: labels? .*expected 1, 0 or NaN for unknown"):
        record(labels=[0.5])
    with pytest.raises(ValueError, match="image i: split 'dev', expected one of train, val, test"):
        record(split="dev")


def test_label_spaces_have_each_class_once_and_name_what_they_have():
    with pytest.raises(ValueError, match="label space x has a class twice"):
        LabelSpace("x", ("a", "a"))
    assert STUDY.index("atypical") == 3
    with pytest.raises(ValueError, match="siim-study has no class 'none', expected one of negative, typical"):
        STUDY.index("none")


def test_label_spaces_of_the_sources():
    assert len(NIH_FINDINGS) == 14
    assert list(NIH_FINDINGS.names) == sorted(NIH_FINDINGS.names)
    assert "No Finding" not in NIH_FINDINGS.names
    assert SUBMISSION_CLASSES == ("negative", "typical", "indeterminate", "atypical", "none", "opacity")
