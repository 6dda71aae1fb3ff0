"""Which images `evaluate` scores and checks: boxes of others, unknown ids, images without labels, a sample's rows."""

import json

import numpy as np
import pytest

from siimdet.cli import run
from siimdet.core.labels import OPACITY, STUDY
from siimdet.core.types import BoxLabels, Detections, ImageRecord, ImageSize
from siimdet.data.coco import write_detections
from siimdet.data.manifest import read_dataset, write_dataset
from siimdet.data.table import write_table

SIZE, ORIGINAL = ImageSize(100, 100), ImageSize(200, 200)
BOX = [10, 10, 40, 40]
TYPICAL, UNKNOWN = (0, 1, 0, 0), (np.nan,) * 4
STUDY_CELL = "typical 0.5 0 0 1 1"
IMAGES = {
    "a": ("train", 0, TYPICAL),
    "b": ("train", 1, TYPICAL),
    "c": ("val", 0, TYPICAL),
    "d": ("test", None, UNKNOWN),
}


@pytest.fixture
def data(tmp_path):
    """Four patients of one image each: a and b train, c val, each with a box; d test, without labels."""
    records = [
        ImageRecord(name, f"s{name}", f"p{name}", f"images/{name}.png", SIZE, ORIGINAL, np.array(labels), split, fold)
        for name, (split, fold, labels) in IMAGES.items()
    ]
    boxes = {name: BoxLabels([BOX], [0], SIZE) if name != "d" else BoxLabels.empty(SIZE) for name in IMAGES}
    write_dataset(tmp_path / "data", records, boxes, source="siim", labels=STUDY, classes=OPACITY, bit_depth=8)
    return tmp_path / "data"


@pytest.fixture
def boxes_of(tmp_path, data):
    """Writes the true box, and a second one, of each image of a word."""

    def write(images):
        found = {name: Detections([BOX, [60, 60, 90, 90]], [0, 0], [0.9, 0.1], SIZE) for name in images}
        write_detections(tmp_path / f"of_{images}.json", read_dataset(data), found)
        return tmp_path / f"of_{images}.json"

    return write


@pytest.fixture
def rows_of(tmp_path):
    """Writes a submission, or a sample, of the images of a word and of their studies."""

    def write(images, *, name="submission.csv", cell="opacity 0.5 20 20 80 80"):
        rows = [(f"s{image}_study", STUDY_CELL) for image in images] + [(f"{image}_image", cell) for image in images]
        write_table(tmp_path / name, ("id", "PredictionString"), rows)
        return tmp_path / name

    return write


def evaluate(capfd, *arguments):
    code = run(["evaluate", *map(str, arguments)])
    out, err = capfd.readouterr()
    return code, out, err


@pytest.mark.parametrize("more", [(), ("--check-only",), ("--only-submitted",)], ids=str)
def test_boxes_of_other_images_alone_are_refused(data, boxes_of, capfd, more):
    file = boxes_of("ab")
    code, out, err = evaluate(capfd, file, "--dataset", data, "--split", "val", *more)
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert "ab.json: image_id: found boxes of 'a' (2 other images alone), expected some of the 1 images of the" in err


def test_a_file_that_does_not_reach_the_split_has_no_difference(data, boxes_of, capfd):
    code, out, err = evaluate(capfd, boxes_of("ab"), boxes_of("c"), "--dataset", data, "--split", "val")
    assert (code, out) == (2, "")
    assert "of_ab.json: image_id: found boxes of 'a' (2 other images alone)" in err


def test_boxes_of_further_images_are_left_out_and_counted(data, boxes_of, capfd):
    arguments = (boxes_of("abc"), "--dataset", data, "--split", "val")
    code, out, err = evaluate(capfd, *arguments, "--json")
    figures = json.loads(out)
    assert (code, figures["mAP"], figures["images"], figures["predictions"]) == (0, 1.0, 1, 2)
    assert (figures["predictions_left_out"], figures["images_left_out"]) == (4, 2)
    assert err == f"{arguments[0]}: 4 boxes of 2 other images are left out\n"
    code, out, err = evaluate(capfd, *arguments)
    assert [line.split() for line in out.splitlines()[-2:]] == [["predictions_left_out", "4"], ["images_left_out", "2"]]
    assert "4 boxes of 2 other images are left out" in err
    code, out, err = evaluate(capfd, *arguments, "--check-only", "--json")
    counts = {"images": 1, "predictions": 2, "predictions_left_out": 4, "images_left_out": 2}
    assert json.loads(out) == {"valid": True, **counts}
    assert "4 boxes of 2 other images are left out" in err


def test_out_of_fold_boxes_leave_nothing_out(data, boxes_of, capfd):
    code, out, err = evaluate(capfd, boxes_of("abc"), "--dataset", data, "--json")
    assert (code, json.loads(out)["images"], json.loads(out)["predictions_left_out"], err) == (0, 3, 0, "")


def test_an_unknown_id_among_out_of_fold_rows_is_the_one_that_is_named(tmp_path, data, rows_of, capfd):
    _, _, err = evaluate(capfd, rows_of("abcz"), "--dataset", data, "--only-submitted")
    assert "line 5, 'sz_study': found 2 unknown ids" in err
    table = [(name, 0, 1, 0, 0) for name in "abzc"]
    write_table(tmp_path / "classes.csv", ("image_id", *STUDY.names), table)
    _, _, err = evaluate(capfd, tmp_path / "classes.csv", "--dataset", data)
    assert "classes.csv:4: image_id: found 'z' (1 unknown ids)" in err


def test_a_submission_of_images_without_labels_can_be_checked(data, rows_of, capfd):
    arguments = (rows_of("d"), "--dataset", data, "--split", "test")
    code, out, _ = evaluate(capfd, *arguments, "--check-only", "--json")
    assert (code, json.loads(out)) == (0, {"valid": True, "rows": 2, "predictions": 2})
    assert evaluate(capfd, *arguments)[0] == 2
    wide = rows_of("d", cell="opacity 0.5 20 20 80 201")
    assert "expected a box inside its 200x200 image" in evaluate(capfd, wide, *arguments[1:], "--check-only")[2]
    assert "id: found no row for" in evaluate(capfd, rows_of(""), *arguments[1:], "--check-only")[2]


@pytest.mark.parametrize("with_sizes", [False, True])
def test_a_submission_is_checked_against_a_sample(data, rows_of, capfd, with_sizes):
    sample = rows_of("ad", name="sample.csv", cell="none 1 0 0 1 1")
    against = ("--check-only", "--sample", sample, *(("--dataset", data) if with_sizes else ()))
    code, out, _ = evaluate(capfd, rows_of("da"), *against, "--json")
    assert (code, json.loads(out)) == (0, {"valid": True, "rows": 4, "predictions": 4})
    for images, words in (
        ("a", "found no row for 'd_image' (2 ids lack), expected all 4 ids of the sample"),
        ("adb", "line 4, 'sb_study': found 2 unknown ids, expected only ids of the sample"),
    ):
        code, _, err = evaluate(capfd, rows_of(images), *against)
        assert (code, err.count("\n")) == (2, 1)
        assert words in err
    wide = rows_of("ad", cell="opacity 0.5 20 20 80 201")
    assert evaluate(capfd, wide, *against)[0] == (2 if with_sizes else 0)


def test_a_sample_names_rows_of_submissions_alone(data, rows_of, boxes_of, capfd):
    sample = rows_of("d", name="sample.csv")
    for beside in ((), ("--dataset", data)):
        _, _, err = evaluate(capfd, boxes_of("d"), "--check-only", "--sample", sample, *beside)
        assert "d.json: --sample: found a file of boxes, expected a submission" in err
    _, _, err = evaluate(capfd, sample, "--check-only", "--sample", sample, "--patients", "p.csv")
    assert "--patients: found --sample, expected label tables" in err


def test_a_report_of_nothing_does_not_complain_of_what_was_not_asked(tmp_path, data, boxes_of, capfd):
    report = tmp_path / "report.html"
    arguments = ("--dataset", data, "--only-submitted", "--report", report)
    code, _, err = evaluate(capfd, boxes_of(""), *arguments)
    assert (code, err.count("\n"), report.exists()) == (2, 1, False)
    assert "intervals: found rows of 0 patient" in err
    assert "--bootstrap" not in err
