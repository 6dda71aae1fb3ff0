"""A classifier's CSV against a data set: the report by hand, and a line for everything that does not fit."""

import json

import numpy as np
import pytest

from siimdet.cli import run
from siimdet.core.labels import OPACITY
from siimdet.core.types import BoxLabels, ImageRecord, ImageSize, LabelSpace
from siimdet.data.manifest import write_dataset
from siimdet.data.table import write_table
from siimdet.errors import DatasetError, SubmissionError
from siimdet.inference.aggregate import patient_table
from siimdet.submission.classes_file import holds_classes, read_classes
from siimdet.submission.evaluate import check_file
from siimdet.submission.evaluate_classes import evaluate_classes, holds_one_each
from siimdet.submission.truth_files import TruthFiles

SIZE = ImageSize(8, 8)
CT = LabelSpace("ct", ("non-covid", "covid"))
NAN = float("nan")
# image, patient, labels
CT_ROWS = (("a1", "a", (1, 0)), ("a2", "a", (1, 0)), ("b1", "b", (0, 1)), ("b2", "b", (0, 1)), ("c1", "c", (0, 1)))
TEXT = "image_id,non-covid,covid\nb1,0.25,0.75\na1,0.75,0.25\na2,0.25,0.75\nb2,0.5,0.5\nc1,0.25,0.75\n"


def record(image, patient, labels, split="test"):
    return ImageRecord(image, patient, patient, f"images/{image}.png", SIZE, SIZE, np.array(labels), split)


@pytest.fixture
def write_data(tmp_path):
    def write(rows, space=CT, boxed=()):
        records = [record(*row) for row in rows]
        box = BoxLabels(np.array([[1, 1, 4, 4]], np.float32), np.array([0]), SIZE)
        boxes = {r.image_id: box if r.image_id in boxed else BoxLabels.empty(SIZE) for r in records}
        write_dataset(tmp_path / "data", records, boxes, source="ct", labels=space, classes=OPACITY, bit_depth=8)
        return tmp_path / "data"

    return write


@pytest.fixture
def score(tmp_path, write_data):
    def evaluate(text, rows=CT_ROWS, space=CT, *, only_submitted=False, check_only=False, boxed=()):
        (tmp_path / "classes.csv").write_text(text)
        against = TruthFiles(write_data(rows, space, boxed), "test")
        if check_only:
            return check_file(tmp_path / "classes.csv", against, only_submitted=only_submitted)
        return evaluate_classes(tmp_path / "classes.csv", against, only_submitted=only_submitted).figures

    return evaluate


def test_report_by_hand(score):
    figures = score(TEXT)
    assert figures["confusion"] == [[1, 1], [1, 2]]
    assert figures["accuracy"] == 0.6
    covid = figures["classes"]["covid"]
    assert (covid["precision"], covid["recall"], covid["specificity"]) == (2 / 3, 2 / 3, 0.5)
    assert (covid["positives"], covid["false_positives"], covid["false_negatives"]) == (3, 1, 1)
    # Pairs of a true covid with a non-covid: 4 won, .75 and .75 twice tied, b2 lost to a2.
    assert covid["auroc"] == pytest.approx((3 + 0.5 * 2) / 6)
    expected = -np.mean(np.log([0.75, 0.75, 0.25, 0.5, 0.75]))
    assert figures["log_loss"] == pytest.approx(expected)
    assert (figures["images"], figures["unlabelled"], figures["ids_left_out"]) == (5, 0, 0)
    assert json.loads(json.dumps(figures)) == figures


def test_several_labels_have_no_confusion_and_unknowns_count_nowhere(score):
    rows = [("1", "p", (1, 1)), ("2", "q", (0, 0)), ("3", "r", (NAN, 1)), ("4", "s", (NAN, NAN))]
    figures = score("image_id,x,y\n1,0.9,0.2\n2,0.4,0.1\n3,0.5,0.8\n4,1,1\n", rows, LabelSpace("xy", ("x", "y")))
    assert figures["confusion"] is None
    assert figures["accuracy"] == pytest.approx(2 / 3)
    assert figures["classes"]["x"]["recall"] == 1
    assert figures["classes"]["y"]["recall"] == 0.5
    assert figures["log_loss"] == pytest.approx(-np.mean(np.log([0.9, 0.2, 0.6, 0.9, 0.8])))
    assert (figures["images"], figures["unlabelled"]) == (4, 1)


def test_an_opacity_column_is_scored_against_the_boxes(score):
    text = "image_id,non-covid,covid,opacity\n" + "".join(
        f"{name},0.5,0.5,{value}\n" for name, value in (("a1", 0.1), ("a2", 0.6), ("b1", 0.9), ("b2", 0.3), ("c1", 0.5))
    )
    figures = score(text, boxed=("b1", "c1"))
    assert figures["opacity"] == {"positives": 2, "auroc": 5 / 6, "ap": pytest.approx(5 / 6)}
    assert score(text)["opacity"] == {"positives": 0, "auroc": None, "ap": None}


def test_patients_are_scored_by_their_decisions(tmp_path, write_data):
    dataset = write_data(CT_ROWS)
    (tmp_path / "slices.csv").write_text(TEXT)
    slices = read_classes(tmp_path / "slices.csv", CT).probabilities
    records = [record(*row) for row in CT_ROWS]
    header, rows = patient_table(slices, records, rule="counts", threshold=0.25)
    write_table(tmp_path / "patients.csv", header, rows)
    figures = evaluate_classes(tmp_path / "patients.csv", TruthFiles(dataset)).figures
    # Half of a's slices count for covid, and .5 >= .25.
    assert figures["confusion"] == [[0, 1], [0, 2]]
    assert figures["classes"]["covid"]["auroc"] == 1.0
    assert (figures["patients"], "log_loss" in figures) == (3, False)


def test_only_submitted_leaves_ids_out(score):
    text = "image_id,non-covid,covid\na1,1,0\nb1,0,1\n"
    figures = score(text, only_submitted=True)
    assert (figures["accuracy"], figures["images"], figures["ids_left_out"]) == (1.0, 2, 3)
    with pytest.raises(SubmissionError, match=r"image_id: found no row for 'a2' \(3 ids lack\), expected all 5 ids"):
        score(text)


def test_check_only_checks(score):
    assert score(TEXT, check_only=True) == {"valid": True, "rows": 5}
    with pytest.raises(SubmissionError, match="unknown ids"):
        score(TEXT.replace("c1", "z1"), check_only=True)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (TEXT.replace("c1", "z1"), r"csv:6: image_id: found 'z1' \(1 unknown ids\), expected only ids of the split"),
        (TEXT.replace("c1", "b1"), r"csv:6: image_id: found 'b1' a second time, expected every id once"),
        (TEXT.replace("0.5,0.5", "nan,0.5"), r"csv:5: non-covid: found nan, expected a probability in \[0, 1\]"),
        (TEXT.replace("0.5,0.5", "0.5,1.5"), r"csv:5: covid: found 1\.5, expected a probability"),
        (TEXT.replace("0.5,0.5", "0.5,-0.5"), r"csv:5: covid: found -0\.5, expected a probability"),
        (TEXT.replace("0.5,0.5", "0.5,inf"), r"csv:5: covid: found inf, expected a probability"),
        (TEXT.replace("0.5,0.5", "0.5,many"), r"csv:5: covid: found 'many', expected a number"),
        (TEXT.replace("0.5,0.5", "0.5"), r"csv:5: row: found 2 cells, expected 3"),
        (TEXT.replace("non-covid,covid", "non-covid,flu"), "header: found columns .*flu, expected a column 'covid'"),
        (TEXT.replace("non-covid,covid", "covid,non-covid"), "header: found .*, expected image_id, non-covid, covid"),
        ("image_id,non-covid,covid,more\na1,0,1,1\n", "header: found columns .*more, expected image_id, non-covid"),
        ("patient_id,non-covid,covid\na,0,1\n", "header: found columns .*, expected patient_id, slices, non-covid_"),
        (
            "patient_id,slices,non-covid_slices,covid_slices,non-covid,covid,decision\na,1,1,0,1,0,flu\n",
            "csv:2: decision: found 'flu', expected one of non-covid, covid",
        ),
    ],
)
def test_misfits_are_one_line(score, text, message):
    with pytest.raises(SubmissionError, match=message) as caught:
        score(text)
    assert "\n" not in str(caught.value)


def test_data_without_labels_is_refused(score):
    rows = [(image, patient, (NAN, NAN)) for image, patient, _ in CT_ROWS]
    with pytest.raises(DatasetError, match="labels: found none known on 5 rows"):
        score(TEXT, rows)
    with pytest.raises(DatasetError, match="labels: found no classes"):
        score(TEXT, [("a1", "a", ())], LabelSpace("none", ()))


def test_which_classes_exclude_each_other():
    assert holds_one_each([record("1", "p", (0, 1)), record("2", "q", (NAN, NAN))])
    assert not holds_one_each([record("1", "p", (0, 1)), record("2", "q", (0, 0))])
    assert not holds_one_each([record("1", "p", (1,))])
    assert not holds_one_each([record("1", "p", (NAN, NAN))])


@pytest.mark.parametrize(
    ("data", "answer"),
    [
        (b"image_id,a\n", True),
        (b"\xef\xbb\xbfpatient_id,slices\r\n", True),
        (b'"image_id","a"\n', True),
        (b"id,PredictionString\n", False),
        (b"\xff\xfe\x00", False),
        (b"", False),
    ],
)
def test_a_classifiers_file_is_known_by_its_header(tmp_path, data, answer):
    (tmp_path / "file.csv").write_bytes(data)
    assert holds_classes(tmp_path / "file.csv") is answer
    assert not holds_classes(tmp_path / "missing.csv")


def test_the_command_prints_a_report_or_json(tmp_path, write_data, capfd):
    dataset = write_data(CT_ROWS)
    (tmp_path / "classes.csv").write_text(TEXT)
    arguments = ["evaluate", str(tmp_path / "classes.csv"), "--dataset", str(dataset)]
    assert run(arguments) == 0
    lines = capfd.readouterr().out.splitlines()
    assert lines[0].split() == ["class", "precision", "recall", "specificity", "f1", "auroc", "ap", "positives"]
    assert lines[2].split()[:5] == ["covid", "0.6667", "0.6667", "0.5000", "0.6667"]
    assert len({len(line) for line in (lines[0], lines[1], lines[2])}) == 1
    assert lines[-3].split() == ["true", "/", "predicted", "non-covid", "covid"]
    assert [line.split() for line in lines[-2:]] == [["non-covid", "1", "1"], ["covid", "1", "2"]]
    assert run([*arguments, "--json"]) == 0
    assert json.loads(capfd.readouterr().out)["accuracy"] == 0.6
    assert run([*arguments, "--check-only"]) == 0
    assert capfd.readouterr().out.split() == ["valid", "True", "rows", "5"]


def test_a_classifiers_file_has_no_truth_in_label_tables(tmp_path, capfd):
    (tmp_path / "classes.csv").write_text(TEXT)
    tables = ["--image-level", "a.csv", "--study-level", "b.csv"]
    assert run(["evaluate", str(tmp_path / "classes.csv"), *tables]) == 2
    assert "truth: found label tables, expected --dataset" in capfd.readouterr().err
