"""The competition's score of a submission: VOC 2010 mAP over its six classes."""

from dataclasses import dataclass

import numpy as np

from siimdet.scoring.bootstrap import ResampledFigures, Resamples, resampled_ap
from siimdet.scoring.box_tables import PredictedBoxes, TruthBoxes
from siimdet.scoring.voc import VocScore, voc_map
from siimdet.submission.table import CLASSES, OPACITY_ID, Submission, check_ids
from siimdet.submission.truth import Truth


@dataclass(frozen=True, slots=True, eq=False)
class SubmissionScore:
    """Six AP values, their mean, and how much was scored.

    `boxes` counts true opacities, `predictions` everything submitted, `ids_left_out` the ids of the
    truth that `only_submitted` ignored.
    """

    voc: VocScore
    images: int
    studies: int
    boxes: int
    predictions: int
    ids_left_out: int

    def as_dict(self) -> dict[str, float | int | None]:
        """AP by class, mAP (None for a class without truth, which the mean leaves out), then the counts."""
        return {
            **self.voc.ap,
            "mAP": self.voc.mean_ap,
            "images": self.images,
            "studies": self.studies,
            "boxes": self.boxes,
            "predictions": self.predictions,
            "ids_left_out": self.ids_left_out,
        }


def score_submission(submission: Submission, truth: Truth, *, only_submitted: bool = False) -> SubmissionScore:
    """Score a submission; siimdet.scoring.voc has the rules.

    The ids must be those of the truth, as the competition demands. With `only_submitted` an id of
    the truth that the submission lacks, study or image, is left out of the truth instead; an id
    that the truth lacks stays an error.
    Raises: SubmissionError for unknown or lacking ids.
    """
    check_ids(submission, truth.ids, complete=not only_submitted)
    boxes, found = _columns(submission, truth)
    return SubmissionScore(
        voc=voc_map(boxes, found, CLASSES),
        images=len(submission.ids) - submission.studies,
        studies=submission.studies,
        boxes=int((boxes.class_ids == OPACITY_ID).sum()),
        predictions=len(submission),
        ids_left_out=len(truth.ids) - len(submission.ids),
    )


def resampled_score(submission: Submission, truth: Truth, resamples: Resamples) -> ResampledFigures:
    """AP of the six classes and mAP of resamples of the submission's rows; ids that it lacks are left out."""
    return resampled_ap(*_columns(submission, truth), CLASSES, resamples)


def _columns(submission: Submission, truth: Truth) -> tuple[TruthBoxes, PredictedBoxes]:
    """Truth of the submitted ids, and what was submitted; an image number is a row of the submission."""
    row_of = {row_id: row for row, row_id in enumerate(submission.ids)}
    rows = np.array([row_of.get(row_id, -1) for row_id in truth.ids], dtype=np.int64)[truth.boxes.images]
    kept = rows >= 0
    return (
        TruthBoxes(rows[kept], truth.boxes.class_ids[kept], truth.boxes.xyxy[kept]),
        PredictedBoxes(submission.rows, submission.class_ids, submission.xyxy, submission.scores),
    )
