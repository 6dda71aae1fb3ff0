"""What a coupling is fitted on: out-of-fold predictions beside their truth, and whose rows they are."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from siimdet.config import Coupling
from siimdet.core.labels import OPACITY
from siimdet.core.types import Detections, ImageRecord, Probabilities
from siimdet.data.manifest import read_dataset
from siimdet.errors import SubmissionError
from siimdet.inference.aggregate import Rule, study_probabilities
from siimdet.inference.fusion import PixelBoxes, collect
from siimdet.submission.coupling import fused_columns
from siimdet.submission.file import read_submission
from siimdet.submission.prediction_files import read_boxes, read_study
from siimdet.submission.table import Submission, check_ids
from siimdet.submission.truth import Truth, dataset_truth, read_truth
from siimdet.submission.uncoupled import (
    Uncoupled,
    uncoupled_predictions,
    uncoupled_submission,
    with_boxes,
    without_boxes,
)
from siimdet.submission.units import patients_of_ids, patients_of_rows

_CACHED = 8
"""Fusions that are kept: tens of MB each for all of SIIM."""


@dataclass(frozen=True, slots=True, eq=False)
class Evidence:
    """Predictions and truth of the same rows, `truth.ids`.

    `columns` gives the predictions fused and taken from images to studies as a coupling without NMS says, whose
    exponents it leaves alone. `patients` has the patient of every row.
    """

    truth: Truth
    patients: tuple[str, ...]
    columns: Callable[[Coupling], Uncoupled]
    detectors: tuple[Uncoupled, ...]
    """Each one's boxes before fusion; without any, they are given fused, and the study level by study."""
    rules: tuple[Rule, ...]
    """From images to studies, those that can be chosen."""
    submitted: Submission | None = None
    """The file, where there is one."""


def prediction_evidence(
    records: Sequence[ImageRecord],
    truth: Truth,
    models: Sequence[Mapping[str, Detections]],
    classes: Probabilities,
    *,
    opacity: Probabilities | None = None,
    file: str,
) -> Evidence:
    """Of boxes by detector and image id, in stored pixels, and of probabilities by image id.

    Shapes: classes f32[I, 4] and opacity f32[I, 1], that an image has a box, keyed by the records' image ids.
    """
    rules: tuple[Rule, ...] = ("mean", "max") if opacity is None else ("mean", "max", "opacity")
    studies = {rule: study_probabilities(classes, records, rule, opacity=opacity) for rule in rules}
    owners = patients_of_rows(records)
    records = sorted(records, key=lambda record: record.image_id)
    options: dict[str, Any] = {"file": file, "ids": truth.ids, "opacity": opacity}
    bare = {rule: without_boxes(records, studies[rule], **options) for rule in rules}
    # Hundreds of fusions are tried: they stay columns, without an object for each image.
    found = collect(models)
    place_of = {record.image_id: place for place, record in enumerate(records)}
    places = np.array([place_of.get(image_id, -1) for image_id in found.sizes], np.int64)

    @lru_cache(maxsize=_CACHED)
    def fused(fusion: str) -> PixelBoxes:
        return fused_columns(found, Coupling.model_validate_json(fusion))

    def columns(coupling: Coupling) -> Uncoupled:
        assert coupling.nms_iou is None, "no coupling with NMS is tried"
        # Of the keys in JSON: a Coupling itself is no key of a cache.
        boxes = fused(coupling.model_dump_json(exclude={"study_from_images", "opacity", "none"}))
        images = places[boxes.images]
        ours = images >= 0
        return with_boxes(bare[coupling.study_from_images], records, images[ours], boxes.xyxy[ours], boxes.scores[ours])

    alone = tuple(uncoupled_predictions(records, model, studies["mean"], **options) for model in models)
    return Evidence(truth, tuple(owners[key] for key in truth.ids), columns, alone, rules)


def read_predictions(dataset: Path | str, boxes: Sequence[Path | str], study: Path | str) -> Evidence:
    """Of detectors' COCO results and a study classifier's CSV, whose images are the evidence.

    Raises: DatasetError or SubmissionError for files of other images or classes, or images without labels.
    """
    data = read_dataset(dataset)
    found = read_study(Path(study), {record.image_id for record in data.records})
    given = set(found.probabilities.keys)
    records = tuple(record for record in data.records if record.image_id in given)
    if not records:
        raise SubmissionError(study, "rows", found="none", expected="a row per image")
    truth = dataset_truth(data, records)
    models = [read_boxes(Path(path), data, given, whose=f"study file's {len(given)}") for path in boxes]
    opacity = None
    if found.opacity is not None:
        opacity = Probabilities(found.probabilities.keys, found.opacity.astype(np.float32).reshape(-1, 1), OPACITY)
    return prediction_evidence(records, truth, models, found.probabilities, opacity=opacity, file=str(study))


def read_submitted(
    file: Path | str, image_level: Path | str, study_level: Path | str, patients: Path | str
) -> Evidence:
    """Of a submission of out-of-fold predictions, by the competition's tables; ids that it lacks are left out.

    `patients` is a table like SIIM's train_meta.csv, with the columns imageid, studyid and patientid.
    Raises: SubmissionError or SourceError for files that do not fit each other.
    """
    submission = read_submission(file)
    truth = read_truth(image_level, study_level)
    check_ids(submission, truth.ids, complete=False)
    patient_of = patients_of_ids(submission, Path(patients))
    columns = uncoupled_submission(submission, truth.study_of)
    return Evidence(
        truth=replace(truth, ids=submission.ids, boxes=truth.boxes_of(submission.ids)),
        patients=tuple(patient_of[key] for key in submission.ids),
        columns=lambda _: columns,
        detectors=(),
        rules=(),
        submitted=submission,
    )
