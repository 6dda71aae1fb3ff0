"""Figures of a classifier for the training journal: accuracy, precision, recall, F1, AUROC, AP.

Shapes: N rows (images or studies), K classes. `probabilities` f[N, K] in [0, 1]; `truth` f[N, K]
holds 1, 0 or NaN for unknown, and unknown entries count nowhere.

A class without a known positive has no precision, recall, F1, AUROC or AP: they are None and stay
out of the macro means. A class with positives of which none is predicted has precision 0, which is
scikit-learn's value too: leaving it out would reward a model for never naming a class. AUROC is
scikit-learn's; AP is the competition's (siimdet.scoring.voc), with one score for one row.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.metrics import roc_auc_score

from siimdet.core.types import LabelSpace
from siimdet.scoring.voc import class_curve


@dataclass(frozen=True, slots=True)
class ClassFigures:
    """One class against the rest, over the rows where it is known."""

    positives: int
    negatives: int
    accuracy: float | None
    precision: float | None
    recall: float | None
    f1: float | None
    auroc: float | None
    ap: float | None


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
        means = {figure: self.macro(figure) for figure in ("precision", "recall", "f1", "auroc", "ap")}
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


def multiclass_score(probabilities: ArrayLike, truth: ArrayLike, classes: LabelSpace) -> ClassificationScore:
    """Score exclusive classes; the most probable one is predicted, the first on ties.

    A row with an unknown entry counts nowhere.
    Raises: ValueError for shapes or values that do not fit, and unless exactly one class holds.
    """
    values, truth = _check(probabilities, truth, classes)
    known = ~np.isnan(truth).any(1)
    values, truth = values[known], truth[known]
    if not (truth.sum(1) == 1).all():
        raise ValueError(f"{int((truth.sum(1) != 1).sum())} rows without exactly one true class, expected one each")
    actual, chosen = truth.argmax(1), values.argmax(1)
    predicted = chosen[:, None] == np.arange(len(classes))
    confusion = np.zeros((len(classes), len(classes)), np.int64)
    np.add.at(confusion, (actual, chosen), 1)
    return ClassificationScore(_mean(actual == chosen), _per_class(values, predicted, truth, classes.names), confusion)


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
    accuracy = _mean(predicted == actual)
    if not positives:
        return ClassFigures(0, negatives, accuracy, None, None, None, None, None)
    hits, named = int((predicted & actual).sum()), int(predicted.sum())
    return ClassFigures(
        positives=positives,
        negatives=negatives,
        accuracy=accuracy,
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
