"""Whom a file's rows are of: the patients, or studies, that a bootstrap draws."""

from collections.abc import Sequence
from pathlib import Path

from siimdet.core.types import ImageRecord
from siimdet.data.siim_tables import read_patients
from siimdet.submission.table import IMAGE_SUFFIX, STUDY_SUFFIX, Submission

SEED = 0
"""Of every bootstrap, so that a file's intervals are the same each time, and two files' resamples the same."""


def patients_of_rows(records: Sequence[ImageRecord]) -> dict[str, str]:
    """Patient of every row id of a submission, images and studies."""
    studies = {record.study_id + STUDY_SUFFIX: record.patient_id for record in records}
    return studies | {record.image_id + IMAGE_SUFFIX: record.patient_id for record in records}


def patients_of_ids(submission: Submission, table: Path) -> dict[str, str]:
    """Patient of every row id of a submission, by a table like SIIM's train_meta.csv.

    Raises: SourceError for a broken table, SubmissionError for an id that it lacks.
    """
    patients: dict[str, str] = {}
    for image_id, (patient_id, study_id) in read_patients(table).items():
        patients[image_id + IMAGE_SUFFIX] = patients[study_id + STUDY_SUFFIX] = patient_id
    for row, row_id in enumerate(submission.ids):
        if row_id not in patients:
            raise submission.error(row, found=f"an id that {table} lacks", expected="the patient of every row")
    return patients
