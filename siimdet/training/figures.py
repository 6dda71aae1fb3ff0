"""The figures of a classifier on its validation images, for the journal and for the choice of an epoch."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

import numpy as np
from numpy.typing import NDArray

from siimdet.config import Best, Patients, Task
from siimdet.core.labels import OPACITY
from siimdet.core.types import ImageRecord, LabelSpace, Probabilities
from siimdet.errors import DatasetError
from siimdet.inference.aggregate import choose_threshold, decide, patient_scores, patient_truth
from siimdet.inference.predict import ClassPredictions
from siimdet.scoring.classification import figure_at, log_loss, multiclass_score, multilabel_score
from siimdet.scoring.pairs import pair_auroc, some_rows


def class_figures(
    found: ClassPredictions,
    records: Sequence[ImageRecord],
    boxed: NDArray[np.bool_],
    task: Task,
    patients: Patients | None,
) -> dict[str, Any]:
    """val_loss and the score of the classes; `opacity` of a model that tells it, `patients` where asked for.

    Shapes: boxed bool[N], whether each of the records has a box.
    """
    truth, space = np.array([record.labels for record in records]), found.classes.space
    exclusive = task.name != "multilabel"
    score = multiclass_score if exclusive else multilabel_score
    figures: dict[str, Any] = {
        "val_loss": log_loss(found.classes.values, truth, exclusive=exclusive),
        **score(found.classes.values, truth, space).as_dict(),
    }
    if found.opacity is not None:
        truth_of_boxes = boxed.astype(np.float32)[:, None]
        told = multilabel_score(found.opacity.values, truth_of_boxes, found.opacity.space)
        figures["opacity"] = asdict(told.classes["opacity"])
    if patients is not None:
        figures["patients"] = _patient_figures(found.classes, records, patients)
    return figures


def embedding_figures(embeddings: NDArray[np.float32], class_ids: NDArray[np.int64], task: Task) -> dict[str, Any]:
    """val_loss, the triplet loss over random triplets, and pair_auroc.

    Shapes: embeddings f32[N, D] of norm 1, class_ids i64[N].
    """
    return {
        "val_loss": _triplet_loss(embeddings, class_ids, task.margin),
        "pair_auroc": pair_auroc(embeddings, class_ids),
    }


def check_best(
    best: Best,
    records: Sequence[ImageRecord],
    space: LabelSpace,
    task: Task,
    patients: Patients | None,
    boxed: NDArray[np.bool_] | None = None,
) -> None:
    """Refuse, before any training, a figure that there is not, or that the validation images cannot define.

    Shapes: boxed bool[N], whether each of the records has a box, for a model that tells it.
    Raises: ConfigError for an unknown figure; DatasetError if even perfect predictions leave it without a value.
    """
    truth = np.array([record.labels for record in records], np.float32).reshape(-1, len(space))
    if task.name == "triplet":
        figures = embedding_figures(truth, truth.argmax(1), task)
    else:
        keys = tuple(record.image_id for record in records)
        perfect = Probabilities(keys, np.nan_to_num(truth), space)
        opacity = None if boxed is None else Probabilities(keys, boxed.astype(np.float32)[:, None], OPACITY)
        everywhere = np.zeros(len(records), bool) if boxed is None else boxed
        figures = class_figures(ClassPredictions(perfect, opacity), records, everywhere, task, patients)
    figures["train_loss"] = 0.0
    if figure_at(figures, best.figure) is None:
        present = [name for name, count in zip(space.names, (truth == 1).sum(0), strict=True) if count]
        found = f"{len(records)} images of {', '.join(present) or 'no class'}"
        raise DatasetError("validation", best.figure, found=found, expected="images that define it: of two classes")


def ranked(best: Best, figures: Mapping[str, Any]) -> float | None:
    """The figure that decides which epoch is kept, so that higher is better."""
    value = figure_at(figures, best.figure)
    return value if value is None or best.highest else -value


def _patient_figures(slices: Probabilities, records: Sequence[ImageRecord], patients: Patients) -> dict[str, Any]:
    """The score over patients, decided by the threshold that suits these very patients best."""
    scores = patient_scores(slices, records, rule=patients.rule, slice_threshold=patients.slice_threshold, k=patients.k)
    labels = patient_truth(records)
    truth = np.array([labels[key] for key in scores.keys])
    threshold = choose_threshold(scores.values[:, -1], truth[:, -1] == 1) if len(scores.space) == 2 else None
    score = multiclass_score(scores.values, truth, scores.space, decisions=decide(scores, threshold))
    return {"threshold": threshold, "count": len(truth), **score.as_dict()}


def _triplet_loss(embeddings: NDArray[np.float32], class_ids: NDArray[np.int64], margin: float) -> float | None:
    chosen = some_rows(len(class_ids))
    embeddings, class_ids = embeddings[chosen], class_ids[chosen]
    members = {own: np.flatnonzero(class_ids == own) for own in np.unique(class_ids).tolist()}
    strangers = {own: np.flatnonzero(class_ids != own) for own in members}
    rng, losses = np.random.default_rng(0), []
    for row, own in enumerate(class_ids.tolist()):
        same, others = members[own][members[own] != row], strangers[own]
        if len(same) and len(others):
            near, far = (
                float(np.linalg.norm(embeddings[row] - embeddings[rng.choice(rows)])) for rows in (same, others)
            )
            losses.append(max(0.0, near - far + margin))
    return float(np.mean(losses)) if losses else None
