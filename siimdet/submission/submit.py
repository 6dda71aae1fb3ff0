"""`submit` with runs: predict, then assemble; the predictions can be kept, for another coupling."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from siimdet.config import Coupling
from siimdet.core.labels import OPACITY, STUDY
from siimdet.core.types import ImageRecord
from siimdet.data.coco import write_detections
from siimdet.data.dataset import Dataset
from siimdet.data.table import write_table
from siimdet.errors import DatasetError, RunError
from siimdet.inference.predict import ClassPredictions
from siimdet.inference.run import predict_boxes, predict_classes
from siimdet.inference.tta import PLAIN, Versions
from siimdet.models.weights import MODEL, read_spec
from siimdet.submission.assemble import Predictions, assemble, check_distinct
from siimdet.submission.sample import sampled_records
from siimdet.submission.table import Submission


def submit(
    dataset: Dataset,
    records: Sequence[ImageRecord],
    *,
    detectors: Sequence[Path],
    study: Path,
    coupling: Coupling,
    file: str,
    device: torch.device,
    workers: int = 0,
    sample: Submission | None = None,
    versions: Versions = PLAIN,
    blank_share: float | None = None,
) -> Predictions:
    """Predict with every run, fuse the boxes, couple them with the study level.

    The images of `sample` take the place of `records`, and the rows come in its order; `versions` are what the
    detectors see of each image.
    With `blank_share` every run, the study run too, sees the images as `blank_border` leaves them.
    Raises: RunError for runs of other classes than the competition's, FusionError for a detector given twice; as
    sampled_records.
    """
    check_distinct(detectors)
    _check_classes(detectors, OPACITY.names)
    _check_classes([study], STUDY.names)
    if sample is not None:
        records = sampled_records(dataset, sample)
    if not records:
        raise DatasetError(dataset.root, "images", found="none in that split", expected="images to predict")
    inputs: dict[str, Any] = {"device": device, "workers": workers, "blank_share": blank_share}
    boxes = {str(run): predict_boxes(run, dataset, records, versions=versions, **inputs) for run in detectors}
    images = predict_classes(study, dataset, records, **inputs)
    ids = None if sample is None else sample.ids
    return assemble(records, boxes, images.classes, coupling, file=file, opacity=images.opacity, ids=ids)


def keep_predictions(folder: Path, dataset: Dataset, made: Predictions) -> None:
    """Write boxes-1.json, boxes-2.json ... in the detectors' order, and study.csv: what assemble_files reads."""
    for number, boxes in enumerate(made.boxes.values(), start=1):
        write_detections(folder / f"boxes-{number}.json", dataset, boxes)
    write_table(folder / "study.csv", *ClassPredictions(made.classes, made.opacity).table())


def _check_classes(runs: Sequence[Path], names: tuple[str, ...]) -> None:
    for run in runs:
        found = read_spec(run).classes.names
        if found != names:
            raise RunError(run / MODEL, "classes", found=", ".join(found), expected=", ".join(names))
