"""Truth tables and the six-class score, by hand and against a slow reference on real predictions."""

import ast
import csv
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest

from siimdet.core.labels import SUBMISSION_CLASSES
from siimdet.errors import SourceError, SubmissionError
from siimdet.submission.file import read_submission
from siimdet.submission.score import score_submission
from siimdet.submission.table import CLASSES, Submission
from siimdet.submission.truth import make_truth, read_truth

IMAGES = """id,boxes,label,StudyInstanceUID
a_image,"[{'x': 10, 'y': 20.5, 'width': 30, 'height': 40}, {'x': -3.5, 'y': 0, 'width': 5, 'height': 6}]",opacity,s
b_image,,none 1 0 0 1 1,t
"""
STUDIES = """id,Negative for Pneumonia,Typical Appearance,Indeterminate Appearance,Atypical Appearance
s_study,0,1,0,0
t_study,1,0,0,0
"""


@pytest.fixture
def tables(tmp_path):
    def write(images=IMAGES, studies=STUDIES):
        (tmp_path / "image.csv").write_text(images)
        (tmp_path / "study.csv").write_text(studies)
        return tmp_path / "image.csv", tmp_path / "study.csv"

    return write


def test_truth_from_tables(tables):
    truth = read_truth(*tables())
    assert truth.ids == ("s_study", "t_study", "a_image", "b_image")
    assert truth.boxes.images.tolist() == [0, 1, 2, 2, 3]
    assert truth.study_of == {"a": "s", "b": "t"}
    assert truth.studies_of_rows() == {"s_study": "s", "t_study": "t", "a_image": "s", "b_image": "t"}
    names = [CLASSES.names[k] for k in truth.boxes.class_ids]
    assert names == ["typical", "negative", "opacity", "opacity", "none"]
    assert truth.boxes.xyxy.tolist() == [
        [0, 0, 1, 1], [0, 0, 1, 1], [10, 20.5, 40, 60.5], [-3.5, 0, 1.5, 6], [0, 0, 1, 1],
    ]  # fmt: skip


def test_truth_from_mappings_equals_truth_from_tables(tables):
    boxes = {"a": [[10, 20.5, 40, 60.5], [-3.5, 0, 1.5, 6]], "b": []}
    made = make_truth({"a": "s", "b": "t"}, boxes, {"s": "typical", "t": "negative"})
    read = read_truth(*tables())
    assert (made.ids, made.study_of) == (read.ids, read.study_of)
    for column in ("images", "class_ids", "xyxy"):
        np.testing.assert_array_equal(getattr(made.boxes, column), getattr(read.boxes, column))


def test_mappings_that_do_not_fit_are_refused():
    with pytest.raises(ValueError, match="image a: study t has no label"):
        make_truth({"a": "t"}, {"a": []}, {})
    with pytest.raises(ValueError, match="image a has a study or boxes but not both"):
        make_truth({"a": "s"}, {}, {"s": "typical"})
    with pytest.raises(ValueError, match="no class 'odd'"):
        make_truth({"a": "s"}, {"a": []}, {"s": "odd"})


@pytest.mark.parametrize(
    "cell",
    [
        "[{'x': 1, 'y': 2, 'width': 3}]",
        "[{'x': 1, 'y': 2, 'width': 3, 'height': 4}",
        "[{'x': nan, 'y': 2, 'width': 3, 'height': 4}]",
        "[{'x': 1e999, 'y': 2, 'width': 3, 'height': 4}]",
        "[{'x': 1, 'y': 2, 'width': 0, 'height': 4}]",
        "[{'x': 1, 'y': 2, 'width': -3, 'height': 4}]",
        "[{'x': __import__('os'), 'y': 2, 'width': 3, 'height': 4}]",
    ],
)
def test_broken_box_cells(tables, cell):
    images = f'id,boxes,StudyInstanceUID\na_image,"{cell}",s\n'
    with pytest.raises(SourceError, match=r"image\.csv:2: boxes.*(or nothing|above 0|numbers x, y)"):
        read_truth(*tables(images))


@pytest.mark.parametrize(
    ("images", "studies", "message"),
    [
        (IMAGES.replace("boxes", "box"), STUDIES, "image.csv: header: found columns id, box, .*a column 'boxes'"),
        (IMAGES.replace("'x': 10", "'x': ten"), STUDIES, "image.csv:2: boxes"),
        (IMAGES.replace("b_image", "a_image"), STUDIES, "image.csv:3: id: found a_image again"),
        (IMAGES.replace("b_image", "b"), STUDIES, "image.csv:3: id: .*ends in '_image'"),
        (IMAGES.replace(",t\n", ",u\n"), STUDIES, "image.csv:3: StudyInstanceUID: found 'u'"),
        (IMAGES.replace(",t\n", ",t,t\n"), STUDIES, "image.csv:3: row: found 5 cells, expected 4"),
        (IMAGES, STUDIES.replace("0,1,0,0", "1,1,0,0"), "study.csv:2: labels: found 1 1 0 0, expected exactly one 1"),
        (IMAGES, STUDIES.replace("0,1,0,0", "0,1,0"), "study.csv:2: row: found 4 cells, expected 5"),
        (IMAGES, "", "study.csv: header: found an empty file"),
    ],
)
def test_broken_tables(tables, images, studies, message):
    with pytest.raises(SourceError, match=message):
        read_truth(*tables(images, studies))


def test_missing_table(tmp_path):
    with pytest.raises(SourceError, match="file: found nothing there"):
        read_truth(tmp_path / "a.csv", tmp_path / "b.csv")


@pytest.fixture
def two_rows(tmp_path):
    path = tmp_path / "submission.csv"
    path.write_text(
        "id,PredictionString\ns_study,typical 0.9 0 0 1 1 negative 0.1 0 0 1 1\n"
        "a_image,none 0.5 0 0 1 1 opacity 0.9 10 20 40 60\n"
    )
    return read_submission(path)


def test_only_submitted_filters_both_levels(tables, two_rows):
    score = score_submission(two_rows, read_truth(*tables()), only_submitted=True)
    assert list(score.as_dict().items()) == [
        ("negative", None),
        ("typical", 1.0),
        ("indeterminate", None),
        ("atypical", None),
        ("none", None),
        ("opacity", 0.5),
        ("mAP", 0.75),
        ("images", 1),
        ("studies", 1),
        ("boxes", 2),
        ("predictions", 4),
        ("ids_left_out", 2),
    ]
    assert score.voc.without_truth == ("negative", "indeterminate", "atypical", "none")


def test_an_incomplete_submission_is_refused(tables, two_rows):
    with pytest.raises(SubmissionError, match="no row for 'b_image' \\(2 ids lack\\)"):
        score_submission(two_rows, read_truth(*tables()))


def test_an_unknown_id_is_refused_even_with_only_submitted(tables, two_rows):
    truth = read_truth(*tables(images=IMAGES.replace("a_image", "x_image")))
    with pytest.raises(SubmissionError, match="unknown ids"):
        score_submission(two_rows, truth, only_submitted=True)


def plain_truth(folder, submitted):
    """{class: {id: [boxes]}} of the submitted ids, read with the standard library alone."""
    truth = {name: {} for name in SUBMISSION_CLASSES}
    with open(folder / "train_image_level.csv") as stream:
        for row in csv.DictReader(stream):
            found = [
                (b["x"], b["y"], b["x"] + b["width"], b["y"] + b["height"])
                for b in (ast.literal_eval(row["boxes"]) if row["boxes"] else [])
            ]
            if row["id"] in submitted:
                truth["opacity" if found else "none"][row["id"]] = found or [(0, 0, 1, 1)]
    columns = ("Negative for Pneumonia", "Typical Appearance", "Indeterminate Appearance", "Atypical Appearance")
    with open(folder / "train_study_level.csv") as stream:
        for row in csv.DictReader(stream):
            for name, column in zip(SUBMISSION_CLASSES, columns, strict=False):
                if row["id"] in submitted and row[column] == "1":
                    truth[name][row["id"]] = [(0, 0, 1, 1)]
    return truth


def plain_iou(a, b):
    width, height = min(a[2], b[2]) - max(a[0], b[0]), min(a[3], b[3]) - max(a[1], b[1])
    overlap = max(width, 0) * max(height, 0)
    return overlap / ((a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - overlap)


def plain_ap(truth, predictions):
    """voc_eval without its + 1; a point of the curve is kept where the next score differs."""
    predictions = sorted(predictions, key=lambda p: p[1], reverse=True)
    total = sum(map(len, truth.values()))
    taken, hits, points = set(), 0, [(0.0, 0.0)]
    for seen, (row_id, score, box) in enumerate(predictions, start=1):
        ious = [plain_iou(box, other) for other in truth.get(row_id, [])]
        if ious and max(ious) > 0.5 and (row_id, ious.index(max(ious))) not in taken:
            taken.add((row_id, ious.index(max(ious))))
            hits += 1
        if seen == len(predictions) or predictions[seen][1] != score:
            points.append((hits / total, hits / seen))
    area, envelope = 0.0, 0.0
    for (before, _), (recall, precision) in reversed(list(pairwise(points))):
        envelope = max(envelope, precision)
        area += (recall - before) * envelope
    return area


@pytest.fixture(scope="module")
def real(shared_data):
    siim = shared_data / "siim"
    submission = read_submission(shared_data / "siim_oof" / "submission.csv")
    return siim, submission, read_truth(siim / "train_image_level.csv", siim / "train_study_level.csv")


@pytest.mark.real_data
@pytest.mark.parametrize("decimals", [None, 2], ids=["as published", "2 decimals, so many ties"])
def test_real_predictions_equal_the_reference_in_any_row_order(real, decimals):
    siim, submission, truth = real
    if decimals:
        submission = replace(submission, scores=submission.scores.round(decimals))
    score = score_submission(submission, truth, only_submitted=True).as_dict()
    expected = plain_truth(siim, set(submission.ids))
    for class_id, name in enumerate(SUBMISSION_CLASSES):
        mine = np.flatnonzero(submission.class_ids == class_id)
        predictions = [
            (submission.ids[submission.rows[p]], submission.scores[p], submission.xyxy[p].tolist()) for p in mine
        ]
        assert score[name] == pytest.approx(plain_ap(expected[name], predictions), abs=1e-9)
    if decimals is None:
        assert round(score["opacity"], 6) == 0.525097
    for seed in range(3):
        assert score_submission(shuffled(submission, seed), truth, only_submitted=True).as_dict() == score


def shuffled(submission, seed):
    """The same predictions in another order, of the rows and within them."""
    rng = np.random.default_rng(seed)
    order, rows = rng.permutation(len(submission)), rng.permutation(len(submission.ids))
    return Submission(
        submission.file,
        tuple(submission.ids[row] for row in rows),
        np.argsort(rows)[submission.rows[order]],
        submission.class_ids[order],
        submission.scores[order],
        submission.xyxy[order],
    )


@pytest.mark.real_data
def test_real_truth_counts(real):
    _, _, truth = real
    counts = np.bincount(truth.boxes.class_ids, minlength=len(CLASSES))
    assert counts.tolist() == [1676, 2855, 1049, 474, 2040, 7853]
    assert len(truth.ids) == 6334 + 6054
