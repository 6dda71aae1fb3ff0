"""Any figure of the journal by its dotted path."""

import pytest

from siimdet.core.types import LabelSpace
from siimdet.errors import ConfigError
from siimdet.scoring.classification import figure_at, multiclass_score

SPACE = LabelSpace("odd", ("COVID-19", "a.b", "a", "not covid"))
VALUES = [[1, 0, 0, 0], [0, 1, 0, 0], [0, 0, 0, 1], [0, 0, 1, 0], [0, 1, 0, 0]]
TRUTH = [[1, 0, 0, 0], [0, 1, 0, 0], [0, 1, 0, 0], [0, 1, 0, 0], [0, 0, 1, 0]]
FIGURES = {"val_loss": 0.5, "patients": {"f1": 0.75}} | multiclass_score(VALUES, TRUTH, SPACE).as_dict()


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("val_loss", 0.5),
        ("accuracy", 0.4),
        ("patients.f1", 0.75),
        ("classes.COVID-19.recall", 1.0),
        ("classes.a.b.false_negatives", 2),
        ("classes.a.b.false_positives", 1),
        ("classes.a.false_negatives", 1),
        ("classes.not covid.specificity", 0.8),
        ("classes.not covid.recall", None),
    ],
)
def test_paths(path, value):
    assert figure_at(FIGURES, path) == value


def test_the_longest_key_is_tried_first():
    assert figure_at({"a": {"b.c": 1.0, "b": {"c": 2.0}}, "a.b": {"c": 3.0}}, "a.b.c") == 3.0
    assert figure_at({"a": {"b.c": 1.0, "b": {"c": 2.0}}}, "a.b.c") == 1.0


@pytest.mark.parametrize(
    ("path", "near"),
    [
        ("accurracy", "accuracy"),
        ("classes.COVID.false_negatives", "classes.COVID-19.false_negatives"),
        ("patients", "patients.f1"),
        ("confusion", "a figure such as"),
        ("zzzz", "val_loss"),
    ],
)
def test_an_unknown_path_is_one_line_with_near_names(path, near):
    with pytest.raises(ConfigError) as caught:
        figure_at(FIGURES, path)
    assert str(caught.value).startswith(f"config: best.figure: found '{path}', expected")
    assert near in str(caught.value)
    assert "\n" not in str(caught.value)
