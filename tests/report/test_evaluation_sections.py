"""The sections of the report on values: figures by hand, what is escaped, what is left out."""

import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from siimdet.core.labels import OPACITY, STUDY
from siimdet.core.types import ImageSize, LabelSpace
from siimdet.report.elements import DASH
from siimdet.report.evaluation import Evaluation, write_evaluation
from siimdet.report.evaluation.breakdowns import groups
from siimdet.report.evaluation.detection import detectors, envelope, steps
from siimdet.report.evaluation.difference import verdict
from siimdet.report.evaluation.images import agreements, choose
from siimdet.report.figures import Axis, thumbnail
from siimdet.scoring.box_tables import PredictedBoxes, TruthBoxes
from siimdet.scoring.voc import class_curve
from siimdet.submission.judged import Case, Judged, JudgedBoxes, JudgedClasses
from siimdet.submission.scored import Scored, resampled

EVIL = """<img src="http://evil.example/x" onerror=alert(1)>'&</title></style>"""
BOX, MISS, OTHER = [10, 10, 50, 50], [60, 60, 90, 90], [100, 100, 140, 160]
SIZE = ImageSize(200, 160)


def boxes_judged(found, truth, *, cases=None, classes=OPACITY):
    """Judged boxes of one case per image; `found` and `truth` are (image, class, box) and a score."""
    count = 1 + max(row[0] for row in (*found, *truth)) if cases is None else len(cases)
    cases = cases or [Case(f"image{i}", f"study{i}", f"patient{i}", SIZE) for i in range(count)]
    columns = [np.array([row[i] for row in truth]) for i in range(3)]
    predicted = [np.array([row[i] for row in found]) for i in range(4)]
    boxes = JudgedBoxes(
        tuple(case.image_id for case in cases),
        TruthBoxes(*columns),
        PredictedBoxes(predicted[0], predicted[1], predicted[2], predicted[3]),
        classes,
        np.arange(len(cases)),
    )
    return Judged(tuple(cases), tuple(str(case.patient_id) for case in cases), "patient", boxes)


def evaluation(judged, figures=None, **more):
    given = {"opacity": 0.5, "mAP": 0.5, "images": len(judged.cases)} if figures is None else figures
    scored = resampled(Scored(Path("boxes.json"), given, judged), 100)
    return Evaluation(**{"title": "T", "subtitle": "S", "name": "boxes.json", "scored": scored} | more)


def two_images():
    truth = [(0, 0, BOX), (1, 0, BOX), (1, 0, OTHER)]
    return boxes_judged([(0, 0, BOX, 0.9), (0, 0, MISS, 0.8), (1, 0, BOX, 0.7), (1, 0, MISS, 0.1)], truth)


@pytest.fixture
def written(tmp_path, read_page):
    def write(given):
        write_evaluation(tmp_path / "report.html", given)
        return read_page(tmp_path / "report.html")

    return write


def test_the_operating_point_and_the_table_by_hand(written):
    (own,) = detectors(evaluation(two_images()))
    # From .7 on: two hits of three boxes and three truths, so F1 is 4 / 6; one false box on two images.
    assert own.point is not None
    assert (own.point.threshold, own.point.false_positives_per_image) == (0.7, 0.5)
    text = written(evaluation(two_images())).text
    assert "AP@.5 0.556 F1 0.667 Recall 0.667 Precision 0.667 Threshold 0.700 False positives per image 0.500" in text


def test_detectors_stand_beside_the_file_and_the_best_is_marked(written):
    worse = boxes_judged([(0, 0, BOX, 0.9)], [(0, 0, BOX), (1, 0, BOX), (1, 0, OTHER)])
    other = Scored(Path("yolo.json"), {}, worse)
    page = written(evaluation(two_images(), detectors={"yolo": other}))
    assert "AP@.5 0.333 0.556" in page.text
    assert "Precision 1.000 0.667" in page.text
    assert "<strong>0.556</strong>" in page.source
    assert "<strong>1.000</strong>" in page.source
    assert "<strong>0.333</strong>" not in page.source


def test_agreement_counts_hits_misses_and_false_boxes_from_the_threshold_on():
    judged = two_images()
    (own,) = detectors(evaluation(judged))
    found = agreements(judged.cases, own)
    assert [(a.hits, a.missed, a.false) for a in found] == [(1, 0, 1), (1, 1, 0)]


def test_the_images_are_the_best_the_worst_and_some_without_boxes():
    truth = [(i, 0, BOX) for i in range(12)]
    found = [(i, 0, BOX if i < 6 else MISS, 0.5 + i / 100) for i in range(20)]
    judged = boxes_judged(found, truth, cases=[Case(f"i{i:02d}", "s", "p", SIZE) for i in range(24)])
    groups_of = choose(judged.cases, agreements(judged.cases, detectors(evaluation(judged_of(judged)))[0]))
    best, worst, free = groups_of.values()
    assert [len(group) for group in (best, worst, free)] == [4, 4, 4]
    assert all(a.f1 == 1 for a in best)
    assert all(a.f1 == 0 for a in worst)
    assert [a.false for a in free] == [1, 1, 0, 0]
    assert len({a.case for group in groups_of.values() for a in group}) == 12


def judged_of(judged):
    return replace(judged, owners=tuple(f"p{i % 3}" for i in range(len(judged.owners))))


def test_ids_names_and_sources_cannot_run(written):
    cases = [Case(EVIL, EVIL, EVIL, SIZE, source={EVIL: EVIL}), Case("b", "b", "b", SIZE, source={EVIL: "other"})]
    truth = [(0, 0, BOX), (1, 0, BOX)]
    space = LabelSpace("evil", (EVIL,))
    judged = boxes_judged([(0, 0, BOX, 0.9), (1, 0, BOX, 0.8)], truth, cases=cases, classes=space)
    facts = {EVIL: EVIL}
    page = written(evaluation(judged, {EVIL: 0.5, "mAP": 0.5}, title=EVIL, subtitle=EVIL, name=EVIL, facts=facts))
    assert "img" not in page.tags
    assert page.outside() == []
    assert page.text.count(EVIL) >= 8
    assert (page.tags.count("title"), page.tags.count("style")) == (1, 1)


def test_nothing_found_shows_dashes_and_draws_no_box(written):
    judged = boxes_judged([(0, 0, MISS, 0.5)], [(0, 0, BOX), (1, 0, BOX)])
    page = written(evaluation(judged, {"opacity": 0.0, "mAP": 0.0}))
    figures = f"F1 {DASH} Recall {DASH} Precision {DASH} Threshold {DASH}"
    for text in (figures, "no threshold, none drawn", "0 of 1 found, none false"):
        assert text in page.text
    assert 'class="box c' not in page.source
    assert 'class="box truth"' in page.source


def test_images_without_any_truth_have_no_curve(written):
    judged = boxes_judged([(0, 0, MISS, 0.5), (1, 0, MISS, 0.4)], [])
    page = written(evaluation(judged, {"opacity": None, "mAP": None}))
    assert "there is no curve" in page.text
    assert "nothing to find, none false" in page.text


def test_sixteen_bits_are_visible(tmp_path, make_dataset):
    deep = make_dataset(tmp_path / "deep", bit_depth=16)
    image = thumbnail(deep.root / deep.records[0].path, 100)
    assert (image.shape, image.dtype, image.min(), image.max()) == ((83, 100), np.uint8, 0, 255)


def test_kinds_are_columns_of_few_values_and_thirds_of_the_size():
    sizes = [ImageSize(100, 50), ImageSize(60, 200), ImageSize(300, 300), None]
    source = [{"view": "PA", "id": str(i)} for i in range(3)] + [{"view": "", "id": "3"}]
    cases = [Case(str(i), "s", "p", size, source=source[i]) for i, size in enumerate(sizes)]
    cases += [Case(f"more{i}", "s", "p", ImageSize(300, 10), source={"view": "AP", "id": f"x{i}"}) for i in range(9)]
    found = groups(cases)
    assert list(found) == ["view", "Image size"]
    assert found["view"][:5] == ["PA", "PA", "PA", "unknown", "AP"]
    assert found["Image size"][:4] == ["100 to 200 px", "100 to 200 px", "300 px", "unknown"]


def test_a_class_file_shows_confusion_calibration_and_the_surest_images(written):
    rng = np.random.default_rng(0)
    truth = np.eye(4)[np.arange(40) % 4]
    values = 0.7 * truth + 0.3 * rng.dirichlet(np.ones(4), 40)
    cases = tuple(Case(f"i{i}", f"s{i}", f"p{i}", SIZE) for i in range(40))
    ids = tuple(case.image_id for case in cases)
    classes = JudgedClasses(ids, "image", values, truth, STUDY, np.arange(40), True)
    judged = Judged(cases, tuple(f"p{i}" for i in range(40)), "patient", classes=classes)
    means = dict.fromkeys(("accuracy", "f1", "auroc", "ap", "precision", "recall"), 1.0)
    each = means | {"positives": 10}
    page = written(evaluation(judged, means | {"classes": dict.fromkeys(STUDY.names, each)}))
    for text in (
        "negative 10 100%",
        "AUROC 1.000",
        "Expected error",
        "Closest to the truth",
        "Furthest from the truth",
    ):
        assert text in page.text
    assert page.text.count("Truth of the image:") == 12


@pytest.mark.parametrize(
    ("interval", "words"),
    [
        ([-0.01, 0.02], "no difference that these patients could show"),
        ([0.001, 0.02], "b is better: mAP +0.0100"),
        ([-0.03, -0.001], "b is worse: mAP"),
        (None, "no difference to judge"),
    ],
)
def test_a_verdict_says_what_the_interval_says(interval, words):
    value = None if interval is None else 0.01 if interval[1] > 0 else -0.01
    assert words in verdict("b", {"opacity": 0.3, "mAP": value}, {"opacity": [0.1, 0.5], "mAP": interval})


def test_an_envelope_has_the_area_of_the_ap_and_few_corners():
    rng = np.random.default_rng(1)
    scores = rng.random(20_000)
    curve = class_curve("a", scores, rng.random(20_000) < scores**2, 9_000)
    corners = envelope(curve)
    assert len(corners) <= 400
    assert float(np.trapezoid(corners[:, 1], corners[:, 0])) == pytest.approx(curve.ap, abs=0.005)
    few = class_curve("a", np.array([0.9, 0.8, 0.7]), np.array([True, False, True]), 2)
    assert envelope(few).tolist() == [[0, 1], [0.5, 1], [0.5, 2 / 3], [1, 2 / 3]]


def test_a_rising_curve_is_drawn_as_steps():
    assert steps(np.array([0.0, 1, 2]), np.array([0.0, 0.5, 1])).tolist() == [
        [0, 0],
        [1, 0],
        [1, 0.5],
        [2, 0.5],
        [2, 1],
    ]


@pytest.mark.parametrize(
    ("axis", "ticks"),
    [
        (Axis("recall", 1), [0, 0.2, 0.4, 0.6, 0.8, 1]),
        (Axis("epoch", 1, whole=True), [0, 1]),
        (Axis("epoch", 35, whole=True), [0, 10, 20, 30]),
        (Axis("loss", 0.0123), [0, 0.005, 0.01]),
    ],
    ids=["share", "one epoch", "many epochs", "small loss"],
)
def test_ticks_are_round(axis, ticks):
    assert axis.ticks() == ticks


def test_boxes_in_stored_and_in_original_pixels_are_drawn_at_one_place(written):
    truth, found = [(0, 0, BOX), (1, 0, BOX)], [(0, 0, BOX, 0.9), (1, 0, BOX, 0.8)]
    half = [ImageSize(SIZE.width // 2, SIZE.height // 2)] * 2
    stored = [Case(f"image{i}", "s", f"patient{i}", size) for i, size in enumerate(half)]
    small = [[side / 2 for side in BOX]] * 2
    detector = boxes_judged([(i, 0, small[i], 0.9) for i in (0, 1)], [(i, 0, small[i]) for i in (0, 1)], cases=stored)
    page = written(evaluation(boxes_judged(found, truth), detectors={"yolo": Scored(Path("yolo.json"), {}, detector)}))
    places = {kind: re.findall(rf'<rect ([^>]*) class="box {kind}"', page.source) for kind in ("c0", "c1", "truth")}
    assert places["c0"] == places["c1"] == places["truth"] == ['x="20" y="20" width="80" height="80"'] * 2
