"""Classification figures by hand and against scikit-learn."""

import json

import numpy as np
import pytest
from sklearn import metrics

from siimdet.core.types import LabelSpace
from siimdet.scoring.classification import log_loss, multiclass_score, multilabel_score

TWO = LabelSpace("two", ("a", "b"))
THREE = LabelSpace("three", ("a", "b", "c"))


def test_multilabel_by_hand_with_unknowns():
    probabilities = [[0.9, 0.1], [0.6, 0.8], [0.2, 0.5], [0.4, 0.3]]
    truth = [[1, 0], [0, np.nan], [0, 1], [1, np.nan]]
    score = multilabel_score(probabilities, truth, TWO)
    a, b = score.classes["a"], score.classes["b"]
    assert score.accuracy == 0.5
    assert (a.positives, a.negatives, a.accuracy, a.precision, a.recall, a.f1) == (2, 2, 0.5, 0.5, 0.5, 0.5)
    assert a.auroc == 0.75
    assert a.ap == pytest.approx(0.5 + 0.5 * 2 / 3)
    assert (b.positives, b.negatives, b.precision, b.recall, b.auroc, b.ap) == (1, 1, 1, 1, 1, 1)
    assert score.macro("recall") == 0.75


def test_class_without_positives_is_none_and_out_of_the_means():
    score = multilabel_score([[0.9, 0.9], [0.1, 0.2]], [[1, 0], [0, 0]], TWO)
    b = score.classes["b"]
    assert (b.precision, b.recall, b.f1, b.auroc, b.ap) == (None,) * 5
    assert (b.accuracy, b.specificity, b.false_positives, b.false_negatives) == (0.5, 0.5, 1, 0)
    assert score.macro("f1") == 1.0


def test_no_rows_and_all_unknown_have_no_figure():
    for probabilities, truth in (([[0.5, 0.5]], [[np.nan, np.nan]]), (np.zeros((0, 2)), np.zeros((0, 2)))):
        assert multilabel_score(probabilities, truth, TWO).accuracy is None
        score = multiclass_score(probabilities, truth, TWO)
        assert (score.accuracy, score.macro("auroc")) == (None, None)
        assert score.confusion.sum() == 0


def test_class_with_positives_only_has_no_auroc():
    score = multilabel_score([[0.9, 0.1]], [[1, 1]], TWO)
    assert (score.classes["a"].auroc, score.classes["a"].specificity) == (None, None)
    assert score.classes["b"].false_negatives == 1
    assert score.classes["b"].precision == 0.0


def test_multiclass_equals_scikit_learn():
    rng = np.random.default_rng(0)
    values = rng.dirichlet(np.ones(3), 200)
    actual = rng.integers(0, 3, 200)
    score = multiclass_score(values, np.eye(3)[actual], THREE)
    chosen = values.argmax(1)
    assert score.accuracy == pytest.approx(metrics.accuracy_score(actual, chosen))
    assert score.confusion.tolist() == metrics.confusion_matrix(actual, chosen).tolist()
    for figure, function in (
        ("precision", metrics.precision_score),
        ("recall", metrics.recall_score),
        ("f1", metrics.f1_score),
    ):
        assert score.macro(figure) == pytest.approx(function(actual, chosen, average="macro"))
    assert score.macro("auroc") == pytest.approx(metrics.roc_auc_score(actual, values, multi_class="ovr"))


def test_multiclass_leaves_unknown_rows_out():
    values, truth = [[0.9, 0.1], [0.8, 0.2], [0.3, 0.7]], [[1, 0], [np.nan, np.nan], [0, 1]]
    score = multiclass_score(values, truth, TWO)
    assert score.accuracy == 1.0
    assert score.confusion.tolist() == [[1, 0], [0, 1]]


def test_specificity_and_false_answers_equal_the_confusion_matrix():
    rng = np.random.default_rng(5)
    values, actual = rng.dirichlet(np.ones(3), 60), rng.integers(0, 3, 60)
    score = multiclass_score(values, np.eye(3)[actual], THREE)
    for k, figures in enumerate(score.classes.values()):
        (right, above), (below, hits) = metrics.confusion_matrix(actual == k, values.argmax(1) == k)
        assert (figures.false_positives, figures.false_negatives) == (above, below)
        assert figures.specificity == right / (right + above)
        assert figures.recall == hits / (hits + below)


def test_decisions_stand_in_for_the_most_probable_class():
    values, truth = [[0.7, 0.3], [0.6, 0.4], [0.9, 0.1]], [[0, 1], [0, 1], [1, 0]]
    score = multiclass_score(values, truth, TWO, decisions=[1, 0, 0])
    assert score.accuracy == pytest.approx(2 / 3)
    assert score.confusion.tolist() == [[1, 0], [1, 1]]
    assert score.classes["b"].auroc == 1.0


def test_log_loss_by_hand_and_against_scikit_learn():
    half, quarter = np.log(2), np.log(4)
    exclusive = log_loss([[0.5, 0.5], [0.75, 0.25], [0.1, 0.9]], [[1, 0], [0, 1], [np.nan, 1]], exclusive=True)
    assert exclusive == pytest.approx((half + quarter) / 2)
    assert log_loss([[0.5, 0.75], [0.1, 0.9]], [[1, 0], [np.nan, np.nan]], exclusive=False) == pytest.approx(
        (half + quarter) / 2
    )
    assert log_loss([[0.5, 0.5]], [[np.nan, 1]], exclusive=True) is None
    assert log_loss([[0.0, 1.0]], [[1, 0]], exclusive=True) == pytest.approx(7 * np.log(10))
    rng = np.random.default_rng(4)
    values, actual = rng.dirichlet(np.ones(3), 50), rng.integers(0, 3, 50)
    assert log_loss(values, np.eye(3)[actual], exclusive=True) == pytest.approx(metrics.log_loss(actual, values))


def test_journal_entry_is_plain_json():
    entry = multiclass_score([[0.9, 0.1], [0.2, 0.8]], [[1, 0], [0, 1]], TWO).as_dict()
    assert json.loads(json.dumps(entry)) == entry
    assert list(entry) == [
        "accuracy",
        "precision",
        "recall",
        "specificity",
        "f1",
        "auroc",
        "ap",
        "ece",
        "classes",
        "confusion",
    ]


@pytest.mark.parametrize(
    ("values", "truth", "message"),
    [
        ([[0.5]], [[1]], "expected \\[N, 2\\] for two"),
        ([[0.5, 1.5]], [[1, 0]], "outside \\[0, 1\\]"),
        ([[0.5, np.nan]], [[1, 0]], "outside \\[0, 1\\]"),
        ([[0.5, 0.5]], [[1, 2]], "other than 1, 0 or NaN"),
        ([[0.5, 0.5]], [[1, 1]], "without exactly one true class"),
    ],
)
def test_misfits_are_refused(values, truth, message):
    with pytest.raises(ValueError, match=message):
        multiclass_score(values, truth, TWO)
