"""Whom a file's rows are of: the patients, or studies, that a bootstrap draws."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from siimdet.core.types import ImageRecord
from siimdet.errors import SubmissionError
from siimdet.scoring.bootstrap import Resamples
from siimdet.submission.table import IMAGE_SUFFIX, STUDY_SUFFIX

SEED = 0
"""Of every bootstrap, so that a file's intervals are the same each time, and two files' resamples the same."""


def patients_of_rows(records: Sequence[ImageRecord]) -> dict[str, str]:
    """Patient of every row id of a submission, images and studies."""
    studies = {record.study_id + STUDY_SUFFIX: record.patient_id for record in records}
    return studies | {record.image_id + IMAGE_SUFFIX: record.patient_id for record in records}


def draw(file: Path, keys: Sequence[str], owner_of: Mapping[str, str], *, unit: str, samples: int) -> Resamples:
    """Resamples of the owners of a file's rows `keys`.

    Raises: SubmissionError unless there are two owners: one alone can be drawn in one way.
    """
    resamples = Resamples.of([owner_of[key] for key in keys], samples=samples, seed=SEED)
    if resamples.units < 2:
        found = f"rows of {resamples.units} {unit}"
        raise SubmissionError(file, "--bootstrap", found=found, expected="of two or more, to draw among")
    return resamples
