"""The shortcut audit: how well something that is no disease tells the label by itself.

A site that sends its sickest patients has other machines, another image size, other marks in the border. A model may
learn those. Where they tell a label nearly as well as the model does, its AUROC cannot show that it saw the disease.
Source: DeGrave et al., AI for radiographic COVID-19 detection selects shortcuts over signal, Nature Machine
Intelligence 3, 2021; Zech et al., PLoS Medicine 15, 2018.

The predictor is scikit-learn's boosting of small trees on histograms, not a logistic regression: a width may matter
where it is exactly 1024, or together with a height, and an unknown value is a branch of its own. Its scores come from
folds in which no patient is in both parts. Each is a log odds less that of the label in the rows that were learned
from, so that what tells nothing scores the same in every fold.

Shapes: N rows (images, studies or patients), K labels.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from sklearn.ensemble import HistGradientBoostingClassifier
from threadpoolctl import threadpool_limits

from siimdet.core.types import ImageSize, LabelSpace
from siimdet.scoring.bootstrap import Resamples, percentile_interval
from siimdet.scoring.classification_bootstrap import resampled_auroc
from siimdet.scoring.curves import roc_curve

_TREES = {"max_iter": 50, "max_leaf_nodes": 8, "early_stopping": False}


@dataclass(frozen=True, slots=True)
class LabelAuroc:
    """How well scores tell one label over the `rows` where it is known.

    `interval` is [low, high] over resamples of the patients. AUROC and interval are None where `reason` says why.
    """

    rows: int
    positives: int
    auroc: float | None = None
    interval: list[float] | None = None
    reason: str | None = None


def audit(
    features: Mapping[str, NDArray[np.float64]],
    labels: NDArray[np.float64],
    space: LabelSpace,
    patients: Sequence[str],
    *,
    folds: int = 5,
    seed: int = 0,
    samples: int = 1000,
) -> dict[str, dict[str, LabelAuroc]]:
    """Out-of-fold AUROC of each set of features alone, by its name and by label.

    Shapes: features f64[N, D] by name, NaN where unknown; labels f64[N, K] of 1, 0 or NaN for unknown, which counts
    nowhere; patients N names. A label with positives, or with negatives, of fewer patients than folds has no AUROC.
    The intervals are of the patients who are scored, not of other folds and trees: of pure noise about four in five
    hold .5, not nineteen in twenty.
    Raises: ValueError for columns of different lengths.
    """
    lengths = {len(labels), len(patients), *map(len, features.values())}
    if len(lengths) > 1 or labels.shape[1:] != (len(space),):
        raise ValueError(f"labels {labels.shape} beside lengths {sorted(lengths)}, expected [N, {len(space)}] and N")
    resamples = Resamples.of(patients, samples=samples, seed=seed)
    reasons = [_too_few(column, resamples.unit_of, folds) for column in labels.T]
    told = np.where([reason is None for reason in reasons], labels, np.nan)
    fold_of = [_folds(column, resamples.unit_of, folds, seed) for column in told.T]
    found = {}
    # Sums of several threads differ in their last digits from run to run, and so little work is slower in many.
    with threadpool_limits(1, user_api="openmp"):
        for name, columns in features.items():
            scores = [_out_of_fold(columns, *each, seed) for each in zip(told.T, fold_of, strict=True)]
            aurocs = _aurocs(np.reshape(scores, (len(space), -1)).T, told, resamples)
            found[name] = _by_label(aurocs, labels, space, reasons)
    return found


def model_aurocs(
    probabilities: NDArray[np.float64],
    labels: NDArray[np.float64],
    space: LabelSpace,
    patients: Sequence[str],
    *,
    seed: int = 0,
    samples: int = 1000,
) -> dict[str, LabelAuroc]:
    """AUROC of a model's own probabilities f64[N, K] by label, to set beside those of `audit`: the same resamples."""
    resamples = Resamples.of(patients, samples=samples, seed=seed)
    reasons = [_too_few(column, resamples.unit_of, 1) for column in labels.T]
    return _by_label(_aurocs(probabilities, labels, resamples), labels, space, reasons)


def source_features(columns: Mapping[str, Sequence[str]]) -> NDArray[np.float64]:
    """A column of 0 and 1 for every different text, the empty one too, of every column of N texts, f64[N, D]."""
    parts = [np.array(texts, dtype=object)[:, None] == sorted(set(texts)) for texts in columns.values()]
    return np.concatenate(parts, axis=1).astype(np.float64)


def size_features(sizes: Sequence[ImageSize | None]) -> NDArray[np.float64]:
    """Width, height and width / height, f64[N, 3]; NaN where the size is unknown."""
    unknown = (np.nan,) * 3
    rows = [unknown if size is None else (size.width, size.height, size.width / size.height) for size in sizes]
    return np.array(rows, np.float64).reshape(-1, 3)


def _too_few(labels: NDArray[np.float64], patient_of: NDArray[np.int64], folds: int) -> str | None:
    """Why a label cannot be told in so many folds, None where it can."""
    for kind, value in (("positives", 1), ("negatives", 0)):
        patients = len(np.unique(patient_of[labels == value]))
        if patients < folds:
            return f"{kind} of {patients} patients, expected {folds} or more"
    return None


def _folds(labels: NDArray[np.float64], patient_of: NDArray[np.int64], folds: int, seed: int) -> NDArray[np.int64]:
    """The fold of every row, i64[N]: whole patients, drawn; each fold gets its share of those with positives."""
    kinds = np.zeros((1 + patient_of.max(initial=-1), 2), np.bool_)
    for kind in (0, 1):
        kinds[patient_of[labels == kind], kind] = True
    patients = np.random.default_rng(seed).permutation(len(kinds))
    # With positives alone, with both, with negatives alone, dealt out in turn: every fold gets some of either kind.
    known = patients[kinds[patients].any(axis=1)]
    dealt = known[np.argsort(kinds[known, 0].astype(int) - kinds[known, 1], kind="stable")]
    fold_of = np.zeros(len(kinds), np.int64)
    fold_of[dealt] = np.arange(len(dealt)) % folds
    return fold_of[patient_of]


def _out_of_fold(
    features: NDArray[np.float64], labels: NDArray[np.float64], fold_of: NDArray[np.int64], seed: int
) -> NDArray[np.float64]:
    """Scores f64[N] of known rows by trees that saw none of their fold; 0 for the others."""
    scores, known = np.zeros(len(labels)), ~np.isnan(labels)
    for fold in np.unique(fold_of[known]):
        learned, held = known & (fold_of != fold), known & (fold_of == fold)
        # scikit-learn refuses a column of which it sees no value.
        usable = np.where(np.isnan(features[learned]).all(axis=0), 0.0, features)
        trees = HistGradientBoostingClassifier(**_TREES, random_state=seed).fit(usable[learned], labels[learned])
        share = labels[learned].mean()
        scores[held] = trees.decision_function(usable[held]) - np.log(share / (1 - share))
    return scores


def _aurocs(
    scores: NDArray[np.float64], labels: NDArray[np.float64], resamples: Resamples
) -> list[tuple[float | None, list[float] | None]]:
    """AUROC and its interval of every label, None without positives or without negatives."""
    draws = resampled_auroc(scores, labels, resamples).T
    curves = [roc_curve(*each) for each in zip(scores.T, labels.T, strict=True)]
    return [
        (None, None) if curve is None else (curve.area, percentile_interval(values))
        for curve, values in zip(curves, draws, strict=True)
    ]


def _by_label(
    aurocs: Sequence[tuple[float | None, list[float] | None]],
    labels: NDArray[np.float64],
    space: LabelSpace,
    reasons: Sequence[str | None],
) -> dict[str, LabelAuroc]:
    rows, positives = (~np.isnan(labels)).sum(axis=0).tolist(), (labels == 1).sum(axis=0).tolist()
    columns = zip(space.names, rows, positives, aurocs, reasons, strict=True)
    return {name: LabelAuroc(count, hits, *auroc, reason) for name, count, hits, auroc, reason in columns}
