"""`submit`: from run directories to the rows of a submission."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from siimdet.config import Coupling
from siimdet.core.boxes import scale_boxes
from siimdet.core.labels import OPACITY, STUDY
from siimdet.core.types import Detections, ImageRecord, Probabilities
from siimdet.data.manifest import Dataset
from siimdet.errors import DatasetError, RunError
from siimdet.inference.aggregate import study_probabilities
from siimdet.inference.fusion import fuse
from siimdet.inference.run import predict_boxes, predict_classes
from siimdet.inference.tta import PLAIN, Versions
from siimdet.models.weights import MODEL, read_spec
from siimdet.submission.coupling import couple
from siimdet.submission.table import IMAGE_SUFFIX, Submission
from siimdet.submission.truth import Truth, make_truth


@dataclass(frozen=True, slots=True, eq=False)
class Predictions:
    """What a submission is made of: boxes by detector and fused, by image id; probabilities by study id."""

    boxes: Mapping[str, Mapping[str, Detections]]
    fused: Mapping[str, Detections]
    studies: Probabilities
    submission: Submission


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
    ids: Sequence[str] | None = None,
    versions: Versions = PLAIN,
) -> Predictions:
    """Predict with every run, fuse the boxes, couple them with the study level.

    `versions` are what the detectors see of each image.
    Raises: RunError for runs of other classes than the competition's.
    """
    _check_classes(detectors, OPACITY.names)
    _check_classes([study], STUDY.names)
    if ids is not None:
        wanted = {row_id.removesuffix(IMAGE_SUFFIX) for row_id in ids if row_id.endswith(IMAGE_SUFFIX)}
        records = [record for record in dataset.records if record.image_id in wanted]
        unknown = sorted(wanted - {record.image_id for record in records})
        if unknown:
            expected = "the images of the sample, converted"
            raise DatasetError(dataset.root, unknown[0] + IMAGE_SUFFIX, found="no such image", expected=expected)
    if not records:
        raise DatasetError(dataset.root, "images", found="none in that split", expected="images to predict")
    boxes = {
        str(run): predict_boxes(run, dataset, records, device=device, workers=workers, versions=versions)
        for run in detectors
    }
    fused = fuse(list(boxes.values()), min_iou=coupling.fusion_iou, weights=coupling.fusion_weights)
    if coupling.nms_iou is not None:
        fused = fuse([fused], method="nms", min_iou=coupling.nms_iou)
    images = predict_classes(study, dataset, records, device=device, workers=workers)
    studies = study_probabilities(images.classes, records, coupling.study_from_images, opacity=images.opacity)
    return Predictions(boxes, fused, studies, couple(records, fused, studies, coupling, file=file, ids=ids))


def dataset_truth(dataset: Dataset, records: Sequence[ImageRecord]) -> Truth:
    """Truth of a SIIM data set's images and their studies, boxes in original pixels.

    Raises: DatasetError for a data set without study classes.
    """
    if dataset.labels.names != STUDY.names:
        raise DatasetError(dataset.root, "labels", found=dataset.labels.name, expected=f"the classes of {STUDY.name}")
    labels: dict[str, str] = {}
    for record in records:
        if not record.labels.sum() == 1:
            raise DatasetError(
                dataset.root, record.image_id, found="no single study class", expected=" or ".join(STUDY.names)
            )
        labels[record.study_id] = STUDY.names[int(record.labels.argmax())]
    study_of = {record.image_id: record.study_id for record in records}
    boxes = {
        record.image_id: scale_boxes(dataset.boxes[record.image_id].xyxy, record.stored, record.original)
        for record in records
    }
    return make_truth(study_of, boxes, labels)


def _check_classes(runs: Sequence[Path], names: tuple[str, ...]) -> None:
    for run in runs:
        found = read_spec(run).classes.names
        if found != names:
            raise RunError(run / MODEL, "classes", found=", ".join(found), expected=", ".join(names))
