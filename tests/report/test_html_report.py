"""The report on phantoms: whole, self-contained, escaped, the same bytes for the same input."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from siimdet.core.labels import OPACITY, STUDY
from siimdet.core.types import Detections, ImageSize, Probabilities
from siimdet.data.manifest import Dataset
from siimdet.report import DetectorRow, RunReport, write_report
from siimdet.report.elements import DASH
from siimdet.report.figures import Axis, thumbnail
from siimdet.report.gallery import choose

SIZE = ImageSize(240, 200)
EVIL = """<img src="http://evil.example/x" onerror=alert(1)>'&</title></style>"""
SCORE = dict(
    zip((*STUDY.names, "none", "opacity", "mAP"), (0.811, 0.722, None, 0.433, 0.844, 0.655, 0.693), strict=True)
)
ROWS = (
    DetectorRow("Faster R-CNN", 0.6121, 0.5472, 0.6033, 0.5034, 0.41),
    DetectorRow("YOLO", 0.5458, 0.4779, 0.5067, 0.4501, 0.22),
    DetectorRow("fused", 0.6514, 0.5605, 0.5944, 0.5303, 0.35),
)


def guess(dataset: Dataset, seed: int, *, spread: float) -> dict[str, Detections]:
    """Every true box moved a little and, now and then, one too many."""
    rng = np.random.default_rng(seed)
    found = {}
    for image_id, truth in dataset.boxes.items():
        moved = truth.xyxy + rng.normal(0, spread, truth.xyxy.shape)
        extra = np.array([[20.0, 60.0, 70.0, 110.0]] if rng.random() < 0.3 else np.zeros((0, 4)))
        xyxy = np.clip(np.concatenate([moved, extra]), 0, [SIZE.width, SIZE.height] * 2).astype(np.float32)
        scores = np.concatenate([rng.uniform(0.3, 0.95, len(moved)), rng.uniform(0.05, 0.6, len(extra))])
        found[image_id] = Detections(xyxy, np.zeros(len(xyxy), np.int64), scores.astype(np.float32), SIZE)
    return found


def write_run(run: Path, key: str, fields: tuple[str, ...], epochs: int) -> Path:
    run.mkdir()
    with open(run / "metrics.jsonl", "w", encoding="utf-8") as stream:
        for epoch in range(epochs):
            entry = {"epoch": epoch, "train_loss": 1.4 / (epoch + 1), key: 1 - 0.8 / (epoch + 1)}
            stream.write(json.dumps(entry | {field: 0.7 - 0.5 / (epoch + 1) for field in fields}) + "\n")
    return run


@pytest.fixture
def report(tmp_path, dataset) -> RunReport:
    records = tuple(record for record in dataset.records if record.split == "test")
    ids = {record.image_id for record in records}
    found = [guess(dataset, seed, spread=spread) for seed, spread in ((1, 3.0), (2, 6.0), (3, 2.0))]
    values = np.random.default_rng(5).dirichlet((1, 1, 1, 1), len(records)).astype(np.float32)
    values = 0.5 * values + 0.5 * np.array([record.labels for record in records])
    return RunReport(
        title="siimdet demo",
        subtitle="Phantoms through the whole chain, scored on held-out patients",
        score=SCORE,
        detectors=ROWS,
        dataset=dataset,
        records=records,
        detections={
            row.name: {key: boxes for key, boxes in each.items() if key in ids}
            for row, each in zip(ROWS, found, strict=True)
        },
        study=Probabilities(
            tuple(record.study_id for record in records), np.clip(values, 0, 1).astype(np.float32), STUDY
        ),
        runs={
            "Faster R-CNN on SIIM": write_run(tmp_path / "frcnn", "ap50", ("f1", "precision", "recall"), 12),
            "Study classifier": write_run(tmp_path / "study", "accuracy", ("val_loss", "auroc", "ap", "f1"), 35),
        },
        facts={"version": "0.1.0", "seed": "0", "command": "siimdet demo --out demo\nsiimdet evaluate submission.csv"},
    )


@pytest.fixture
def written(tmp_path, read_page):
    def write(report: RunReport):
        write_report(tmp_path / "out" / "report.html", report)
        return read_page(tmp_path / "out" / "report.html")

    return write


def test_the_page_holds_the_numbers(report, written):
    page = written(report)
    for value in (value for value in SCORE.values() if value is not None):
        assert f"{value:.3f}" in page.text
    for row in ROWS:
        for value in (row.ap50, row.f1, row.precision, row.recall, row.threshold):
            assert f"{value:.3f}" in page.text
        assert row.name in page.text
    assert f"indeterminate 4 studies {DASH}" in page.text
    assert "mAP mean of the classes 0.693" in page.text
    assert "not for diagnosis" in page.text
    assert "siimdet evaluate submission.csv" in page.text
    assert "scored here 16 16 16" in page.text
    assert (page.tags.count("h1"), page.tags.count("title")) == (1, 1)


def test_the_page_needs_nothing_from_outside(report, tmp_path, written):
    page = written(report)
    assert page.outside() == []
    assert (tmp_path / "out" / "report.html").stat().st_size < 3_000_000


def test_every_picture_says_what_it_shows(report, written):
    page = written(report)
    labels = [str(image.get("aria-label")) for image in page.images]
    assert len(labels) == len(set(labels)) == 12 + 1 + 4
    assert sum(label.startswith("Radiograph image-") for label in labels) == 12
    assert any(label.startswith("Precision over recall of opacity: Faster R-CNN AP ") for label in labels)


def test_ids_and_names_cannot_run(report, written):
    first, *others = report.records
    records = (replace(first, image_id=EVIL, study_id=EVIL), *others)
    boxes = {**report.dataset.boxes, EVIL: report.dataset.boxes[first.image_id]}
    rows = (*ROWS[:2], replace(ROWS[2], name=EVIL))
    found = [{k: v for k, v in report.detections[row.name].items() if k != first.image_id} for row in ROWS]
    evil = replace(
        report,
        title=EVIL,
        subtitle=EVIL,
        detectors=rows,
        dataset=replace(report.dataset, boxes=boxes, source=EVIL),
        records=records,
        detections={row.name: boxes for row, boxes in zip(rows, found, strict=True)},
        runs={EVIL: report.runs["Study classifier"]},
        facts={EVIL: EVIL},
    )
    page = written(evil)
    assert "img" not in page.tags and page.outside() == []
    assert page.text.count(f"{EVIL} {EVIL}:") == 1, "the image with the evil id is in the gallery"
    assert page.text.count(EVIL) >= 8
    assert (page.tags.count("title"), page.tags.count("style")) == (1, 1)


def test_equal_reports_are_equal_bytes(report, tmp_path):
    write_report(tmp_path / "one.html", report)
    write_report(tmp_path / "two.html", replace(report))
    assert (tmp_path / "one.html").read_bytes() == (tmp_path / "two.html").read_bytes()


def test_nothing_found_and_nothing_recorded(report, tmp_path, written):
    (tmp_path / "empty").mkdir()
    row = DetectorRow("YOLO", 0.0, None, None, None, None)
    bare = replace(
        report,
        score=dict.fromkeys(SCORE),
        detectors=[row],
        detections={"YOLO": {}},
        study=Probabilities((), np.zeros((0, 4), np.float32), STUDY),
        runs={"YOLO on SIIM": tmp_path / "empty"},
        facts={},
    )
    page = written(bare)
    figures = f"F1 {DASH} Recall {DASH} Precision {DASH} Threshold {DASH}"
    for text in (figures, f"mAP mean of the classes {DASH}", "No epoch was recorded.", "no threshold, none drawn"):
        assert text in page.text


def test_images_without_any_truth_have_no_curve(report, written):
    records = tuple(record for record in report.records if not len(report.dataset.boxes[record.image_id]))
    found = {row.name: {} for row in ROWS}
    page = written(replace(report, records=records, detections=found))
    assert "there is no precision-recall curve" in page.text
    assert "nothing to find, none false" in page.text


def test_sixteen_bits_are_visible(report, tmp_path, written, make_dataset):
    deep = make_dataset(tmp_path / "deep", bit_depth=16)
    page = written(replace(report, dataset=deep))
    assert "siim, 16 bits" in page.text
    image = thumbnail(deep.root / deep.records[0].path, 100)
    assert (image.shape, image.dtype, image.min(), image.max()) == ((83, 100), np.uint8, 0, 255)


def test_the_gallery_takes_the_best_the_worst_and_some_without_boxes(report):
    groups = choose(report)
    best, worst, free = groups.values()
    assert [len(group) for group in (best, worst, free)] == [4, 4, 4]
    assert min(a.f1 for a in best) >= max(a.f1 for a in worst)
    assert all(not a.hits + a.missed for a in free)
    assert len({a.record.image_id for group in groups.values() for a in group}) == 12


@pytest.mark.parametrize(("threshold", "drawn"), [(0.0, True), (1.0, False), (None, False)])
def test_only_boxes_at_the_threshold_are_drawn(report, tmp_path, threshold, drawn):
    rows = tuple(replace(row, threshold=threshold) for row in ROWS)
    write_report(tmp_path / "report.html", replace(report, detectors=rows))
    page = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert ('class="box c' in page) == drawn
    assert 'class="box truth"' in page


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"score": {"mAP": 0.5}}, "score without negative, typical"),
        ({"detectors": []}, "expected at least one"),
        ({"detectors": [ROWS[0], ROWS[0]]}, "a name of its own"),
        ({"detections": {"other": {}}}, "detections of"),
        ({"study": Probabilities((), np.zeros((0, 1), np.float32), OPACITY)}, "studies in opacity"),
    ],
    ids=["score", "no detector", "detector twice", "detections", "label space"],
)
def test_parts_that_do_not_fit_are_refused(report, change, message):
    with pytest.raises(ValueError, match=message):
        replace(report, **change)


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
