"""Coupling boxes with the study level: exponents, pixels and order, by hand."""

import numpy as np
import pytest

from siimdet.config import Calibration, Coupling, NoneExponents, OpacityExponents
from siimdet.core.labels import OPACITY, STUDY
from siimdet.core.types import Detections, ImageRecord, ImageSize, Probabilities
from siimdet.errors import ConfigError, FusionError, SubmissionError
from siimdet.submission.coupling import couple, coupled_submission, fused_boxes
from siimdet.submission.table import CLASSES, Submission
from siimdet.submission.uncoupled import uncoupled_submission

STORED, ORIGINAL = ImageSize(100, 50), ImageSize(300, 200)
STUDIES = Probabilities(("s1", "s2"), [[0.2, 0.5, 0.2, 0.1], [0.9, 0.05, 0.03, 0.02]], STUDY)


def record(image: str, study: str, stored=STORED, original=ORIGINAL) -> ImageRecord:
    return ImageRecord(image, study, "p", f"images/{image}.png", stored, original, [0], "test")


RECORDS = [record("b", "s1"), record("a", "s1"), record("c", "s2")]
BOXES = {"a": Detections([[10, 5, 60, 40], [0, 0, 100, 50]], [0, 0], [0.8, 0.5], STORED)}


def submission(coupling: Coupling | None = None, **options) -> Submission:
    plain = Coupling(kind="coupling")
    return couple(RECORDS, options.pop("boxes", BOXES), STUDIES, coupling or plain, file="s.csv", **options)


def row(given: Submission, row_id: str) -> list[tuple[str, float, list[float]]]:
    mine = np.flatnonzero(given.rows == given.ids.index(row_id))
    return [(CLASSES.names[given.class_ids[i]], given.scores[i], given.xyxy[i].tolist()) for i in mine]


def test_without_exponents_scores_pass_unchanged_and_boxes_are_in_original_pixels():
    found = row(submission(), "a_image")
    assert [name for name, _, _ in found] == ["none", "opacity", "opacity"]
    assert [score for _, score, _ in found] == pytest.approx([0.2, 0.8, 0.5])
    assert [box for _, _, box in found] == [[0, 0, 1, 1], [30, 20, 180, 160], [0, 0, 300, 200]]


def test_a_study_emits_all_four_classes_with_the_unit_box():
    found = row(submission(), "s1_study")
    assert [name for name, _, _ in found] == ["negative", "typical", "indeterminate", "atypical"]
    assert [score for _, score, _ in found] == pytest.approx([0.2, 0.5, 0.2, 0.1])
    assert all(box == [0, 0, 1, 1] for _, _, box in found)


def test_the_winners_exponents_by_hand():
    coupling = Coupling(
        kind="coupling",
        opacity=OpacityExponents(own=0.7, not_negative=0.2, image_opacity=0.1),
        none=NoneExponents(own=0.8, image_opacity=0.2),
    )
    given = submission(coupling)
    none, best, second = (score for _, score, _ in row(given, "a_image"))
    assert none == pytest.approx(0.2**0.8 * 0.2**0.2, rel=1e-6)
    assert best == pytest.approx(0.8**0.7 * 0.8**0.2 * 0.8**0.1, rel=1e-6)
    assert second == pytest.approx(0.5**0.7 * 0.8**0.2 * 0.8**0.1, rel=1e-6)
    # An image without boxes: p_opacity is 0.
    assert row(given, "c_image") == [("none", pytest.approx(0.9**0.8, rel=1e-6), [0, 0, 1, 1])]


def test_a_study_run_may_tell_how_probable_a_box_is():
    coupling = Coupling(
        kind="coupling", opacity=OpacityExponents(own=0.5, p_opacity=0.5), none=NoneExponents(own=0.2, p_opacity=0.8)
    )
    opacity = Probabilities(("c", "b", "a"), [[0.0], [0.5], [0.64]], OPACITY)
    given = submission(coupling, opacity=opacity)
    none, best, second = (score for _, score, _ in row(given, "a_image"))
    assert none == pytest.approx(0.2**0.2 * 0.36**0.8, rel=1e-6)
    assert (best, second) == (pytest.approx(0.8**0.5 * 0.8, rel=1e-6), pytest.approx(0.5**0.5 * 0.8, rel=1e-6))
    assert row(given, "c_image") == [("none", pytest.approx(0.9**0.2, rel=1e-6), [0, 0, 1, 1])]
    expected = r"coupling: none.p_opacity: found 0.8, of a study run that does not tell it, expected 0, or a run with"
    with pytest.raises(ConfigError, match=expected):
        submission(coupling.model_copy(update={"opacity": OpacityExponents()}))


def test_a_submission_is_coupled_anew_from_its_own_confidences():
    plain = submission()
    again = uncoupled_submission(plain, {"a": "s1", "b": "s1", "c": "s2"})
    assert again.p_opacity == pytest.approx([0.8, 0.8, 0.1])  # 1 - none
    assert again.highest == pytest.approx([0.8, 0, 0])
    same = coupled_submission(again, Coupling(kind="coupling"))
    assert same.ids == plain.ids
    for column in ("rows", "class_ids", "scores", "xyxy"):
        assert np.array_equal(getattr(same, column), getattr(plain, column)), column
    halved = coupled_submission(again, Coupling(kind="coupling", opacity=OpacityExponents(own=0.5, p_opacity=0.5)))
    assert [score for _, score, _ in row(halved, "a_image")] == pytest.approx([0.2, 0.8, (0.5 * 0.8) ** 0.5])


@pytest.mark.parametrize(
    ("left_out", "words"),
    [
        ("s1_study", "line 2, 'a_image': found no row for s1_study, expected the row of the image's study"),
        ("a_image none", "line 2, 'a_image': found 0 predictions of none, expected one"),
        ("s2_study negative", "line 6, 's2_study': found 0 predictions of negative, expected one"),
    ],
)
def test_a_submission_without_what_the_exponents_need_is_refused(left_out, words):
    plain = submission()
    key, _, name = left_out.partition(" ")
    keep = np.array(
        [
            plain.ids[r] != key or CLASSES.names[c] not in (name or CLASSES.names)
            for r, c in zip(plain.rows, plain.class_ids, strict=True)
        ]
    )
    ids = plain.ids if name else tuple(i for i in plain.ids if i != key)
    rows = [ids.index(plain.ids[r]) for r in plain.rows[keep]]
    cut = Submission("s.csv", ids, np.array(rows), plain.class_ids[keep], plain.scores[keep], plain.xyxy[keep])
    with pytest.raises(SubmissionError, match=words):
        uncoupled_submission(cut, {"a": "s1", "b": "s1", "c": "s2"})


def test_boxes_of_detectors_are_fused_as_the_coupling_says():
    models = [
        {"a": Detections([[0, 0, 10, 10]], [0], [0.8], STORED)},
        {"a": Detections([[2, 0, 12, 10]], [0], [0.4], STORED)},  # IoU 2/3
    ]
    apart = fused_boxes(models, Coupling(kind="coupling", fusion_iou=0.7))["a"]
    assert apart.scores.tolist() == pytest.approx([0.4, 0.2])
    weighted = fused_boxes(models, Coupling(kind="coupling", fusion_iou=0.6, fusion_weights=(3, 1)))["a"]
    assert weighted.scores.tolist() == pytest.approx([0.7])
    best = fused_boxes(models, Coupling(kind="coupling", fusion_iou=0.7, nms_iou=0.6))["a"]
    assert best.scores.tolist() == pytest.approx([0.4])


def test_scores_are_calibrated_before_boxes_are_fused():
    models = [
        {"a": Detections([[0, 0, 10, 10]], [0], [0.8], STORED), "b": Detections.empty(STORED)},
        {"a": Detections([[0, 0, 10, 10]], [0], [0.4], STORED)},
    ]
    # Odds of 4 become 2; .4 lies halfway between two knots.
    rules = (Calibration(temperature=2), Calibration(knots=((0.3, 0.0), (0.5, 0.2))))
    fused = fused_boxes(models, Coupling(kind="coupling", calibration=rules))
    assert fused["a"].scores.tolist() == pytest.approx([(2 / 3 + 0.1) / 2])
    with pytest.raises(FusionError, match=r"^coupling: calibration: found 1, expected 2, one per detector$"):
        fused_boxes(models, Coupling(kind="coupling", calibration=rules[:1]))


@pytest.mark.parametrize("rule", [Calibration(temperature=2), Calibration(knots=((0.3, 0.0), (0.5, 0.2)))], ids=str)
def test_a_detector_that_found_nothing_is_calibrated_to_nothing(rule):
    found = {"a": Detections([[0, 0, 10, 10]], [0], [0.8], STORED)}
    plain = Calibration()
    assert fused_boxes([{}], Coupling(kind="coupling", calibration=(rule,))) == {}
    fused = fused_boxes([found, {}], Coupling(kind="coupling", calibration=(plain, rule)))
    assert fused["a"].scores.tolist() == pytest.approx([0.4])


def test_knots_rise_and_stand_alone():
    with pytest.raises(ValueError, match="expected rising scores"):
        Calibration(knots=((0.5, 0.1), (0.3, 0.2)))
    with pytest.raises(ValueError, match="ranks would change"):
        Calibration(knots=((0.3, 0.2), (0.5, 0.1)))
    with pytest.raises(ValueError, match="expected one of them"):
        Calibration(temperature=2, knots=((0.3, 0.2),))


def test_certain_probabilities_are_no_trouble():
    studies = Probabilities(("s1", "s2"), [[1, 0, 0, 0], [0, 1, 0, 0]], STUDY)
    boxes = {"a": Detections([[0, 0, 1, 1]], [0], [1], STORED), "c": Detections([[0, 0, 1, 1]], [0], [0], STORED)}
    coupling = Coupling(
        kind="coupling", opacity=OpacityExponents(own=0, not_negative=0.5), none=NoneExponents(image_opacity=0.5)
    )
    given = couple(RECORDS, boxes, studies, coupling, file="s.csv")
    assert [score for _, score, _ in row(given, "a_image")] == [0, 0]
    assert [score for _, score, _ in row(given, "c_image")] == [0, 1]


def test_rows_are_sorted_or_follow_the_sample():
    assert submission().ids == ("a_image", "b_image", "c_image", "s1_study", "s2_study")
    sample = ("s2_study", "c_image", "s1_study", "b_image", "a_image")
    given = submission(ids=sample)
    assert given.ids == sample
    assert row(given, "a_image") == row(submission(), "a_image")
    assert (np.diff(given.rows) >= 0).all()


def test_ids_must_be_those_of_the_records():
    complete = submission().ids
    with pytest.raises(SubmissionError, match=r"^s.csv: d_image: found no such image or study in the data, expected"):
        submission(ids=(*complete, "d_image"))
    with pytest.raises(
        SubmissionError, match=r"^s.csv: s2_study: found an id that the sample lacks, expected the sample"
    ):
        submission(ids=complete[:-1])
    with pytest.raises(SubmissionError, match="the id a second time"):
        submission(ids=(*complete, "a_image"))


def test_a_box_at_the_border_stays_inside_however_its_scale_rounds():
    stored, original = ImageSize(333, 777), ImageSize(1000, 3001)
    boxes = {"x": Detections([[0.1, 0.2, 333, 777]], [0], [0.5], stored)}
    given = couple([record("x", "s1", stored, original)], boxes, STUDIES, Coupling(kind="coupling"), file="s.csv")
    assert row(given, "x_image")[1][2][2:] == [1000, 3001]
