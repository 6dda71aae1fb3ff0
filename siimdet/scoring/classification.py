"""Figures of a classifier: accuracy, precision, recall, specificity, F1, AUROC, AP, calibration error, log loss.

Shapes: N rows (images or studies), K classes. `probabilities` f[N, K] in [0, 1]; `truth` f[N, K]
holds 1, 0 or NaN for unknown, and unknown entries count nowhere.

A class without a known positive has no precision, recall, F1, AUROC or AP: they are None and stay
out of the macro means; without a known negative it has no specificity and no AUROC. A class with
positives of which none is predicted has precision 0, which is scikit-learn's value too: leaving it
out would reward a model for never naming a class. AUROC is scikit-learn's; AP is the competition's
(siimdet.scoring.voc), with one score for one row.

`ece` is the expected calibration error of a class (siimdet.scoring.reliability), the lower the better; any known row
defines it. Its mean over the classes is the classwise error of Kull et al., NeurIPS 2019.
"""

import difflib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.metrics import roc_auc_score

from siimdet.core.types import LabelSpace
from siimdet.errors import ConfigError
from siimdet.scoring.reliability import reliability
from siimdet.scoring.voc import class_curve

_LEAST = 1e-7
"""A probability of 0 counts as this in the log loss, which would be infinite."""
_MEANS = ("precision", "recall", "specificity", "f1", "auroc", "ap", "ece")


@dataclass(frozen=True, slots=True)
class ClassFigures:
    """One class against the rest, over the rows where it is known."""

    positives: int
    negatives: int
    false_positives: int
    false_negatives: int
    accuracy: float | None
    precision: float | None
    recall: float | None
    specificity: float | None
    f1: float | None
    auroc: float | None
    ap: float | None
    ece: float | None


@dataclass(frozen=True, slots=True, eq=False)
class ClassificationScore:
    """All classes and their macro means; None where nothing defines a figure.

    Shapes: confusion i64[K, K], a row per true class and a column per predicted one; None for
    multi-label, where a row has no single class.
    """

    accuracy: float | None
    classes: dict[str, ClassFigures]
    confusion: NDArray[np.int64] | None = None

    def macro(self, figure: str) -> float | None:
        """Mean of a ClassFigures field over the classes that have it."""
        known = [getattr(c, figure) for c in self.classes.values() if getattr(c, figure) is not None]
        return sum(known) / len(known) if known else None

    def as_dict(self) -> dict[str, object]:
        """Plain values for metrics.jsonl: accuracy, macro means, then each class and the confusion matrix."""
        means = {figure: self.macro(figure) for figure in _MEANS}
        classes = {name: asdict(figures) for name, figures in self.classes.items()}
        confusion = None if self.confusion is None else self.confusion.tolist()
        return {"accuracy": self.accuracy, **means, "classes": classes, "confusion": confusion}


def multilabel_score(
    probabilities: ArrayLike, truth: ArrayLike, classes: LabelSpace, *, threshold: float = 0.5
) -> ClassificationScore:
    """Score independent labels; a label is predicted where its probability is >= threshold.

    `accuracy` is the share of rows whose every known label is right (subset accuracy), over the rows
    with a known label.
    Raises: ValueError for shapes or values that do not fit.
    """
    values, truth = _check(probabilities, truth, classes)
    predicted = values >= threshold
    known = ~np.isnan(truth)
    right = (predicted == (truth == 1)) | ~known
    accuracy = _mean(right.all(1)[known.any(1)])
    return ClassificationScore(accuracy, _per_class(values, predicted, truth, classes.names))


def multiclass_score(
    probabilities: ArrayLike, truth: ArrayLike, classes: LabelSpace, *, decisions: ArrayLike | None = None
) -> ClassificationScore:
    """Score exclusive classes; the most probable one is predicted, the first on ties.

    Shapes: decisions i64[N], class ids that were decided on in another way, such as by a threshold.
    A row with an unknown entry counts nowhere.
    Raises: ValueError for shapes or values that do not fit, and unless exactly one class holds.
    """
    values, truth = _check(probabilities, truth, classes)
    predicted_ids = values.argmax(1) if decisions is None else np.asarray(decisions, np.int64)
    known = ~np.isnan(truth).any(1)
    values, truth, chosen = values[known], truth[known], predicted_ids[known]
    if not (truth.sum(1) == 1).all():
        raise ValueError(f"{int((truth.sum(1) != 1).sum())} rows without exactly one true class, expected one each")
    actual = truth.argmax(1)
    predicted = chosen[:, None] == np.arange(len(classes))
    confusion = np.zeros((len(classes), len(classes)), np.int64)
    np.add.at(confusion, (actual, chosen), 1)
    return ClassificationScore(_mean(actual == chosen), _per_class(values, predicted, truth, classes.names), confusion)


def log_loss(probabilities: ArrayLike, truth: ArrayLike, *, exclusive: bool) -> float | None:
    """Mean of -log P(truth): over rows for exclusive classes, else over known entries; None if none is known.

    Shapes: as the module's. Of exclusive classes a row with an unknown entry counts nowhere.
    """
    values, labels = np.asarray(probabilities, np.float64), np.asarray(truth, np.float64)
    if exclusive:
        rows = ~np.isnan(labels).any(1)
        chosen = values[rows][labels[rows] == 1]
    else:
        chosen = np.where(labels == 1, values, 1 - values)[~np.isnan(labels)]
    return float(-np.log(chosen.clip(_LEAST)).mean()) if len(chosen) else None


def figure_at(figures: Mapping[str, Any], path: str) -> float | None:
    """The figure at a dotted path such as `auroc` or `classes.COVID.false_negatives`; None where nothing defines it.

    Keys may hold dots themselves: the longest that fits is tried first.
    Raises: ConfigError, of the config's best.figure, for a path to no figure.
    """
    for found, value in _leaves(figures, ""):
        if found == path:
            return value
    known = [found for found, _ in _leaves(figures, "")]
    near = difflib.get_close_matches(path, known, n=5, cutoff=0.5) or known[:12]
    raise ConfigError("config", "best.figure", found=repr(path), expected=f"a figure such as {', '.join(near)}")


def _leaves(figures: Mapping[str, Any], prefix: str) -> Iterator[tuple[str, float | None]]:
    """Paths and values of all figures; longer keys come first, so that of equal paths theirs is found."""
    for key in sorted(figures, key=len, reverse=True):
        value = figures[key]
        if isinstance(value, Mapping):
            yield from _leaves(value, f"{prefix}{key}.")
        elif value is None or isinstance(value, int | float):
            yield f"{prefix}{key}", value


def _per_class(
    values: NDArray[np.float64], predicted: NDArray[np.bool_], truth: NDArray[np.float64], names: Sequence[str]
) -> dict[str, ClassFigures]:
    figures = {}
    for k, name in enumerate(names):
        known = ~np.isnan(truth[:, k])
        figures[name] = _one_class(name, values[known, k], predicted[known, k], truth[known, k] == 1)
    return figures


def _one_class(
    name: str, values: NDArray[np.float64], predicted: NDArray[np.bool_], actual: NDArray[np.bool_]
) -> ClassFigures:
    positives = int(actual.sum())
    negatives = len(actual) - positives
    hits, named = int((predicted & actual).sum()), int(predicted.sum())
    reliable = reliability(values, actual)
    shared = {
        "positives": positives,
        "negatives": negatives,
        "false_positives": named - hits,
        "false_negatives": positives - hits,
        "accuracy": _mean(predicted == actual),
        "specificity": (negatives - (named - hits)) / negatives if negatives else None,
        "ece": None if reliable is None else reliable.ece,
    }
    if not positives:
        return ClassFigures(**shared, precision=None, recall=None, f1=None, auroc=None, ap=None)
    return ClassFigures(
        **shared,
        precision=hits / named if named else 0.0,
        recall=hits / positives,
        f1=2 * hits / (named + positives),
        auroc=float(roc_auc_score(actual, values)) if negatives else None,
        ap=class_curve(name, values, actual, positives).ap,
    )


def _check(
    probabilities: ArrayLike, truth: ArrayLike, classes: LabelSpace
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    values, labels = np.asarray(probabilities, np.float64), np.asarray(truth, np.float64)
    if values.ndim != 2 or values.shape != labels.shape or values.shape[1] != len(classes):
        raise ValueError(
            f"probabilities {values.shape} and truth {labels.shape}, expected [N, {len(classes)}] for {classes.name}"
        )
    if not ((values >= 0) & (values <= 1)).all():
        raise ValueError("probability NaN or outside [0, 1]")
    if not (np.isnan(labels) | (labels == 0) | (labels == 1)).all():
        raise ValueError("label other than 1, 0 or NaN for unknown")
    return values, labels


def _mean(right: NDArray[np.bool_]) -> float | None:
    return float(right.mean()) if len(right) else None
