"""The rows of a sample file, such as the competition's sample_submission.csv, as images of a data set."""

from siimdet.core.types import ImageRecord
from siimdet.data.dataset import Dataset
from siimdet.errors import DatasetError, SubmissionError
from siimdet.submission.table import IMAGE_SUFFIX, Submission, check_ids
from siimdet.submission.units import patients_of_rows


def sampled_records(dataset: Dataset, sample: Submission) -> tuple[ImageRecord, ...]:
    """The images of a sample's rows, of any split; its other rows are exactly those of their studies.

    Raises: SubmissionError for a sample without images or with other studies; DatasetError for an image that the data
    set lacks.
    """
    wanted = {row_id.removesuffix(IMAGE_SUFFIX) for row_id in sample.ids if row_id.endswith(IMAGE_SUFFIX)}
    if not wanted:
        raise SubmissionError(sample.file, "rows", found="none of an image", expected="a row per image")
    records = tuple(record for record in dataset.records if record.image_id in wanted)
    if unknown := sorted(wanted - {record.image_id for record in records}):
        expected = f"the images of {sample.file}, converted"
        raise DatasetError(dataset.root, unknown[0] + IMAGE_SUFFIX, found="no such image", expected=expected)
    check_ids(sample, patients_of_rows(records), whose="sample's images and their studies")
    return records
