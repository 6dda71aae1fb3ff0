"""From images to studies."""

from collections.abc import Sequence
from typing import Literal

import numpy as np

from siimdet.core.types import ImageRecord, Probabilities

Rule = Literal["mean", "max"]


def study_probabilities(images: Probabilities, records: Sequence[ImageRecord], rule: Rule) -> Probabilities:
    """Probabilities per study: the mean or maximum over its images, scaled to sum 1.

    Shapes: images f32[N, K] keyed by image id, to f32[M, K] keyed by study id, sorted.
    """
    study_of = {record.image_id: record.study_id for record in records}
    rows: dict[str, list[np.ndarray]] = {}
    for image_id, values in zip(images.keys, images.values, strict=True):
        rows.setdefault(study_of[image_id], []).append(values)
    combine = np.mean if rule == "mean" else np.max
    keys = tuple(sorted(rows))
    values = np.array([combine(rows[key], axis=0) for key in keys]).reshape(-1, len(images.space))
    total = values.sum(axis=1, keepdims=True)
    return Probabilities(keys, np.divide(values, total, out=np.zeros_like(values), where=total > 0), images.space)
