"""From what models say of images to the rows of a submission, and that from the files that `predict` writes."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from siimdet.config import Coupling
from siimdet.core.labels import OPACITY
from siimdet.core.types import Detections, ImageRecord, Probabilities, Split
from siimdet.data.coco import read_detections
from siimdet.data.dataset import Dataset, filled_split
from siimdet.errors import FusionError, SubmissionError
from siimdet.inference.aggregate import study_probabilities
from siimdet.submission.classes_file import IMAGE, ClassesFile
from siimdet.submission.coupling import couple, fused_boxes
from siimdet.submission.prediction_files import boxes_among, check_opacity, read_study
from siimdet.submission.sample import sampled_records
from siimdet.submission.table import Submission


@dataclass(frozen=True, slots=True, eq=False)
class Predictions:
    """What a submission is made of, and the submission.

    Shapes: boxes by detector and fused, both by image id and in stored pixels; classes f32[I, 4] and opacity f32[I, 1]
    (None of a study model that does not tell it) by image id, studies f32[P, 4] by study id.
    """

    boxes: Mapping[str, Mapping[str, Detections]]
    classes: Probabilities
    opacity: Probabilities | None
    fused: Mapping[str, Detections]
    studies: Probabilities
    submission: Submission


def assemble(
    records: Sequence[ImageRecord],
    boxes: Mapping[str, Mapping[str, Detections]],
    classes: Probabilities,
    coupling: Coupling,
    *,
    file: str,
    opacity: Probabilities | None = None,
    ids: Sequence[str] | None = None,
) -> Predictions:
    """Fuse the detectors' boxes, take images to studies, couple both. Shapes: as Predictions.

    Rows come in the order of `ids`, those of a sample file, or sorted. Raises: as couple and study_probabilities.
    """
    fused = fused_boxes(list(boxes.values()), coupling)
    studies = study_probabilities(classes, records, coupling.study_from_images, opacity=opacity)
    made = couple(records, fused, studies, coupling, file=file, ids=ids, opacity=opacity)
    return Predictions(boxes, classes, opacity, fused, studies, made)


def assemble_files(
    dataset: Dataset,
    split: Split | None,
    *,
    boxes: Sequence[Path],
    study: Path,
    coupling: Coupling,
    file: str,
    sample: Submission | None = None,
) -> Predictions:
    """assemble of detectors' COCO results and a study classifier's CSV.

    Images are those of `sample`, in whose order the rows come, of the split, or without either those of the CSV;
    further ones in the files are left out. Raises: SubmissionError or DatasetError for a CSV without one of the images,
    boxes of other images alone, files of other classes than the competition's, or as sampled_records; FusionError for
    a file given twice.
    """
    check_distinct(boxes)
    found = read_study(study, {record.image_id for record in dataset.records})
    if sample is not None:
        records = sampled_records(dataset, sample)
    elif split is not None:
        records = filled_split(dataset, split)
    else:
        given = set(found.probabilities.keys)
        records = tuple(record for record in dataset.records if record.image_id in given)
        if not records:
            raise SubmissionError(study, "rows", found="none", expected="a row per image")
    images = {record.image_id: number for number, record in enumerate(records)}
    models = {str(path): _boxes_among(path, dataset, images) for path in boxes}
    classes, opacity = _of_images(study, found, images)
    ids = None if sample is None else sample.ids
    return assemble(records, models, classes, coupling, file=file, opacity=opacity, ids=ids)


def check_distinct(detectors: Sequence[Path]) -> None:
    """Raises: FusionError if a detector's run or file is given twice, under whatever name."""
    places = [path.resolve() for path in detectors]
    for number, path in enumerate(detectors):
        if places[number] in places[:number]:
            raise FusionError(path, "detector", found="it twice", expected="every detector once")


def _of_images(path: Path, found: ClassesFile, images: Collection[str]) -> tuple[Probabilities, Probabilities | None]:
    row_of = {key: row for row, key in enumerate(found.probabilities.keys)}
    lacking = sorted(set(images) - row_of.keys())
    if lacking:
        said = f"no row for {lacking[0]!r} ({len(lacking)} ids lack)"
        raise SubmissionError(path, IMAGE, found=said, expected=f"all {len(images)} images of the submission")
    rows = [row_of[image_id] for image_id in images]
    classes = Probabilities(tuple(images), found.probabilities.values[rows], found.probabilities.space)
    if found.opacity is None:
        return classes, None
    return classes, Probabilities(tuple(images), found.opacity[rows].reshape(-1, 1).astype(np.float32), OPACITY)


def _boxes_among(path: Path, dataset: Dataset, images: Collection[str]) -> dict[str, Detections]:
    kept = boxes_among(path, read_detections(path, dataset), images, whose="submission")
    check_opacity(path, kept)
    return kept
