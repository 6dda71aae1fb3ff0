"""`evaluate FIRST SECOND`: the difference on the same resamples, by hand; and files that are not comparable."""

import json
import subprocess
import sys

import numpy as np
import pytest

from siimdet.cli import run
from siimdet.core.labels import OPACITY, STUDY, SUBMISSION_CLASSES
from siimdet.core.types import BoxLabels, Detections, ImageRecord, ImageSize
from siimdet.data.coco import write_detections
from siimdet.data.manifest import read_dataset, write_dataset
from siimdet.data.table import write_table
from siimdet.scoring.bootstrap import ResampledFigures
from siimdet.scoring.paired import paired_difference

SIZE = ImageSize(100, 100)
BOX, MISS = [10, 10, 40, 40], [60, 60, 90, 90]
PATIENTS = 12


@pytest.fixture
def data(tmp_path):
    """Twelve patients of one boxed image each, all typical."""
    records = [
        ImageRecord(f"i{n}", f"s{n}", f"p{n}", f"images/i{n}.png", SIZE, SIZE, np.array([0, 1, 0, 0]), "test")
        for n in range(PATIENTS)
    ]
    boxes = {record.image_id: BoxLabels([BOX], [0], SIZE) for record in records}
    write_dataset(tmp_path / "data", records, boxes, source="siim", labels=STUDY, classes=OPACITY, bit_depth=8)
    return tmp_path / "data"


@pytest.fixture
def boxes_of(tmp_path, data):
    """Writes boxes that are right but on the images of `wrong`, all of one score: AP is the square of the share."""

    def write(name, wrong):
        found = {f"i{n}": Detections([MISS if n in wrong else BOX], [0], [0.5], SIZE) for n in range(PATIENTS)}
        write_detections(tmp_path / name, read_dataset(data), found)
        return tmp_path / name

    return write


def pair_of(arguments, capfd):
    assert run(["evaluate", *map(str, arguments), "--json"]) == 0
    return json.loads(capfd.readouterr().out)


def test_the_difference_is_of_the_same_resamples(data, boxes_of, capfd):
    first, second = boxes_of("first.json", {0, 1, 2}), boxes_of("second.json", {0, 1})
    pair = pair_of([first, second, "--dataset", data, "--bootstrap", 400], capfd)
    assert (pair["first"]["opacity"], pair["second"]["opacity"]) == ((9 / 12) ** 2, (10 / 12) ** 2)
    assert pair["difference"] == {name: pytest.approx(19 / 144) for name in ("opacity", "mAP")}
    low, high = pair["intervals"]["opacity"]
    # The second is right wherever the first is: on no resample is it worse, while each alone varies by more than .4.
    assert low == 0.0
    assert 0.25 < high < 0.45
    alone = pair_of([first, "--dataset", data, "--bootstrap", 400], capfd)["intervals"]["opacity"]
    assert alone[1] - alone[0] > 0.4
    assert pair["bootstrap"] == {"samples": 400, "unit": "patient", "units": 12, "level": 0.95, "left_out": {}}


def test_a_file_differs_from_itself_by_nothing(data, boxes_of, capfd):
    file = boxes_of("boxes.json", {3})
    pair = pair_of([file, file, "--dataset", data], capfd)
    assert pair["bootstrap"]["samples"] == 1000
    assert pair["difference"] == {"opacity": 0.0, "mAP": 0.0}
    assert pair["intervals"] == {"opacity": [0.0, 0.0], "mAP": [0.0, 0.0]}


def test_the_text_is_a_table(data, boxes_of, capfd):
    files = [boxes_of("first.json", {0, 1, 2}), boxes_of("second.json", {0, 1})]
    assert run(["evaluate", *map(str, files), "--dataset", str(data), "--bootstrap", "100"]) == 0
    header, row, *_, last = capfd.readouterr().out.splitlines()
    assert header.split() == ["figure", "first", "second", "difference", "interval"]
    assert row.split()[:4] == ["opacity", "0.5625", "0.6944", "+0.1319"]
    assert row.split()[4::2] == ["+0.0000", row.split()[-1]]
    assert last.split(maxsplit=1) == ["bootstrap", "95 % of 100 resamples of 12 patients"]


def submission(path, scores):
    """Typical has those scores by study, indeterminate .5; images have the true box."""
    rows = [(f"s{n}_study", f"typical {score} 0 0 1 1 indeterminate 0.5 0 0 1 1") for n, score in enumerate(scores)]
    rows += [(f"i{n}_image", "opacity 0.9 10 10 40 40") for n in range(len(scores))]
    write_table(path, ("id", "PredictionString"), rows)
    return path


def test_two_submissions_differ_where_a_class_has_truth(tmp_path, data, capfd):
    first = submission(tmp_path / "a.csv", [0.5] * PATIENTS)
    text = first.read_text().replace("s0_study,typical 0.5 0 0 1 1 ", "s0_study,")
    (tmp_path / "b.csv").write_text(text)
    pair = pair_of([first, tmp_path / "b.csv", "--dataset", data, "--bootstrap", 200], capfd)
    assert pair["difference"].keys() == {*SUBMISSION_CLASSES, "mAP"}
    assert pair["difference"]["typical"] == pytest.approx(11 / 12 - 1)
    assert pair["difference"]["mAP"] == pytest.approx((11 / 12 - 1) / 2)
    assert pair["difference"]["opacity"] == 0.0
    assert pair["difference"]["atypical"] is pair["intervals"]["atypical"] is None
    assert pair["intervals"]["typical"][1] == 0.0


def test_two_classifiers_differ_in_their_headline_figures(tmp_path, data, capfd):
    def classes(name, wrong):
        rows = [(f"i{n}", *((0, 0.25, 0.75, 0) if n in wrong else (0, 0.75, 0.25, 0))) for n in range(PATIENTS)]
        write_table(tmp_path / name, ("image_id", *STUDY.names), rows)
        return tmp_path / name

    files = [classes("a.csv", {0, 1, 2}), classes("b.csv", {2})]
    pair = pair_of([*files, "--dataset", data, "--bootstrap", 300], capfd)
    assert pair["difference"]["accuracy"] == pytest.approx(2 / 12)
    assert pair["difference"].keys() == {"accuracy", "f1", "auroc"}
    assert pair["intervals"]["accuracy"][0] == 0.0


@pytest.mark.parametrize(
    ("second", "more", "words"),
    [
        ("b.csv", ["--only-submitted"], ("b.csv: id: found 'i11_image' in one of the files (2 such ids)", "a.csv")),
        ("boxes.json", [], ("boxes.json: figures: found opacity, mAP, expected negative, typical", "a.csv")),
        ("a.csv", ["--check-only"], ("second file: found --check-only", "a check has no figures")),
        ("b.csv", [], ("b.csv: id: found no row for 'i11_image' (2 ids lack)",)),
    ],
)
def test_files_that_are_not_comparable_are_refused(tmp_path, data, boxes_of, second, more, words, capfd):
    first = submission(tmp_path / "a.csv", [0.5] * PATIENTS)
    submission(tmp_path / "b.csv", [0.5] * (PATIENTS - 1))
    boxes_of("boxes.json", {0})
    assert run(["evaluate", str(first), str(tmp_path / second), "--dataset", str(data), *more]) == 2
    out, err = capfd.readouterr()
    assert (out, err.count("\n")) == ("", 1)
    assert all(word in err for word in words), err


def test_resamples_of_different_figures_do_not_pair():
    one = ResampledFigures({"mAP": np.zeros(3)}, {})
    with pytest.raises(ValueError, match="resampled figures"):
        paired_difference(one, ResampledFigures({"mAP": np.zeros(4)}, {}))
    with pytest.raises(ValueError, match="resampled figures"):
        paired_difference(one, ResampledFigures({"opacity": np.zeros(3)}, {}))


def test_evaluating_imports_no_torch():
    code = "import sys, siimdet.submission.evaluate_pair, siimdet.submission.assemble; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0
