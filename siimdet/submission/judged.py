"""Predictions beside what is true of the same images: what figures are made of, and what a report shows."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from siimdet.core.types import ImageRecord, ImageSize, LabelSpace
from siimdet.data.dataset import Dataset
from siimdet.scoring.box_tables import PredictedBoxes, TruthBoxes
from siimdet.submission.table import IMAGE_SUFFIX, STUDY_SUFFIX

NO_CASE = -1
"""In `case_of`: of this row there is no image."""

PLURALS = {"study": "studies", "image": "images", "patient": "patients"}
"""Of the units that rows and resamples are of."""


@dataclass(frozen=True, slots=True, eq=False)
class Case:
    """An image that is scored, and where it comes from.

    `size` is that of the pixels in which its boxes are counted; it, the patient and the file are None where the truth
    does not tell them. `source` holds what its source says of it, as text by column.
    """

    image_id: str
    study_id: str
    patient_id: str | None = None
    size: ImageSize | None = None
    path: Path | None = None
    source: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, eq=False)
class JudgedBoxes:
    """Boxes, and whatever is scored as one: image numbers of `truth` and `predictions` index `ids`.

    Shapes: case_of i64[R], the case of every id: of a study its first, NO_CASE where it has none.
    """

    ids: tuple[str, ...]
    truth: TruthBoxes
    predictions: PredictedBoxes
    classes: LabelSpace
    case_of: NDArray[np.int64]

    def of_ids(self, rows: NDArray[np.int64], class_ids: Sequence[int]) -> tuple[NDArray, NDArray]:
        """The highest score of some classes in some rows, 0 without any, and whether they hold, f64[N, K] each."""
        scores, truth = np.zeros((2, len(self.ids), len(self.classes)))
        np.maximum.at(scores, (self.predictions.images, self.predictions.class_ids), self.predictions.scores)
        truth[self.truth.images, self.truth.class_ids] = 1
        picked = np.ix_(rows, np.array(class_ids, np.int64))
        return scores[picked], truth[picked]


@dataclass(frozen=True, slots=True, eq=False)
class JudgedClasses:
    """Classes of images, studies or patients, which `unit` names.

    Shapes: probabilities f64[N, K] in [0, 1], truth f64[N, K] of 1, 0 or NaN for unknown, decisions i64[N] class ids
    or None for the most probable class; case_of i64[N] as JudgedBoxes. `exclusive`: one class holds for each id.
    """

    ids: tuple[str, ...]
    unit: str
    probabilities: NDArray[np.float64]
    truth: NDArray[np.float64]
    classes: LabelSpace
    case_of: NDArray[np.int64]
    exclusive: bool
    decisions: NDArray[np.int64] | None = None


@dataclass(frozen=True, slots=True, eq=False)
class Judged:
    """What one file predicts, beside the truth: boxes of a detector, classes of a classifier, both of a submission.

    `owners` is whose each of `ids` is, a patient or else a study as `unit` says: whom a bootstrap draws.
    """

    cases: tuple[Case, ...]
    owners: tuple[str, ...]
    unit: str
    boxes: JudgedBoxes | None = None
    classes: JudgedClasses | None = None

    @property
    def ids(self) -> tuple[str, ...]:
        """What the file's figures are of: rows, images or patients."""
        of = self.boxes or self.classes
        assert of is not None, "neither boxes nor classes"
        return of.ids


def dataset_cases(dataset: Dataset, records: Sequence[ImageRecord], *, original: bool) -> tuple[Case, ...]:
    """The images of a data set; sizes are original ones, or those of the stored files."""
    return tuple(
        Case(
            image_id=record.image_id,
            study_id=record.study_id,
            patient_id=record.patient_id,
            size=record.original if original else record.stored,
            path=dataset.root / record.path,
            source=record.source,
        )
        for record in records
    )


def case_of_rows(ids: Iterable[str], cases: Sequence[Case]) -> NDArray[np.int64]:
    """The case of every row id of a submission, i64[R]."""
    place: dict[str, int] = {}
    for number, case in enumerate(cases):
        place[case.image_id + IMAGE_SUFFIX] = number
        place.setdefault(case.study_id + STUDY_SUFFIX, number)
    return np.array([place.get(row_id, NO_CASE) for row_id in ids], np.int64)
