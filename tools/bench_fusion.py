"""Weighted box fusion of 5 models x 100 boxes x 1,000 images, against ensemble_boxes image by image."""

from collections.abc import Sequence

import ensemble_boxes
import numpy as np
from numpy.typing import NDArray
from pairs import compare

from siimdet.core.types import Detections, ImageSize
from siimdet.inference.fusion import fuse

IMAGES, MODELS, BOXES, SIDE = 1000, 5, 100, 1024
WEIGHTS = (1.0, 2.0, 0.5, 1.5, 1.0)
Models = list[dict[str, Detections]]


def scattered(rng: np.random.Generator) -> Models:
    """Boxes anywhere: most stay alone, and each is compared with many."""
    corners = rng.uniform(0, 800, (MODELS, IMAGES, BOXES, 2))
    return _models(corners, corners + rng.uniform(60, 200, corners.shape), rng.uniform(0.01, 1, corners.shape[:3]))


def agreeing(rng: np.random.Generator) -> Models:
    """About the same boxes from every model, with scores of two decimals, so that many are equal."""
    corners = rng.uniform(0, 800, (IMAGES, BOXES, 2)) + rng.normal(0, 8, (MODELS, IMAGES, BOXES, 2))
    ends = corners + rng.uniform(60, 200, (IMAGES, BOXES, 2))
    return _models(corners, ends, rng.uniform(0.01, 1, corners.shape[:3]).round(2))


def _models(starts: NDArray[np.float64], ends: NDArray[np.float64], scores: NDArray[np.float64]) -> Models:
    xyxy = np.clip(np.concatenate([starts, ends], axis=-1), 0, SIDE).astype(np.float32)
    size, one_class = ImageSize(SIDE, SIDE), np.zeros(BOXES, np.int64)
    return [
        {f"{i:04}": Detections(xyxy[m, i], one_class, scores[m, i].astype(np.float32), size) for i in range(IMAGES)}
        for m in range(MODELS)
    ]


def _same(theirs: Sequence[tuple[NDArray, NDArray, NDArray]], ours: dict[str, Detections]) -> bool:
    """Whether all boxes, scores and their order are the same, in the pixels and float32 of Detections.

    Several boxes of a model with a high weight can become one of a score above 1, which Detections have as 1.
    """
    return all(
        np.array_equal((boxes * SIDE).astype(np.float32), found.xyxy)
        and np.array_equal(np.minimum(scores, 1).astype(np.float32), found.scores)
        for (boxes, scores, _), found in zip(theirs, ours.values(), strict=True)
    )


def row(name: str, models: Models, weights: Sequence[float] | None) -> None:
    """Print a row; the library gets its shares of the image ready-made."""
    given = [
        ([m.xyxy / np.float64(SIDE) for m in found], [m.scores for m in found], [m.class_ids for m in found])
        for found in zip(*(model.values() for model in models), strict=True)
    ]
    compare(
        f"WBF 5 x 100 x 1,000, {name}",
        "ensemble_boxes",
        lambda: [ensemble_boxes.weighted_boxes_fusion(*image, weights=weights) for image in given],
        lambda: fuse(models, weights=weights),
        equal=_same,
        pairs=5,
    )


def main() -> None:
    """Print the rows."""
    row("scattered boxes", scattered(np.random.default_rng(0)), None)
    row("agreeing boxes, weights", agreeing(np.random.default_rng(0)), WEIGHTS)


if __name__ == "__main__":
    main()
