"""`evaluate --bootstrap`: intervals of each kind of file, whom they draw, and what is refused."""

import json

import numpy as np
import pytest

from siimdet.cli import run
from siimdet.core.labels import OPACITY, STUDY, SUBMISSION_CLASSES
from siimdet.core.types import BoxLabels, Detections, ImageRecord, ImageSize, LabelSpace
from siimdet.data.coco import write_detections
from siimdet.data.manifest import read_dataset, write_dataset
from siimdet.data.table import write_table
from siimdet.inference.aggregate import patient_header

SIZE = ImageSize(100, 100)
BOX, MISS = [10, 10, 40, 40], [60, 60, 90, 90]
NAN = float("nan")


def record(image, study, patient, labels):
    return ImageRecord(image, study, patient, f"images/{image}.png", SIZE, SIZE, np.array(labels), "test")


@pytest.fixture
def siim(tmp_path):
    """Three patients: p with two images in two studies, q and r with one; the images of p and q have a box."""
    owners = (("a", "s1", "p"), ("b", "s2", "p"), ("c", "s3", "q"), ("d", "s4", "r"))
    records = [record(*owner, (0, 1, 0, 0) if owner[2] != "r" else (1, 0, 0, 0)) for owner in owners]
    boxed = BoxLabels([BOX], [0], SIZE)
    boxes = {r.image_id: BoxLabels.empty(SIZE) if r.image_id == "d" else boxed for r in records}
    write_dataset(tmp_path / "data", records, boxes, source="siim", labels=STUDY, classes=OPACITY, bit_depth=8)
    return tmp_path / "data"


def figures_of(arguments, capfd):
    assert run(["evaluate", *map(str, arguments), "--json"]) == 0
    return json.loads(capfd.readouterr().out)


@pytest.fixture
def boxes_file(tmp_path, siim):
    """The boxes of p are hit; c's is missed at a lower score, so AP is the share of p's images among the boxed."""
    places = {"a": (BOX, 0.9), "b": (BOX, 0.8), "c": (MISS, 0.5)}
    found = {name: Detections([box], [0], [score], SIZE) for name, (box, score) in places.items()}
    write_detections(tmp_path / "boxes.json", read_dataset(siim), found)
    return tmp_path / "boxes.json"


def test_a_detectors_intervals_draw_patients(siim, boxes_file, capfd):
    plain = figures_of([boxes_file, "--dataset", siim], capfd)
    figures = figures_of([boxes_file, "--dataset", siim, "--bootstrap", 400], capfd)
    intervals, bootstrap = figures.pop("intervals"), figures.pop("bootstrap")
    assert figures == plain
    assert figures["opacity"] == pytest.approx(2 / 3)
    # Where q alone is drawn of those with boxes, 7 of 27 times, AP is 0; where p alone is, 1.
    assert intervals == {"opacity": [0.0, 1.0], "mAP": [0.0, 1.0]}
    left_out = bootstrap.pop("left_out")["opacity"]
    assert bootstrap == {"samples": 400, "unit": "patient", "units": 3, "level": 0.95}
    assert left_out == pytest.approx(400 / 27, abs=10)  # r three times: no boxes


def test_the_text_shows_intervals_and_what_was_drawn(siim, boxes_file, capfd):
    assert run(["evaluate", str(boxes_file), "--dataset", str(siim), "--bootstrap", "400"]) == 0
    lines = dict(line.split(maxsplit=1) for line in capfd.readouterr().out.splitlines())
    assert lines["mAP"] == ".667 (.000 to 1.000)"
    assert lines["bootstrap"] == "95 % of 400 resamples of 3 patients"
    assert lines["coco_ap50"] == "0.663366"
    assert lines["left"] == "out of resamples"


SUBMISSION = "id,PredictionString\n" + "".join(
    f"{row} {cells}\n".replace(" ", ",", 1)
    for row, cells in (
        *((f"s{n}_study", f"typical {score} 0 0 1 1") for n, score in ((1, 0.9), (2, 0.8), (3, 0.2), (4, 0.5))),
        *((f"{name}_image", "opacity 0.9 10 10 40 40") for name in "abc"),
        ("d_image", "none 0.9 0 0 1 1"),
    )
)


@pytest.fixture
def submission(tmp_path):
    (tmp_path / "submission.csv").write_text(SUBMISSION)
    return tmp_path / "submission.csv"


def test_a_submissions_intervals_draw_patients_of_a_data_set(siim, submission, capfd):
    figures = figures_of([submission, "--dataset", siim, "--bootstrap", 200], capfd)
    assert figures["intervals"].keys() == {*SUBMISSION_CLASSES, "mAP"}
    assert (figures["bootstrap"]["unit"], figures["bootstrap"]["units"]) == ("patient", 3)
    assert figures["intervals"]["opacity"] == [1.0, 1.0]
    assert figures["intervals"]["atypical"] is figures["atypical"] is None
    assert figures["bootstrap"]["left_out"]["atypical"] == 200


def test_a_submissions_intervals_draw_studies_of_the_tables(tmp_path, submission, capfd):
    boxes = "[{'x': 10, 'y': 10, 'width': 30, 'height': 30}]"
    rows = [(f"{name}_image", boxes if name != "d" else "", f"s{n}") for n, name in enumerate("abcd", start=1)]
    write_table(tmp_path / "images.csv", ("id", "boxes", "StudyInstanceUID"), rows)
    columns = ("Negative for Pneumonia", "Typical Appearance", "Indeterminate Appearance", "Atypical Appearance")
    studies = [(f"s{n}_study", *((0, 1, 0, 0) if n < 4 else (1, 0, 0, 0))) for n in (1, 2, 3, 4)]
    write_table(tmp_path / "studies.csv", ("id", *columns), studies)
    tables = ["--image-level", tmp_path / "images.csv", "--study-level", tmp_path / "studies.csv"]
    figures = figures_of([submission, *tables, "--bootstrap", 200], capfd)
    assert (figures["bootstrap"]["unit"], figures["bootstrap"]["units"]) == ("study", 4)
    assert figures["intervals"]["none"] == [1.0, 1.0]
    assert figures["typical"] == pytest.approx((1 + 1 + 3 / 4) / 3)
    low, high = figures["intervals"]["typical"]
    assert (0.2 < low < 0.6, high) == (True, 1.0)


CT = LabelSpace("ct", ("non-covid", "covid"))


@pytest.fixture
def slices(tmp_path):
    """Twenty patients of two slices each, one label unknown; every fifth patient is told wrong."""
    records = [record(f"{n}{k}", f"{n}", f"{n}", (1 - n % 2, n % 2)) for n in range(20) for k in "ab"]
    records[0] = record("0a", "0", "0", (NAN, NAN))
    boxes = {r.image_id: BoxLabels.empty(SIZE) for r in records}
    write_dataset(tmp_path / "ct", records, boxes, source="ct", labels=CT, classes=OPACITY, bit_depth=8)
    rows = [(f"{n}{k}", *((0.25, 0.75) if (n % 2) != (n % 5 == 0) else (0.75, 0.25))) for n in range(20) for k in "ab"]
    write_table(tmp_path / "classes.csv", ("image_id", *CT.names), rows)
    return tmp_path


def test_a_classifiers_intervals_are_of_its_headline_figures(slices, capfd):
    arguments = [slices / "classes.csv", "--dataset", slices / "ct", "--split", "test", "--bootstrap"]
    figures = figures_of([*arguments, 1000], capfd)
    assert figures["accuracy"] == 32 / 39
    assert figures["intervals"].keys() == {"accuracy", "f1", "auroc"}
    low, high = figures["intervals"]["accuracy"]
    # 20 patients, 4 of them wrong: .8 -+ 1.96 sqrt(.8 x .2 / 20), not the narrower one of 40 images.
    assert (low, high) == (pytest.approx(0.625, abs=0.04), pytest.approx(0.975, abs=0.04))
    assert figures["bootstrap"] == {"samples": 1000, "unit": "patient", "units": 20, "level": 0.95, "left_out": {}}
    assert run(["evaluate", *map(str, arguments), "100"]) == 0
    text = capfd.readouterr().out
    assert "intervals\n  accuracy               .821 (." in text
    assert "95 % of 100 resamples of 20 patients" in text


def test_rows_of_patients_are_drawn_as_they_are(tmp_path, capfd):
    records = [record(f"{n}", f"{n}", f"{n}", (1 - n % 2, n % 2)) for n in range(10)]
    boxes = {r.image_id: BoxLabels.empty(SIZE) for r in records}
    write_dataset(tmp_path / "ct", records, boxes, source="ct", labels=CT, classes=OPACITY, bit_depth=8)
    rows = [(n, 1, 1, 0, 0.75, 0.25, CT.names[n % 2]) for n in range(10)]
    write_table(tmp_path / "patients.csv", patient_header(CT), rows)
    figures = figures_of([tmp_path / "patients.csv", "--dataset", tmp_path / "ct", "--bootstrap", 100], capfd)
    # Scored by the decisions, all right, though the scores are all alike.
    assert figures["intervals"] == {"accuracy": [1.0, 1.0], "f1": [1.0, 1.0], "auroc": [0.5, 0.5]}
    assert figures["bootstrap"]["units"] == 10


@pytest.mark.parametrize(
    ("more", "words"),
    [
        (["--bootstrap", "99"], ("--bootstrap", "100")),
        (["--bootstrap", "100", "--check-only"], ("--bootstrap", "found --check-only", "a check has no figures")),
        (["--bootstrap", "100", "--only-submitted"], ("intervals", "rows of 1 patient", "two or more")),
    ],
)
def test_what_has_no_intervals_is_refused(tmp_path, siim, more, words, capfd):
    found = {name: Detections([BOX], [0], [0.9], SIZE) for name in ("a", "b")}
    write_detections(tmp_path / "boxes.json", read_dataset(siim), found)
    assert run(["evaluate", str(tmp_path / "boxes.json"), "--dataset", str(siim), *more]) == 2
    out, err = capfd.readouterr()
    assert (out, err.count("\n")) == ("", 1)
    assert all(word in err for word in words), err


@pytest.mark.real_data
def test_intervals_of_real_predictions(shared_data, capfd):
    tables = ["--image-level", shared_data / "siim" / "train_image_level.csv"]
    tables += ["--study-level", shared_data / "siim" / "train_study_level.csv"]
    file = shared_data / "siim_oof" / "submission.csv"
    figures = figures_of([file, *tables, "--only-submitted", "--bootstrap", 300], capfd)
    assert (figures["bootstrap"]["unit"], figures["bootstrap"]["units"]) == ("study", 3633)
    for name, (low, high) in figures["intervals"].items():
        assert low < figures[name] < high
        assert high - low < 0.13
    assert figures["intervals"]["opacity"] == pytest.approx([0.505, 0.545], abs=0.004)
