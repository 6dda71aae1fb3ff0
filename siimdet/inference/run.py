"""Predict with a run directory: what `siimdet predict`, `submit` and the out-of-fold files share."""

from collections.abc import Sequence
from pathlib import Path
from typing import cast

import torch

from siimdet.core.types import Detections, ImageRecord, Probabilities
from siimdet.data.manifest import Dataset
from siimdet.errors import RunError
from siimdet.inference.predict import Classifies, Detector, classify, detect
from siimdet.models.weights import MODEL, load_model

Predictions = dict[str, Detections] | Probabilities


def predict_run(
    run: Path, dataset: Dataset, records: Sequence[ImageRecord], *, device: torch.device, workers: int = 0
) -> Predictions:
    """Detections by image id in stored pixels, or probabilities keyed by image id, of the run's best model.

    A data set without classes of boxes, such as a plain folder of DICOM, takes any detector.
    Raises: RunError if the run is incomplete, or a detector's classes are not the data set's.
    """
    model, spec = load_model(run)
    model.to(device)
    if spec.kind == "classifier":
        return classify(
            cast(Classifies, model),
            dataset,
            records,
            spec.classes,
            side=spec.image_size,
            resize=spec.resize,
            device=device,
            batch_size=spec.batch_size,
            workers=workers,
        )
    if dataset.classes.names and spec.classes.names != dataset.classes.names:
        raise RunError(
            run / MODEL, "classes", found=spec.classes.names, expected=f"{dataset.classes.names} of the data"
        )
    return detect(
        cast(Detector, model),
        dataset,
        records,
        side=spec.image_size,
        resize=spec.resize,
        device=device,
        batch_size=spec.batch_size,
        workers=workers,
    )


def predict_boxes(
    run: Path, dataset: Dataset, records: Sequence[ImageRecord], *, device: torch.device, workers: int = 0
) -> dict[str, Detections]:
    """predict_run of a detector. Raises: RunError for a classifier."""
    found = predict_run(run, dataset, records, device=device, workers=workers)
    if isinstance(found, Probabilities):
        raise RunError(run / MODEL, "kind", found="a classifier", expected="a detector")
    return found


def predict_classes(
    run: Path, dataset: Dataset, records: Sequence[ImageRecord], *, device: torch.device, workers: int = 0
) -> Probabilities:
    """predict_run of a classifier. Raises: RunError for a detector."""
    found = predict_run(run, dataset, records, device=device, workers=workers)
    if not isinstance(found, Probabilities):
        raise RunError(run / MODEL, "kind", found="a detector", expected="a classifier")
    return found
