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
from siimdet.data.siim_tables import IMAGE_SUFFIX
from siimdet.errors import DatasetError, FusionError, SubmissionError
from siimdet.inference.aggregate import study_probabilities
from siimdet.submission.classes_file import IMAGE, ClassesFile
from siimdet.submission.coupling import couple, fused_boxes
from siimdet.submission.prediction_files import check_opacity, read_study
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
    ids: Sequence[str] | None = None,
) -> Predictions:
    """assemble of detectors' COCO results and a study classifier's CSV.

    Images are those of `ids`, of the split, or without either those of the CSV; further ones in the files are left
    out. Raises: SubmissionError or DatasetError for a CSV without one of the images, boxes of other images alone, or
    files of other classes than the competition's; FusionError for a file given twice.
    """
    check_distinct(boxes)
    found = read_study(study, {record.image_id for record in dataset.records})
    if ids is not None:
        records = sampled_records(dataset, ids)
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
    return assemble(records, models, classes, coupling, file=file, opacity=opacity, ids=ids)


def check_distinct(detectors: Sequence[Path]) -> None:
    """Raises: FusionError if a detector's run or file is given twice, under whatever name."""
    places = [path.resolve() for path in detectors]
    for number, path in enumerate(detectors):
        if places[number] in places[:number]:
            raise FusionError(path, "detector", found="it twice", expected="every detector once")


def sampled_records(dataset: Dataset, ids: Sequence[str]) -> tuple[ImageRecord, ...]:
    """The images of a sample file's row ids, of any split. Raises: DatasetError for one that the data set lacks."""
    wanted = {row_id.removesuffix(IMAGE_SUFFIX) for row_id in ids if row_id.endswith(IMAGE_SUFFIX)}
    records = tuple(record for record in dataset.records if record.image_id in wanted)
    if unknown := sorted(wanted - {record.image_id for record in records}):
        expected = "the images of the sample, converted"
        raise DatasetError(dataset.root, unknown[0] + IMAGE_SUFFIX, found="no such image", expected=expected)
    return records


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
    found = read_detections(path, dataset)
    kept = {image_id: boxes for image_id, boxes in found.items() if image_id in images}
    if found and not kept:
        said = f"boxes of {min(found)!r} ({len(found)} other images alone)"
        raise DatasetError(path, "image_id", found=said, expected=f"some of the {len(images)} images of the submission")
    check_opacity(path, kept)
    return kept
