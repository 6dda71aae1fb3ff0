"""Bootstrap: a resample's figures are those of the data set with its images really duplicated."""

import numpy as np
import pytest

from siimdet.core.types import BoxLabels, Detections, ImageSize, LabelSpace
from siimdet.scoring import detection_ap
from siimdet.scoring.bootstrap import Resamples, described, percentile_interval, resampled_ap
from siimdet.scoring.box_tables import box_tables
from siimdet.scoring.classification import multiclass_score, multilabel_score
from siimdet.scoring.classification_bootstrap import resampled_classification

SIZE = ImageSize(100, 100)
ONE = LabelSpace("one", ("opacity",))
ABC = LabelSpace("abc", ("a", "b", "c"))
LEFT, RIGHT = (0, 0, 10, 10), (50, 0, 60, 10)
NAN = float("nan")


def labels(boxes, class_ids=None):
    return BoxLabels(boxes, [0] * len(boxes) if class_ids is None else class_ids, SIZE)


def found(boxes, scores, class_ids=None):
    return Detections(boxes, [0] * len(boxes) if class_ids is None else class_ids, scores, SIZE)


def drawn(resamples):
    """How often each image is in every resample, i64[S, I]."""
    return np.array([counts[resamples.unit_of] for counts in resamples])


def random_images(rng, count):
    """Images with 0 to 3 true boxes and 0 to 8 found ones, which overlap often and share a few scores."""
    truth, predictions = {}, {}
    for number in range(count):
        corners = rng.integers(0, 2, (11, 2)) * 40 + rng.integers(0, 5, (11, 2))
        boxes = np.concatenate([corners, corners + rng.integers(28, 33, (11, 2))], axis=1)
        true, seen = rng.integers(0, 4), rng.integers(0, 9)
        class_ids = (rng.random(11) ** 3 * 3).astype(int)
        truth[f"i{number}"] = labels(boxes[:true], class_ids[:true])
        predictions[f"i{number}"] = found(boxes[3 : 3 + seen], rng.integers(1, 6, seen) / 8, class_ids[3 : 3 + seen])
    return truth, predictions


def copies(images, counts):
    return {f"{name} {k}": images[name] for name, count in zip(images, counts, strict=True) for k in range(count)}


@pytest.mark.parametrize("seed", range(4))
def test_ap_equals_the_score_of_duplicated_images(seed):
    truth, predictions = random_images(np.random.default_rng(seed), 18)
    patients = [*"qpqrsstpuvwxyzabcd"]
    resamples = Resamples.of(patients, samples=60, seed=seed)
    figures = resampled_ap(*box_tables(truth, predictions), ABC, resamples)
    lacking = dict.fromkeys(ABC.names, 0)
    for s, counts in enumerate(drawn(resamples)):
        score = detection_ap(copies(truth, counts), copies(predictions, counts), ABC)
        for name, expected in (score.ap | {"mAP": score.mean_ap}).items():
            value = figures.values[name][s]
            assert value == pytest.approx(NAN if expected is None else expected, abs=1e-12, nan_ok=True)
        for name in score.without_truth:
            lacking[name] += 1
    assert figures.left_out == {name: count for name, count in lacking.items() if count}
    assert len(set(figures.values["mAP"].round(12))) > 50


def test_all_drawn_once_is_the_score_itself():
    truth, predictions = random_images(np.random.default_rng(5), 40)

    class Once(Resamples):
        def __iter__(self):
            yield np.ones(self.units, np.int64)

    figures = resampled_ap(*box_tables(truth, predictions), ABC, Once.of(list(truth), samples=1, seed=0))
    score = detection_ap(truth, predictions, ABC)
    expected = [*score.ap.values(), score.mean_ap]
    assert [values[0] for values in figures.values.values()] == pytest.approx(expected, abs=1e-14)


def test_two_patients_by_hand():
    truth = {"a": labels([LEFT]), "b": labels([LEFT])}
    predictions = {"a": found([LEFT], [0.5]), "b": found([RIGHT], [0.9])}
    resamples = Resamples.of(["a", "b"], samples=400, seed=0)
    values = resampled_ap(*box_tables(truth, predictions), ONE, resamples).values["opacity"]
    # a twice: both hit; each once: the miss comes first, half of the truths at precision 1 / 2; b twice: none.
    of = {2: 1.0, 1: 0.25, 0: 0.0}
    assert values.tolist() == [of[counts[0]] for counts in drawn(resamples)]
    assert sorted({*values.tolist()}) == [0.0, 0.25, 1.0]


def test_a_class_without_truth_in_a_resample_is_left_out_and_counted():
    truth = {"a": labels([LEFT]), "b": labels([LEFT], [1])}
    predictions = {"a": found([LEFT], [0.9]), "b": found([RIGHT], [0.9], [1])}
    resamples = Resamples.of(["a", "b"], samples=200, seed=0)
    figures = resampled_ap(*box_tables(truth, predictions), ABC, resamples)
    times = drawn(resamples)[:, 0]
    assert figures.left_out == {"a": (times == 0).sum(), "b": (times == 2).sum(), "c": 200}
    assert figures.values["mAP"].tolist() == [{2: 1.0, 1: 0.5, 0: 0.0}[count] for count in times]
    said = described(figures, resamples, unit="patient")
    assert said["intervals"] == {"a": [1.0, 1.0], "b": [0.0, 0.0], "c": None, "mAP": [0.0, 1.0]}
    about = {"samples": 200, "unit": "patient", "units": 2, "level": 0.95}
    assert said["bootstrap"] == {**about, "left_out": figures.left_out}


def test_nothing_true_has_no_interval():
    truth = {"a": labels([]), "b": labels([])}
    figures = resampled_ap(*box_tables(truth, {}), ONE, Resamples.of(["a", "b"], samples=5, seed=0))
    assert figures.intervals() == {"opacity": None, "mAP": None}


def test_draws_depend_on_the_patients_not_on_the_order_of_images():
    one = Resamples.of(["x", "y", "y", "z"], samples=20, seed=3)
    other = Resamples.of(["z", "y", "x", "y", "x"], samples=20, seed=3)
    assert one.units == 3
    assert [counts.sum() for counts in one] == [3] * 20
    np.testing.assert_array_equal(list(one), list(other))
    np.testing.assert_array_equal(list(one), list(one))
    assert not np.array_equal(list(one), list(Resamples.of(["x", "y", "z"], samples=20, seed=4)))


def test_percentile_interval():
    values = np.random.default_rng(0).permutation(np.arange(101.0))
    assert percentile_interval(values) == pytest.approx([2.5, 97.5])
    assert percentile_interval([NAN, 1.0, NAN]) == [1.0, 1.0]
    assert percentile_interval([NAN]) is None


@pytest.mark.parametrize(
    ("exclusive", "decided"), [(True, False), (True, True), (False, False)], ids=["classes", "decisions", "labels"]
)
def test_a_classifiers_figures_equal_those_of_duplicated_rows(exclusive, decided):
    rng = np.random.default_rng(1)
    values = rng.integers(0, 5, (14, 3)) / 4
    truth = np.eye(3)[(rng.random(14) ** 2 * 3).astype(int)] if exclusive else (rng.random((14, 3)) < 0.3) * 1.0
    truth[rng.random((14, 3)) < 0.1] = NAN
    decisions = rng.integers(0, 3, 14) if decided else None
    resamples = Resamples.of([f"p{n // 2}" for n in range(14)], samples=80, seed=2)
    figures = resampled_classification(values, truth, ABC, resamples, exclusive=exclusive, decisions=decisions)
    lacking = dict.fromkeys(ABC.names, 0)
    for s, counts in enumerate(drawn(resamples)):
        rows = np.arange(14).repeat(counts)
        if exclusive:
            chosen = None if decisions is None else decisions[rows]
            score = multiclass_score(values[rows], truth[rows], ABC, decisions=chosen)
        else:
            score = multilabel_score(values[rows], truth[rows], ABC)
        expected = {"accuracy": score.accuracy, "f1": score.macro("f1"), "auroc": score.macro("auroc")}
        for name, figure in expected.items():
            value = figures.values[name][s]
            assert value == pytest.approx(NAN if figure is None else figure, abs=1e-12, nan_ok=True)
        for name, mine in score.classes.items():
            lacking[name] += mine.auroc is None
    assert figures.left_out == {name: count for name, count in lacking.items() if count}


def test_interval_of_accuracy_is_the_binomial_one_and_twice_as_wide_for_four_images_a_patient():
    right = np.arange(100) < 80
    values = np.where(right, 0.75, 0.25)[:, None] * [1, 0] + [0, 0.5]
    truth = np.tile([1.0, 0.0], (100, 1))
    space = LabelSpace("two", ("x", "y"))

    def width(owners):
        resamples = Resamples.of(owners, samples=2000, seed=0)
        low, high = resampled_classification(values, truth, space, resamples, exclusive=True).intervals()["accuracy"]
        return high - low

    one_each, four_each = width([f"{n}" for n in range(100)]), width([f"{n // 4}" for n in range(100)])
    assert one_each == pytest.approx(2 * 1.96 * np.sqrt(0.8 * 0.2 / 100), abs=0.02)
    assert four_each == pytest.approx(2 * one_each, abs=0.04)
