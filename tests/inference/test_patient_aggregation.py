"""Patients from slices: counts, scores, thresholds and decisions by hand."""

import numpy as np
import pytest

from siimdet.core.types import ImageRecord, ImageSize, LabelSpace, Probabilities
from siimdet.errors import ConfigError, DatasetError
from siimdet.inference.aggregate import (
    choose_threshold,
    decide,
    patient_scores,
    patient_table,
    patient_truth,
    slice_counts,
)

SIZE = ImageSize(10, 10)
TWO = LabelSpace("ct", ("non-covid", "covid"))
THREE = LabelSpace("three", ("a", "b", "c"))


def record(image: str, patient: str, labels: tuple[float, ...] = (1, 0)) -> ImageRecord:
    return ImageRecord(image, patient, patient, f"images/{image}.png", SIZE, SIZE, np.array(labels), "val")


RECORDS = [record("1", "q"), record("2", "p"), record("3", "q"), record("4", "q"), record("5", "p")]
COVID = np.array([0.5, 0.25, 0.75, 0.125, 0.375])
SLICES = Probabilities(("1", "2", "3", "4", "5"), np.stack([1 - COVID, COVID], 1), TWO)


def test_slices_count_from_the_threshold_on():
    patients, counts = slice_counts(SLICES, RECORDS)
    assert patients == ("p", "q")
    assert counts.tolist() == [[2, 0], [1, 2]]
    assert slice_counts(SLICES, RECORDS, slice_threshold=0.25)[1].tolist() == [[0, 2], [1, 2]]


@pytest.mark.parametrize(
    ("rule", "k", "covid", "other"),
    [
        ("counts", 10, [0, 2 / 3], [1, 1 / 3]),
        ("mean", 10, [0.3125, 1.375 / 3], [0.6875, 1.625 / 3]),
        ("max_k", 2, [0.3125, 0.625], [0.6875, 0.6875]),
        ("max_k", 1, [0.375, 0.75], [0.75, 0.875]),
    ],
)
def test_scores_by_hand(rule, k, covid, other):
    scores = patient_scores(SLICES, RECORDS, rule=rule, k=k)
    assert scores.keys == ("p", "q")
    assert scores.values == pytest.approx(np.stack([other, covid], 1), abs=1e-6)


def test_of_three_classes_the_most_probable_counts_and_is_decided_on():
    slices = Probabilities(("1", "2", "3"), [[0.4, 0.4, 0.2], [0.1, 0.3, 0.6], [0.2, 0.5, 0.3]], THREE)
    records = [record(name, "p", (1, 0, 0)) for name in "123"]
    assert slice_counts(slices, records)[1].tolist() == [[1, 1, 1]]
    mean = patient_scores(slices, records, rule="mean")
    assert mean.values == pytest.approx(np.array([[0.7, 1.2, 1.1]]) / 3)
    assert decide(mean, 0.1).tolist() == [1]
    with pytest.raises(ConfigError, match=r"slice_threshold: found 0\.4, expected 0\.5"):
        slice_counts(slices, records, slice_threshold=0.4)


def test_one_class_alone_decides_nothing():
    one = Probabilities(("1",), [[0.5]], LabelSpace("one", ("a",)))
    with pytest.raises(DatasetError, match="classes: found 1 of one, expected two or more"):
        patient_scores(one, RECORDS, rule="mean")


def test_no_slices_are_no_patients():
    none = Probabilities((), np.zeros((0, 2)), TWO)
    for rule in ("counts", "mean", "max_k"):
        assert patient_scores(none, RECORDS, rule=rule).values.shape == (0, 2)


@pytest.mark.parametrize(
    ("scores", "truth", "threshold"),
    [
        ([0.1, 0.2, 0.6, 0.9], [0, 0, 1, 1], 0.4),
        ([0.1, 0.5, 0.3, 0.9], [0, 0, 1, 1], 0.7),  # .2 and .7 are as good, and .5 to .9 is the wider gap
        ([0.25, 0.5, 0.75, 1.0], [0, 1, 0, 1], 0.375),  # .375 and .875 are as good, their gaps as wide: the lower
        ([0.4, 0.4], [0, 1], 0.7),  # nothing tells them: the wider gap
        ([0.9, 0.2], [0, 1], 0.1),  # worse than chance between them: everybody is positive
        ([0.2, 0.9], [1, 1], None),
        ([], [], None),
    ],
)
def test_thresholds_by_hand(scores, truth, threshold):
    chosen = choose_threshold(scores, np.array(truth, bool))
    assert chosen == (None if threshold is None else pytest.approx(threshold))


def test_a_threshold_has_the_best_balanced_accuracy_of_all():
    rng = np.random.default_rng(6)
    truth = rng.random(80) < 0.3
    scores = np.round((rng.random(80) + 0.3 * truth).clip(0, 1), 2)

    def balanced(threshold: float) -> float:
        positive = scores >= threshold
        return (positive[truth].mean() + (~positive[~truth]).mean()) / 2

    chosen = choose_threshold(scores, truth)
    assert chosen is not None
    assert balanced(chosen) == pytest.approx(max(balanced(threshold) for threshold in np.linspace(0, 1, 2001)))


def test_a_row_says_how_many_slices_of_how_many():
    header, rows = patient_table(SLICES, RECORDS, rule="counts", threshold=0.7)
    assert header == ("patient_id", "slices", "non-covid_slices", "covid_slices", "non-covid", "covid", "decision")
    assert rows[0] == ("p", 2, 2, 0, 1.0, 0.0, "non-covid")
    assert rows[1][:4] == ("q", 3, 1, 2)
    assert rows[1][6] == "non-covid"
    assert patient_table(SLICES, RECORDS, rule="counts", threshold=0.6)[1][1][6] == "covid"
    assert patient_table(SLICES, RECORDS, rule="counts")[1][1][6] == "covid"


def test_a_score_on_the_threshold_is_positive():
    assert decide(Probabilities(("p",), [[0.75, 0.25]], TWO), 0.25).tolist() == [1]


def test_patients_have_one_truth():
    truth = patient_truth([record("2", "q", (0, 1)), record("1", "p"), record("3", "q", (0, 1))])
    assert {patient: labels.tolist() for patient, labels in truth.items()} == {"p": [1, 0], "q": [0, 1]}
    unknown = patient_truth([record("1", "p", (np.nan, np.nan)), record("2", "p", (np.nan, np.nan))])
    assert np.isnan(unknown["p"]).all()
    with pytest.raises(DatasetError, match=r"patient p: found labels \[1.0, 0.0\] of 1, \[0.0, 1.0\] of 2, expected"):
        patient_truth([record("1", "p"), record("2", "p", (0, 1))])
