"""What a file is scored against: a data set, or the competition's tables with what else is known of their images."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path

from siimdet.core.types import ImageRecord, ImageSize, Split
from siimdet.data.dataset import Dataset, scored_records
from siimdet.data.manifest import read_dataset
from siimdet.data.table import Table, read_table
from siimdet.errors import SourceError, shown
from siimdet.submission.file import read_submission
from siimdet.submission.judged import Case, dataset_cases
from siimdet.submission.sample import sampled_records
from siimdet.submission.table import IMAGE_SUFFIX, Submission, check_inside
from siimdet.submission.truth import Truth, dataset_truth, read_truth
from siimdet.submission.units import patients_of_ids, patients_of_rows

_IDS = ("image_id", "imageid")
_SIDES = ("width", "height")


@dataclass(frozen=True, slots=True)
class TruthFiles:
    """A split of a data set, or the tables of the competition.

    Beside the tables: `patients` is one like train_meta.csv, and `sources` one with a row per image, `image_id`, and
    whatever else is known of it; `width` and `height` are its original size. Of a check alone, `sample` is a file whose
    ids are wanted in place of a split's, with a data set or without. Strings become paths.
    """

    dataset: Path | None = None
    split: Split | None = None
    image_level: Path | None = None
    study_level: Path | None = None
    patients: Path | None = None
    sources: Path | None = None
    sample: Path | None = None

    def __post_init__(self) -> None:
        for name in ("dataset", "image_level", "study_level", "patients", "sources", "sample"):
            if (given := getattr(self, name)) is not None:
                object.__setattr__(self, name, Path(given))


@dataclass(frozen=True, slots=True, eq=False)
class SubmissionTruth:
    """Truth, the images of it that a submission has rows of, and whom a bootstrap draws: `owners` by row id."""

    truth: Truth
    cases: tuple[Case, ...]
    unit: str
    owners: Mapping[str, str]


def submission_truth(found: Submission, files: TruthFiles) -> SubmissionTruth:
    """The truth of a submission; boxes are checked to lie inside their images where these have a known size.

    Raises: SubmissionError, SourceError or DatasetError, one line each.
    """
    against = _of_tables(found, files) if files.dataset is None else _of_dataset(found, files.dataset, files.split)
    check_inside(found, {case.image_id: case.size for case in against.cases if case.size is not None})
    return against


def submission_ids(found: Submission, files: TruthFiles) -> Collection[str]:
    """The row ids that a submission should have, for which a data set needs no labels; boxes as submission_truth.

    Raises: as submission_truth and sampled_records.
    """
    sample = None if files.sample is None else read_submission(files.sample)
    if files.dataset is None:
        return submission_truth(found, files).truth.ids if sample is None else sample.ids
    data = read_dataset(files.dataset)
    records = _scored(found, data, files.split) if sample is None else sampled_records(data, sample)
    check_inside(found, {record.image_id: record.original for record in records})
    return patients_of_rows(records)


def _scored(found: Submission, data: Dataset, split: Split | None) -> tuple[ImageRecord, ...]:
    images = [row.removesuffix(IMAGE_SUFFIX) for row in found.ids if row.endswith(IMAGE_SUFFIX)]
    return scored_records(data, split, images)


def _of_dataset(found: Submission, dataset: Path, split: Split | None) -> SubmissionTruth:
    data = read_dataset(dataset)
    records = _scored(found, data, split)
    given = set(found.ids)
    submitted = [record for record in records if record.image_id + IMAGE_SUFFIX in given]
    return SubmissionTruth(
        truth=dataset_truth(data, records),
        cases=dataset_cases(data, submitted, original=True),
        unit="patient",
        owners=patients_of_rows(records),
    )


def _of_tables(found: Submission, files: TruthFiles) -> SubmissionTruth:
    assert files.image_level is not None, "neither a data set nor tables"
    assert files.study_level is not None, "neither a data set nor tables"
    truth = read_truth(files.image_level, files.study_level)
    patients = None if files.patients is None else patients_of_ids(found, files.patients)
    sources = {} if files.sources is None else _read_sources(files.sources)
    given = set(found.ids)
    cases = []
    for image_id, study_id in truth.study_of.items():
        if image_id + IMAGE_SUFFIX in given:
            size, source = sources.get(image_id, (None, {}))
            patient_id = None if patients is None else patients[image_id + IMAGE_SUFFIX]
            cases.append(Case(image_id, study_id, patient_id, size, source=source))
    if patients is None:
        return SubmissionTruth(truth, tuple(cases), "study", truth.studies_of_rows())
    return SubmissionTruth(truth, tuple(cases), "patient", patients)


def _read_sources(path: Path) -> dict[str, tuple[ImageSize | None, dict[str, str]]]:
    """Original size, None where it is not known, and the further cells of every image."""
    table = read_table(path, (), kind=SourceError)
    name = next((name for name in _IDS if name in table.header), None)
    if name is None:
        raise SourceError(path, "header", found=shown(", ".join(table.header)), expected=f"a column {_IDS[0]}")
    sides = all(side in table.header for side in _SIDES)
    others = [column for column in table.header if column and column not in (*_IDS, *_SIDES)]
    found: dict[str, tuple[ImageSize | None, dict[str, str]]] = {}
    for line, row in zip(table.lines, table.rows, strict=True):
        cells = dict(zip(table.header, row, strict=True))
        image_id = cells[name].removesuffix(IMAGE_SUFFIX)
        if image_id in found:
            raise table.error(line, name, found=f"{image_id} again", expected="an id of its own")
        size = _size(table, line, cells) if sides else None
        found[image_id] = size, {column: cells[column] for column in others}
    return found


def _size(table: Table, line: int, cells: Mapping[str, str]) -> ImageSize | None:
    width, height = (cells[side] for side in _SIDES)
    if not width and not height:
        return None
    if not (width.isdecimal() and height.isdecimal() and int(width) and int(height)):
        found, expected = f"{width!r}, {height!r}", "whole numbers above 0, or none"
        raise table.error(line, ", ".join(_SIDES), found=found, expected=expected)
    return ImageSize(int(width), int(height))
