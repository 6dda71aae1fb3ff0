"""What a coupling is fitted on: out-of-fold predictions beside their truth, and whose rows they are."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path

import numpy as np

from siimdet.config import Coupling
from siimdet.core.labels import OPACITY
from siimdet.core.types import Detections, ImageRecord, Probabilities
from siimdet.data.manifest import read_dataset
from siimdet.data.table import read_table
from siimdet.errors import SourceError, SubmissionError
from siimdet.inference.aggregate import Rule, study_probabilities
from siimdet.scoring.box_tables import TruthBoxes
from siimdet.submission.coupling import fused_boxes
from siimdet.submission.file import read_submission
from siimdet.submission.prediction_files import read_boxes, read_study
from siimdet.submission.table import IMAGE_SUFFIX, STUDY_SUFFIX, Submission, check_ids
from siimdet.submission.truth import Truth, dataset_truth, read_truth
from siimdet.submission.uncoupled import Uncoupled, uncoupled_predictions, uncoupled_submission
from siimdet.submission.units import patients_of_rows

_CACHED = 8
"""Fusions that are kept: tens of MB each for all of SIIM."""


@dataclass(frozen=True, slots=True, eq=False)
class Evidence:
    """Predictions and truth of the same rows, `truth.ids`.

    `columns` gives the predictions fused and taken from images to studies as a coupling says, whose exponents it
    leaves alone. `patients` has the patient of every row.
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

    def gathered(boxes: Mapping[str, Detections], rule: Rule) -> Uncoupled:
        return uncoupled_predictions(records, boxes, studies[rule], file=file, ids=truth.ids, opacity=opacity)

    @lru_cache(maxsize=_CACHED)
    def fused(fusion: str) -> dict[str, Detections]:
        return fused_boxes(models, Coupling.model_validate_json(fusion))

    def columns(coupling: Coupling) -> Uncoupled:
        # Of the keys in JSON: a Coupling itself is no key of a cache.
        fusion = coupling.model_dump_json(exclude={"study_from_images", "opacity", "none"})
        return gathered(fused(fusion), coupling.study_from_images)

    alone = tuple(gathered(model, "mean") for model in models)
    return Evidence(truth, tuple(owners[key] for key in truth.ids), columns, alone, rules)


def read_predictions(dataset: Path, boxes: Sequence[Path], study: Path) -> Evidence:
    """Of detectors' COCO results and a study classifier's CSV, whose images are the evidence.

    Raises: DatasetError or SubmissionError for files of other images or classes, or images without labels.
    """
    data = read_dataset(dataset)
    found = read_study(study, {record.image_id for record in data.records})
    given = set(found.probabilities.keys)
    records = tuple(record for record in data.records if record.image_id in given)
    if not records:
        raise SubmissionError(study, "rows", found="none", expected="a row per image")
    truth = dataset_truth(data, records)
    models = [read_boxes(path, data, given, whose=f"study file's {len(given)}") for path in boxes]
    opacity = None
    if found.opacity is not None:
        opacity = Probabilities(found.probabilities.keys, found.opacity.astype(np.float32).reshape(-1, 1), OPACITY)
    return prediction_evidence(records, truth, models, found.probabilities, opacity=opacity, file=str(study))


def read_submitted(file: Path, image_level: Path, study_level: Path, patients: Path) -> Evidence:
    """Of a submission of out-of-fold predictions, by the competition's tables; ids that it lacks are left out.

    `patients` is a table like SIIM's train_meta.csv, with the columns imageid, studyid and patientid.
    Raises: SubmissionError or SourceError for files that do not fit each other.
    """
    submission = read_submission(file)
    truth = read_truth(image_level, study_level)
    check_ids(submission, truth.ids, complete=False)
    patient_of = _read_patients(patients)
    for row, key in enumerate(submission.ids):
        if key not in patient_of:
            raise submission.error(row, found=f"an id that {patients} lacks", expected="the patient of every row")
    columns = uncoupled_submission(submission, truth.study_of)
    return Evidence(
        truth=_restricted(truth, submission.ids),
        patients=tuple(patient_of[key] for key in submission.ids),
        columns=lambda _: columns,
        detectors=(),
        rules=(),
        submitted=submission,
    )


def _read_patients(path: Path) -> dict[str, str]:
    """Patient of every row id."""
    table = read_table(path, ("imageid", "studyid", "patientid"), kind=SourceError)
    patient_of: dict[str, str] = {}
    for line, (image, study, patient) in table.select("imageid", "studyid", "patientid"):
        for key in (image + IMAGE_SUFFIX, study + STUDY_SUFFIX):
            if patient_of.setdefault(key, patient) != patient:
                raise table.error(
                    line, "patientid", found=f"{patient} of {key}", expected=f"{patient_of[key]}, as before"
                )
    return patient_of


def _restricted(truth: Truth, ids: tuple[str, ...]) -> Truth:
    """The truth of `ids`, in their order."""
    row_of = {key: row for row, key in enumerate(ids)}
    rows = np.array([row_of.get(key, -1) for key in truth.ids], np.int64)[truth.boxes.images]
    kept = rows >= 0
    boxes = TruthBoxes(rows[kept], truth.boxes.class_ids[kept], truth.boxes.xyxy[kept])
    return replace(truth, ids=ids, boxes=boxes)
