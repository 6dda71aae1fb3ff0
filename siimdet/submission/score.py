"""The competition's score of a submission: VOC 2010 mAP over its six classes."""

from dataclasses import dataclass

import numpy as np

from siimdet.core.labels import STUDY
from siimdet.scoring.bootstrap import ResampledFigures, Resamples, resampled_ap
from siimdet.scoring.box_tables import PredictedBoxes
from siimdet.scoring.voc import VocScore, voc_map
from siimdet.submission.judged import Judged, JudgedBoxes, JudgedClasses, case_of_rows
from siimdet.submission.table import CLASSES, OPACITY_ID, STUDY_SUFFIX, Submission, check_ids
from siimdet.submission.truth import Truth
from siimdet.submission.truth_files import SubmissionTruth


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
    boxes = truth.boxes_of(submission.ids)
    return SubmissionScore(
        voc=voc_map(boxes, submitted_boxes(submission), CLASSES),
        images=len(submission.ids) - submission.studies,
        studies=submission.studies,
        boxes=int((boxes.class_ids == OPACITY_ID).sum()),
        predictions=len(submission),
        ids_left_out=len(truth.ids) - len(submission.ids),
    )


def resampled_score(submission: Submission, truth: Truth, resamples: Resamples) -> ResampledFigures:
    """AP of the six classes and mAP of resamples of the submission's rows; ids that it lacks are left out."""
    return resampled_ap(truth.boxes_of(submission.ids), submitted_boxes(submission), CLASSES, resamples)


def submitted_boxes(submission: Submission) -> PredictedBoxes:
    """What was submitted as boxes of CLASSES; an image number is a row of the submission."""
    return PredictedBoxes(submission.rows, submission.class_ids, submission.xyxy, submission.scores)


def judged_submission(submission: Submission, against: SubmissionTruth) -> Judged:
    """The six classes as boxes, and the study level as classes."""
    boxes = JudgedBoxes(
        ids=submission.ids,
        truth=against.truth.boxes_of(submission.ids),
        predictions=submitted_boxes(submission),
        classes=CLASSES,
        case_of=case_of_rows(submission.ids, against.cases),
    )
    return Judged(
        cases=against.cases,
        owners=tuple(against.owners[row_id] for row_id in submission.ids),
        unit=against.unit,
        boxes=boxes,
        classes=_judged_studies(boxes),
    )


def _judged_studies(boxes: JudgedBoxes) -> JudgedClasses | None:
    """Of each study and class the highest confidence, 0 without any; None without studies."""
    rows = np.flatnonzero([row_id.endswith(STUDY_SUFFIX) for row_id in boxes.ids])
    if not len(rows):
        return None
    probabilities, truth = boxes.of_ids(rows, range(len(STUDY)))
    return JudgedClasses(
        ids=tuple(boxes.ids[row].removesuffix(STUDY_SUFFIX) for row in rows),
        unit="study",
        probabilities=probabilities,
        truth=truth,
        classes=STUDY,
        case_of=boxes.case_of[rows],
        exclusive=True,
    )
