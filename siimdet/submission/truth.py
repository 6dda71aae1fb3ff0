"""The truth that a submission is scored against, from the competition's tables or from our own data.

An image without boxes is true for `none`; a study is true for exactly one of the four study
classes. Both are the unit box 0 0 1 1, so one metric serves all six classes.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import ArrayLike, NDArray

from siimdet.core.boxes import scale_boxes, xywh_to_xyxy
from siimdet.core.labels import STUDY
from siimdet.core.types import ImageRecord
from siimdet.data.dataset import Dataset
from siimdet.data.siim_tables import IMAGE_SUFFIX, STUDY_SUFFIX, read_images, read_studies
from siimdet.errors import DatasetError
from siimdet.scoring.box_tables import TruthBoxes
from siimdet.submission.table import CLASSES, OPACITY_ID


@dataclass(frozen=True, slots=True, eq=False)
class Truth:
    """What is true of every study and image.

    `ids` are row ids with their suffix, studies first; `boxes.images` are indices into them,
    `boxes.class_ids` are in CLASSES, `boxes.xyxy` in original pixels (0 0 1 1 but for opacity).
    `study_of` is the study of every image, ids without suffix.
    """

    ids: tuple[str, ...]
    boxes: TruthBoxes
    study_of: Mapping[str, str]

    def studies_of_rows(self) -> dict[str, str]:
        """Study of every row id, those of images and of studies."""
        images = {image + IMAGE_SUFFIX: study for image, study in self.study_of.items()}
        studies = (row_id for row_id in self.ids if row_id.endswith(STUDY_SUFFIX))
        return images | {row_id: row_id.removesuffix(STUDY_SUFFIX) for row_id in studies}

    def boxes_of(self, ids: Sequence[str]) -> TruthBoxes:
        """The boxes of these rows alone, images as indices into `ids`."""
        row_of = {row_id: row for row, row_id in enumerate(ids)}
        rows = np.array([row_of.get(row_id, -1) for row_id in self.ids], np.int64)[self.boxes.images]
        kept = rows >= 0
        return TruthBoxes(rows[kept], self.boxes.class_ids[kept], self.boxes.xyxy[kept])


def make_truth(study_of: Mapping[str, str], boxes: Mapping[str, ArrayLike], labels: Mapping[str, str]) -> Truth:
    """Truth from plain mappings.

    Shapes: study_of image id → study id, boxes image id → [N, 4] xyxy in original pixels (N = 0: none),
    labels study id → name in STUDY; ids without suffix.
    Raises: ValueError for an image without boxes entry, a study without label, or a name not in STUDY.
    """
    if study_of.keys() != boxes.keys():
        odd = sorted(study_of.keys() ^ boxes.keys())[0]
        raise ValueError(f"image {odd} has a study or boxes but not both, expected an entry in each")
    for image, study in study_of.items():
        if study not in labels:
            raise ValueError(f"image {image}: study {study} has no label")
    found = [np.asarray(corners, np.float64).reshape(-1, 4) for corners in boxes.values()]
    counts = np.array([len(corners) for corners in found], np.int64)
    image_classes = np.where(counts > 0, OPACITY_ID, CLASSES.index("none"))
    row_counts = np.concatenate([np.ones(len(labels), np.int64), np.maximum(counts, 1)])
    row_classes = np.concatenate([[STUDY.index(name) for name in labels.values()], image_classes])
    xyxy = np.concatenate([_unit_boxes(len(labels)), *(c if len(c) else _unit_boxes(1) for c in found)])
    ids = (*(study + STUDY_SUFFIX for study in labels), *(image + IMAGE_SUFFIX for image in boxes))
    rows, classes = np.repeat(np.arange(len(ids)), row_counts), np.repeat(row_classes, row_counts)
    return Truth(ids, TruthBoxes(rows, classes, xyxy), dict(study_of))


def read_truth(image_level: Path | str, study_level: Path | str) -> Truth:
    """Truth from train_image_level.csv and train_study_level.csv, boxes as published (not clipped).

    Raises: SourceError with file and line for anything the competition's tables do not hold.
    """
    labels = read_studies(Path(study_level))
    table, images = read_images(Path(image_level), labels)
    boxes: dict[str, NDArray[np.float64]] = {}
    for image_id, image in images.items():
        xywh = np.array(image.xywh, np.float64).reshape(-1, 4)
        if not np.isfinite(xywh).all() or not (xywh[:, 2:] > 0).all():
            expected = "finite boxes of width and height above 0"
            raise table.error(image.line, "boxes", found=xywh.tolist(), expected=expected)
        boxes[image_id] = xywh_to_xyxy(xywh)
    return make_truth({image_id: image.study_id for image_id, image in images.items()}, boxes, labels)


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


def _unit_boxes(count: int) -> NDArray[np.float64]:
    return np.tile([0.0, 0.0, 1.0, 1.0], (count, 1))
