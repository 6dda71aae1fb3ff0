"""What `predict` writes of SIIM's images, read again: a study classifier's CSV and detectors' COCO results."""

from collections.abc import Collection, Mapping
from pathlib import Path

from siimdet.core.labels import STUDY
from siimdet.core.types import Detections
from siimdet.data.coco import read_detections
from siimdet.data.dataset import Dataset
from siimdet.errors import DatasetError, SubmissionError
from siimdet.submission.classes_file import IMAGE, ClassesFile, check_keys, read_classes


def read_study(path: Path, images: Collection[str], *, complete: bool = False) -> ClassesFile:
    """Read a study classifier's CSV of these images, all of them if `complete`.

    Raises: SubmissionError for rows of patients, other columns, or other images.
    """
    found = read_classes(path, STUDY)
    if found.by != IMAGE:
        raise SubmissionError(path, "header", found=f"a row per {found.by}", expected=f"a row per {IMAGE}")
    check_keys(path, found, images, complete=complete)
    return found


def read_boxes(path: Path, dataset: Dataset, images: Collection[str], *, whose: str) -> dict[str, Detections]:
    """Read a detector's COCO results of these images; an image in which nothing was found has no entry.

    `whose` says in a refusal what images these are.
    Raises: DatasetError for boxes of other images, or of another class than opacity.
    """
    found = read_detections(path, dataset)
    if stray := sorted(found.keys() - set(images)):
        said = f"boxes of {stray[0]!r} ({len(stray)} other images)"
        raise DatasetError(path, "image_id", found=said, expected=f"only those of the {whose}")
    check_opacity(path, found)
    return found


def boxes_among(
    path: Path, found: Mapping[str, Detections], images: Collection[str], *, whose: str
) -> dict[str, Detections]:
    """The boxes of these images alone; `whose` says in a refusal what images these are.

    Raises: DatasetError if the file holds boxes, but of other images alone.
    """
    kept = {image_id: boxes for image_id, boxes in found.items() if image_id in images}
    if found and not kept:
        said = f"boxes of {min(found)!r} ({len(found)} other images alone)"
        raise DatasetError(path, "image_id", found=said, expected=f"some of the {len(images)} images of the {whose}")
    return kept


def check_opacity(path: Path, found: dict[str, Detections]) -> None:
    """Raise DatasetError for a box of another class than the first."""
    for image_id, boxes in found.items():
        if (boxes.class_ids > 0).any():
            number = boxes.class_ids.max() + 1
            raise DatasetError(path, f"boxes of {image_id}", found=f"category_id {number}", expected="1, opacity")
