"""The page of `inspect` on phantoms: whole, self-contained, escaped, the same bytes for the same input."""

from collections import Counter
from dataclasses import replace

import numpy as np
import pytest

from siimdet.core.types import BoxLabels, LabelSpace
from siimdet.data.summary import summarise
from siimdet.errors import DatasetError
from siimdet.report.counts import percent, round_up
from siimdet.report.elements import DASH, TIMES
from siimdet.report.figures import histogram
from siimdet.report.heat_map import heat_map
from siimdet.report.inspection import write_inspection
from siimdet.report.leaks import LIMITS, MOST_ROWS
from siimdet.report.samples import SAMPLES, choose

EVIL = """<img src="http://evil.example/x" onerror=alert(1)>'&</title></style>"""
SECTIONS = ("Counts", "Classes", "Boxes", "Images", "Samples", "Leaks", "Files")
CHECKS = (
    *("patients_across_splits", "patients_across_folds", "studies_across_splits", "studies_across_folds"),
    "same_images",
)
NO_LEAK = {"within": {name: [] for name in CHECKS}, "against": [], "leaks": 0, "leaking_images": 0}


@pytest.fixture
def written(tmp_path, read_page):
    def write(dataset, audit=NO_LEAK, **changes):
        write_inspection(tmp_path / "out" / "page.html", dataset, summarise(dataset) | changes, audit)
        return read_page(tmp_path / "out" / "page.html")

    return write


def with_space(dataset, *, labels=(), classes=()):
    """The data set with other labels, all unknown, and without boxes."""
    unknown = np.full(len(labels), np.nan, np.float32)
    return replace(
        dataset,
        labels=LabelSpace("other", labels),
        classes=LabelSpace("other", classes),
        records=tuple(replace(record, labels=unknown) for record in dataset.records),
        boxes={name: BoxLabels.empty(boxes.size) for name, boxes in dataset.boxes.items()},
    )


def test_the_page_holds_the_counts(dataset, written):
    summary = summarise(dataset)
    page = written(dataset, published={"images": 9000, "patients": None})
    assert f"24 images of 24 patients studies 24 boxes {summary['boxes']} of the images" in page.text
    train = summary["splits"]["train"]
    assert f"train 8 8 8 {train['boxes']} {train['images_with_boxes']} {train['images_without_boxes']}" in page.text
    assert f"published 9,000 {DASH} {DASH} {DASH}" in page.text
    assert f"negative 6 25% 2 25% {DASH} 4 25%" in page.text, "all, train, val and test: no image is in val"
    assert f"opacity {summary['boxes']} 100%" in page.text
    assert f"240 {TIMES} 200 24 100%" in page.text and "unknown 24 100%" in page.text
    assert [page.text.count(f"{name} ") > 0 for name in SECTIONS] == [True] * 7
    assert "not for diagnosis" in page.text and "No leak found within this data set" in page.text
    assert LIMITS in page.text
    assert (page.tags.count("h1"), page.tags.count("title")) == (1, 1)


def test_the_page_needs_nothing_from_outside(dataset, written):
    page = written(dataset)
    assert page.outside() == []
    assert len(page.source) < 1_000_000


def test_every_picture_says_what_it_shows(dataset, written):
    page = written(dataset)
    labels = [str(image["aria-label"]) for image in page.images]
    assert len(set(labels)) == len(labels) == SAMPLES + 3
    boxes = summarise(dataset)["boxes"]
    assert any(label.startswith("Images by their number of boxes: ") for label in labels)
    assert any(label.startswith(f"Positions of {boxes} boxes, all classes: most, ") for label in labels)
    assert sum(label.startswith("Radiograph image-") for label in labels) == SAMPLES


def test_equal_data_sets_are_equal_bytes(dataset, tmp_path):
    for name in ("one", "two"):
        write_inspection(tmp_path / f"{name}.html", replace(dataset), summarise(dataset), NO_LEAK)
    assert (tmp_path / "one.html").read_bytes() == (tmp_path / "two.html").read_bytes()


def test_ids_and_names_cannot_run(dataset, written):
    first, *others = dataset.records
    evil = replace(
        dataset,
        source=EVIL,
        labels=LabelSpace(EVIL, (EVIL, *dataset.labels.names[1:])),
        classes=LabelSpace(EVIL, (EVIL,)),
        records=(replace(first, image_id=EVIL, source={"bits": EVIL, "photometric": EVIL}), *others[:3]),
        boxes={**dataset.boxes, EVIL: dataset.boxes[first.image_id]},
        details={EVIL: {EVIL: EVIL}},
    )
    leak = {EVIL: EVIL, "splits": [EVIL], "leak": True}
    audit = {
        "within": {EVIL: [leak]},
        "against": [{"root": EVIL, "source": EVIL, "fingerprint": EVIL, "patients": [leak]}],
        "leaks": 2,
        "leaking_images": 2,
    }
    page = written(evil, audit)
    assert "img" not in page.tags and page.outside() == []
    assert (page.tags.count("title"), page.tags.count("style")) == (1, 1)
    assert page.text.count(EVIL) >= 15


@pytest.mark.parametrize(
    ("labels", "classes", "said"),
    [
        ((), (), ("The data set has neither labels nor box classes.", "No image has a box.", "no box, train")),
        (("mass",), (), (f"mass {DASH} {DASH} {DASH} {DASH} 24", "labels unknown")),
        ((), ("mass", "nodule"), (f"nodule {DASH} {DASH} {DASH} {DASH} 0 0",)),
    ],
    ids=["neither", "unknown labels", "classes without boxes"],
)
def test_without_labels_or_boxes_the_page_says_so(dataset, written, labels, classes, said):
    page = written(with_space(dataset, labels=labels, classes=classes))
    assert all(text in page.text for text in said)
    assert len(page.images) == SAMPLES and page.outside() == []


def test_an_empty_data_set_has_a_page(dataset, written):
    page = written(replace(dataset, records=(), boxes={}))
    assert page.text.count("The data set has no image.") == 2 and "0 images of 0 patients" in page.text


def test_each_class_with_boxes_has_a_map(dataset, written):
    boxes = {
        name: BoxLabels(truth.xyxy, np.arange(len(truth)) % 2, truth.size) for name, truth in dataset.boxes.items()
    }
    page = written(replace(dataset, classes=LabelSpace("boxes", ("left", "right", "hilum")), boxes=boxes))
    maps = [str(image["aria-label"]) for image in page.images if "Positions of" in str(image["aria-label"])]
    assert [label.split(",")[1].split(":")[0].strip() for label in maps] == ["all classes", "left", "right"]
    assert f"hilum {DASH} {DASH} {DASH}" in page.text


def test_studies_of_several_images_are_counted_apart(dataset, written):
    records = tuple(replace(record, study_id=f"s{i // 4}") for i, record in enumerate(dataset.records))
    page = written(replace(dataset, records=records))
    assert "Labels: studies where each is positive" in page.text and "negative 6 100%" in page.text
    assert "Labels: studies" not in written(dataset).text


def test_folds_and_files_are_told(dataset, written):
    records = tuple(replace(record, fold=i % 3) for i, record in enumerate(dataset.records))
    details = {"preprocessing": {"image_size": None, "resize": "area"}, "splits": {"seed": 7, "folds": 3}, "counts": {}}
    (dataset.root / "failures.csv").write_text("id,path,reason\na,b,broken\nc,d,broken\n")
    page = written(replace(dataset, records=records, details=details))
    assert "images 8 33% 8 33% 8 33%" in page.text
    for text in (
        "preprocessing: resize area",
        f"preprocessing: image_size {DASH}",
        "splits: seed 7",
        "failures.csv 2 rows",
    ):
        assert text in page.text
    assert "repairs.csv" not in page.text
    (dataset.root / "failures.csv").write_text("id,path,reason\na\n")
    with pytest.raises(DatasetError, match=r"failures\.csv:2: row: found 1 cells"):
        written(dataset)
    (dataset.root / "failures.csv").unlink()


def test_leaks_come_first_and_are_marked(dataset, written):
    same = [{"images": ["a", f"b{i:03d}"], "splits": ["train", "train"], "leak": False} for i in range(MOST_ROWS)]
    same.append({"images": ["a", "c"], "splits": ["train", "test"], "leak": True})
    other = {"root": "sets/nih", "source": "nih", "fingerprint": "ab", "patients": [], "studies": []}
    audit = {"within": NO_LEAK["within"] | {"same_images": same}, "against": [other], "leaks": 1}
    audit["leaking_images"] = 2
    page = written(dataset, audit)
    assert "2 images leak , by 1 finding within this data set and against 1 more. See Leaks" in page.text
    assert "same images 51 1" in page.text and "patients across folds 0 0" in page.text
    assert "51 found, 1 of them a leak; 50 shown, and 1 more." in page.text
    assert "images leak splits a, c leak train, test a, b000 no train, train" in page.text
    assert "a, b048" in page.text and "a, b049" not in page.text
    assert "Against nih, sets/nih" in page.text and "patients 0 0" in page.text


def test_a_pair_stands_before_what_is_said_of_it(dataset, written):
    pair = {"left": "a", "right": "b", "patients": ["p", "q"], "splits": ["train", "val"], "leak": True}
    audit = NO_LEAK | {"within": {"same_images": [pair]}, "leaks": 1, "leaking_images": 2}
    assert "left right leak splits patients a b leak train, val p, q" in written(dataset, audit).text


@pytest.mark.parametrize("published", [None, {}, {"images": 0, "patients": None}])
def test_without_published_tables_no_row_speaks_of_them(dataset, written, published):
    assert "published" not in written(dataset, published=published).text


def test_samples_are_spread_over_classes_boxes_and_patients(dataset):
    groups = choose(dataset)
    assert {heading: len(group) for heading, group in groups.items()} == {"With boxes": 8, "Without boxes": 4}
    assert all(len(dataset.boxes[record.image_id]) for record in groups["With boxes"])
    assert not any(len(dataset.boxes[record.image_id]) for record in groups["Without boxes"])
    shown = Counter(int(record.labels.argmax()) for record in groups["With boxes"])
    positive = {int(r.labels.argmax()) for r in dataset.records if len(dataset.boxes[r.image_id])}
    assert set(shown) == positive
    shuffled = replace(dataset, records=dataset.records[::-1])
    assert [r.image_id for r in choose(shuffled)["With boxes"]] == [r.image_id for r in groups["With boxes"]]
    crowd = tuple(replace(record, patient_id=f"p{i % 12}") for i, record in enumerate(dataset.records))
    bare = with_space(replace(dataset, records=crowd))
    assert len({record.patient_id for record in choose(bare)["Without boxes"]}) == SAMPLES


def test_a_histogram_has_a_bar_and_a_whole_number_for_each():
    chart = histogram({1: 7, 4: 12_000}, "boxes", description="x")
    bars = [float(node.attrib["height"]) for node in chart.iter("rect")]
    assert len(bars) == 4 and bars[1] == bars[2] == 0 and bars[3] > 100
    texts = [node.text for node in chart.iter("text")]
    assert [text for text in texts if text in ("1", "2", "3", "4")] == ["1", "2", "3", "4"]
    assert {"12,000", "10k", "5000"} <= set(texts)
    many = [node.text for node in histogram({1: 1, 40: 1}, "boxes", description="x").iter("text")]
    assert len([text for text in many if text and text.isdecimal() and int(text) > 1]) < 12


def test_a_heat_map_draws_every_cell_once_and_deeper_for_more():
    chart = heat_map([[0, 1, 1], [4, 0, 2]], description="x")
    drawn = {node.attrib["style"]: node.attrib["d"] for node in chart.iter("path")}
    assert drawn == {
        "--value:0.250": "M1 0h2v1h-2z",
        "--value:0.500": "M2 1h1v1h-1z",
        "--value:1.000": "M0 1h1v1h-1z",
    }
    assert chart.attrib["viewBox"] == "0 0 3 2"


@pytest.mark.parametrize(
    ("share", "text"), [(0, "0%"), (0.001, "<1%"), (0.005, "<1%"), (0.333, "33%"), (0.999, ">99%"), (1, "100%")]
)
def test_per_cents_do_not_round_to_nothing_or_to_all(share, text):
    assert percent(share) == text


@pytest.mark.parametrize(("share", "end"), [(0, 0.1), (0.1, 0.1), (0.11, 0.2), (0.3, 0.3), (0.96, 1), (1, 1)])
def test_scales_end_at_a_tenth(share, end):
    assert round_up(share) == end
