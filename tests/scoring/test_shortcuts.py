"""The shortcut audit: planted shortcuts are found, noise is not, and a patient never tells of itself."""

import numpy as np
import pytest

from siimdet.core.types import ImageSize, LabelSpace
from siimdet.scoring.bootstrap import Resamples
from siimdet.scoring.classification_bootstrap import resampled_classification
from siimdet.scoring.shortcuts import LabelAuroc, audit, model_aurocs, size_features, source_features

NAN = float("nan")
ONE = LabelSpace("one", ("covid",))
TWO = LabelSpace("two", ("a", "b"))


def cohort(rng, *, rows=600, patients=200, share=0.3):
    """Patients and a label f64[N, 1] that nothing tells."""
    return [f"p{k}" for k in rng.integers(0, patients, rows)], (rng.random((rows, 1)) < share).astype(np.float64)


def test_a_planted_shortcut_is_found_and_noise_is_not():
    rng = np.random.default_rng(0)
    patients, labels = cohort(rng)
    sick = labels[:, 0] == 1
    # The sick come from a site of 1024 pixels, nineteen in twenty; the others have widths on both sides of it.
    width = np.where(sick ^ (rng.random(600) < 0.05), 1024, rng.integers(500, 1600, 600)).astype(np.float64)
    noise = rng.normal(size=(600, 6))
    found = audit({"size": width[:, None], "noise": noise}, labels, ONE, patients)
    size, nothing = found["size"]["covid"], found["noise"]["covid"]
    assert size.auroc > 0.9
    assert 0.85 < size.interval[0] < size.auroc < size.interval[1]
    assert nothing.interval[0] < 0.5 < nothing.interval[1]
    assert (size.rows, size.positives, size.reason) == (600, int(labels.sum()), None)


def test_a_perfect_one_is_one_and_what_says_nothing_is_a_half_in_all_folds_together():
    rng = np.random.default_rng(1)
    patients, labels = cohort(rng, share=0.1)
    features = {"perfect": labels, "constant": np.ones((600, 1)), "unknown": np.full((600, 2), NAN)}
    found = audit(features, labels, ONE, patients, samples=50)
    assert (found["perfect"]["covid"].auroc, found["perfect"]["covid"].interval) == (1.0, [1.0, 1.0])
    for name in ("constant", "unknown"):
        assert (found[name]["covid"].auroc, found[name]["covid"].interval) == (0.5, [0.5, 0.5])


def test_a_patient_is_in_one_fold_alone():
    # Label and features are functions of the patient: whoever has seen one image of a patient knows the others.
    rng = np.random.default_rng(2)
    patient_of = np.repeat(np.arange(150), 6)
    labels = (rng.random((150, 1)) < 0.5).astype(np.float64)[patient_of]
    features = {"face": rng.normal(size=(150, 3))[patient_of]}
    names = [f"p{k}" for k in patient_of]
    alone = audit(features, labels, ONE, names, samples=50)["face"]["covid"]
    assert alone.auroc == pytest.approx(0.5, abs=0.08)
    leaking = audit(features, labels, ONE, [f"row{k}" for k in range(900)], samples=50)["face"]["covid"]
    assert leaking.auroc > 0.9


def test_an_unknown_value_tells_too_and_unknown_labels_count_nowhere():
    rng = np.random.default_rng(3)
    patients, labels = cohort(rng)
    values = np.where(labels == 1, NAN, rng.normal(size=labels.shape))
    labels[::3] = NAN
    found = audit({"gaps": values}, labels, ONE, patients, samples=50)["gaps"]["covid"]
    assert (found.auroc, found.rows, found.positives) == (1.0, 400, int((labels == 1).sum()))
    values[::3] = rng.normal(size=values[::3].shape)
    assert audit({"gaps": values}, labels, ONE, patients, samples=50)["gaps"]["covid"] == found


def test_the_same_again_is_the_same_and_other_seeds_fold_otherwise():
    rng = np.random.default_rng(4)
    patients, labels = cohort(rng)
    features = {"noise": rng.normal(size=(600, 4))}
    first, second, other = (audit(features, labels, ONE, patients, samples=20, seed=seed) for seed in (0, 0, 1))
    assert first == second
    assert first["noise"]["covid"].auroc != other["noise"]["covid"].auroc


@pytest.mark.parametrize(
    ("positive_patients", "negative_patients", "reason"),
    [
        (4, 9, "positives of 4 patients, expected 5 or more"),
        (9, 4, "negatives of 4 patients, expected 5 or more"),
        (0, 9, "positives of 0 patients, expected 5 or more"),
        (5, 5, None),
    ],
)
def test_too_few_patients_have_a_reason(positive_patients, negative_patients, reason):
    kinds = [1.0] * positive_patients + [0.0] * negative_patients
    # Two images of every patient: patients count, not images.
    labels = np.repeat(kinds, 2)[:, None]
    patients = [f"p{k}" for k in np.repeat(np.arange(len(kinds)), 2)]
    both = np.hstack([labels, np.arange(len(labels))[:, None] % 2])
    found = audit({"x": labels}, both, TWO, patients, samples=20)["x"]
    assert found["a"].reason == reason
    assert (found["a"].auroc is None, found["a"].interval is None) == (bool(reason),) * 2
    assert (found["a"].rows, found["a"].positives) == (len(labels), 2 * positive_patients)
    assert found["b"].auroc is not None


def test_folds_hold_both_kinds_though_patients_have_both():
    # Negatives of five patients alone, who have positives as well: each fold gets one of the five.
    labels = np.array([[1.0]] * 40 + [[0.0]] * 5)
    patients = [*(f"p{k:02d}" for k in range(40)), *(f"p{k:02d}" for k in (3, 11, 17, 25, 38))]
    for seed in range(20):
        assert audit({"x": labels}, labels, ONE, patients, samples=5, seed=seed)["x"]["covid"].reason is None


def test_the_models_own_auroc_is_that_of_the_bootstrap():
    rng = np.random.default_rng(5)
    patients, labels = cohort(rng, rows=80, patients=40)
    values = (rng.random((80, 1)) + labels) / 2
    found = model_aurocs(values, labels, ONE, patients, samples=100, seed=3)["covid"]
    resamples = Resamples.of(patients, samples=100, seed=3)
    figures = resampled_classification(values, labels, ONE, resamples, exclusive=False)
    assert found.interval == figures.intervals()["auroc"]
    positives, negatives = values[labels == 1], values[labels == 0]
    assert found.auroc == pytest.approx((positives[:, None] > negatives).mean())


def test_a_model_without_positives_has_a_reason():
    found = model_aurocs(np.array([[0.1], [0.2]]), np.array([[0.0], [NAN]]), ONE, ["p", "q"], samples=5)
    assert found["covid"] == LabelAuroc(1, 0, None, None, "positives of 0 patients, expected 1 or more")


def test_sources_become_a_column_for_every_text():
    found = source_features({"photometric": ["MONOCHROME2", "MONOCHROME1", ""], "bits": ["12", "12", "10"]})
    assert found.tolist() == [[0, 0, 1, 0, 1], [0, 1, 0, 0, 1], [1, 0, 0, 1, 0]]


def test_sizes_become_width_height_and_aspect():
    found = size_features([ImageSize(200, 100), None])
    assert found[0].tolist() == [200, 100, 2]
    assert np.isnan(found[1]).all()
    assert size_features([]).shape == (0, 3)


def test_misfits_are_refused():
    with pytest.raises(ValueError, match=r"labels \(3, 1\) beside lengths \[2, 3\], expected \[N, 1\] and N"):
        audit({"x": np.zeros((2, 1))}, np.zeros((3, 1)), ONE, ["p", "q", "r"])
    with pytest.raises(ValueError, match=r"expected \[N, 2\] and N"):
        audit({}, np.zeros((3, 1)), TWO, ["p", "q", "r"])
