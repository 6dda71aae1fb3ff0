"""Predict with a run directory: what `siimdet predict`, `submit` and the out-of-fold files share."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, cast

import torch
from torch import nn

from siimdet.core.types import Detections, ImageRecord, Split
from siimdet.data.coco import write_detections
from siimdet.data.dataset import filled_split, scored_split, training_split
from siimdet.data.manifest import Dataset
from siimdet.data.table import write_table
from siimdet.errors import RunError
from siimdet.inference.aggregate import patient_table
from siimdet.inference.predict import ClassPredictions, Detector, classify
from siimdet.inference.tta import PLAIN, Versions, detect_versions
from siimdet.models.image_classifier import ImageClassifier
from siimdet.models.weights import MODEL, ModelSpec, load_model, read_card

Predictions = dict[str, Detections] | ClassPredictions


def predict_run(
    run: Path,
    dataset: Dataset,
    records: Sequence[ImageRecord],
    *,
    device: torch.device,
    workers: int = 0,
    versions: Versions = PLAIN,
    blank_share: float | None = None,
) -> Predictions:
    """Detections by image id in stored pixels, or what a classifier says of each image, by the run's best model.

    `versions` are what a detector sees of each image; a classifier can see the mirror image too, which it does
    anyway where its run says so (`flip_tta`). With `blank_share` either sees every image as `blank_border` leaves it.
    A data set without classes of boxes, such as a plain folder of DICOM, takes any detector.
    Raises: RunError if the run is incomplete, a detector's classes are not the data set's, or for scales of a
    classifier.
    """
    model, spec = load_model(run)
    model.to(device)
    inputs: dict[str, Any] = {"device": device, "workers": workers, "versions": versions, "blank_share": blank_share}
    return predict_model(run, model, spec, dataset, records, **inputs)


def predict_model(
    run: Path,
    model: nn.Module,
    spec: ModelSpec,
    dataset: Dataset,
    records: Sequence[ImageRecord],
    *,
    device: torch.device,
    workers: int = 0,
    versions: Versions = PLAIN,
    blank_share: float | None = None,
) -> Predictions:
    """predict_run of a model that is loaded and on its device; `run` is the name that errors carry."""
    inputs: dict[str, Any] = {
        **{"side": spec.image_size, "resize": spec.resize, "batch_size": spec.batch_size},
        **{"device": device, "workers": workers, "blank_share": blank_share},
    }
    if spec.kind == "classifier":
        classifier = cast(ImageClassifier, model)
        if versions.scales != PLAIN.scales:
            raise RunError(run / MODEL, "kind", found="a classifier", expected="a detector, for --scales")
        classifier.flip_tta = classifier.flip_tta or versions.flip
        return classify(classifier, dataset, records, spec.classes, **inputs)
    if dataset.classes.names and spec.classes.names != dataset.classes.names:
        raise RunError(
            run / MODEL, "classes", found=spec.classes.names, expected=f"{dataset.classes.names} of the data"
        )
    return detect_versions(cast(Detector, model), dataset, records, versions=versions, **inputs)


def run_records(run: Path, dataset: Dataset, split: Split | None) -> tuple[ImageRecord, ...]:
    """The records of a split, or of `scored_split` for None; of a fold's run `val` is that fold.

    The others of the split column's val are images that it trained on. Raises: DatasetError if there are none.
    """
    fold, name = read_card(run).get("fold"), split or scored_split(dataset)
    if fold is None or name != "val":
        return filled_split(dataset, name)
    return training_split(dataset, fold=fold)[1]


def write_predictions(
    out: Path, run: Path, dataset: Dataset, records: Sequence[ImageRecord], found: Predictions, *, by: str
) -> None:
    """Write what predict_run found: COCO results of a detector, a CSV of a classifier, by image or by patient.

    Patients are decided by the rule and the threshold that the run chose on its validation images.
    Raises: RunError for patients of a detector, or of a run that was trained without a rule for them.
    """
    rule = patient_rule(run) if by == "patient" else None
    if not isinstance(found, ClassPredictions):
        write_detections(out, dataset, found)
    elif rule is not None:
        write_table(out, *patient_table(found.classes, records, **rule))
    else:
        write_table(out, *found.table())


def patient_rule(run: Path) -> dict[str, Any]:
    """The rule by which a run decides patients, as arguments of patient_table: ask for it before predicting.

    Raises: RunError for a detector, or a run that was trained without one.
    """
    card = read_card(run)
    if card.get("kind") != "classifier":
        raise RunError(run / MODEL, "kind", found="a detector", expected="a classifier, for --by patient")
    if card.get("patients") is None:
        expected = "a run trained with `patients` in its config"
        raise RunError(run / MODEL, "patients", found="no rule", expected=expected)
    return card["patients"]


def predict_boxes(
    run: Path,
    dataset: Dataset,
    records: Sequence[ImageRecord],
    *,
    device: torch.device,
    workers: int = 0,
    versions: Versions = PLAIN,
    blank_share: float | None = None,
) -> dict[str, Detections]:
    """predict_run of a detector. Raises: RunError for a classifier."""
    found = predict_run(
        run, dataset, records, device=device, workers=workers, versions=versions, blank_share=blank_share
    )
    if isinstance(found, ClassPredictions):
        raise RunError(run / MODEL, "kind", found="a classifier", expected="a detector")
    return found


def predict_classes(
    run: Path,
    dataset: Dataset,
    records: Sequence[ImageRecord],
    *,
    device: torch.device,
    workers: int = 0,
    blank_share: float | None = None,
) -> ClassPredictions:
    """predict_run of a classifier. Raises: RunError for a detector."""
    found = predict_run(run, dataset, records, device=device, workers=workers, blank_share=blank_share)
    if not isinstance(found, ClassPredictions):
        raise RunError(run / MODEL, "kind", found="a detector", expected="a classifier")
    return found
