"""DICOM results of many studies, from files to files."""

import contextlib
import warnings
from collections import defaultdict
from collections.abc import Callable, Mapping, Set
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import NamedTuple

from pydicom import dcmread
from pydicom.config import disable_value_validation
from pydicom.dataset import Dataset

from siimdet.core.files import atomic_write, check_id
from siimdet.data.table import write_table
from siimdet.errors import ImageError, UserError
from siimdet.imaging.dicom import read_header_ids
from siimdet.serve.dicom_find import DicomFiles
from siimdet.serve.dicom_identity import Kind, Origin, is_ours
from siimdet.serve.dicom_predictions import Predictions
from siimdet.serve.dicom_results import shown_boxes, study_objects
from siimdet.serve.dicom_source import Source, read_source
from siimdet.serve.results import ImageResult

FAILURES = "failures.csv"
_REPORT, _PRESENTATION, _CAPTURE = "report.dcm", ".presentation.dcm", ".capture.dcm"
_WRITTEN: dict[str, Kind] = {_REPORT: "report", f"*{_PRESENTATION}": "presentation", f"*{_CAPTURE}": "capture"}

_Progress = Callable[[int, int], None]


class Refused(NamedTuple):
    """An image or study without results: a row of failures.csv."""

    id: str
    path: str
    reason: str


@dataclass(frozen=True, slots=True)
class Written:
    """How many studies and images have results now, and what was refused."""

    studies: int
    images: int
    refused: tuple[Refused, ...]


def write_results(
    predictions: Predictions, files: DicomFiles, out: Path, origin: Origin, *, progress: _Progress | None = None
) -> Written:
    """Write STUDY/report.dcm, STUDY/IMAGE.presentation.dcm and STUDY/IMAGE.capture.dcm, and failures.csv, in `out`.

    An image that cannot be read, is of another size than its predictions or has no file is refused, the others of its
    study go on. Each file is written whole or not at all. What a run before wrote, and this one did not, is deleted in
    the end: its objects would be taken for these predictions'.
    """
    refused: list[Refused] = []
    studies = _by_study(predictions, files, refused)
    written: set[Path] = set()
    done = images = 0
    for number, (study_id, members) in enumerate(sorted(studies.items()), start=1):
        found = _read_study(predictions, files, members, origin.threshold, refused)
        if found and (made := _write_study(out / study_id, study_id, found, predictions, origin, refused)):
            done, images, written = done + 1, images + len(found), written | made
        if progress is not None:
            progress(number, len(studies))
    _clear(out, written)
    without = sorted(predictions.studies.keys() - studies.keys())
    refused += [Refused(study_id, "", "images: found none, expected one of this study") for study_id in without]
    write_table(out / FAILURES, Refused._fields, sorted(refused))
    return Written(done, images, tuple(sorted(refused)))


def _clear(out: Path, written: Set[Path]) -> None:
    """Delete the objects that a run before wrote and this one did not, and folders in which nothing else is.

    Raises: UserError for one that cannot be deleted.
    """
    earlier = [
        path
        for pattern, kind in _WRITTEN.items()
        for path in out.glob(f"*/{pattern}")
        if path not in written and _is_written(path, kind)
    ]
    for path in earlier:
        try:
            path.unlink()
        except OSError as error:
            raise UserError(path, "file", found=error.strerror, expected="one that can be replaced") from None
        with contextlib.suppress(OSError):
            path.parent.rmdir()


def _is_written(path: Path, kind: Kind) -> bool:
    """Whether a file is of this command; one that cannot be read is not."""
    try:
        read_header_ids(path)  # within its limits
        with warnings.catch_warnings(), disable_value_validation():
            warnings.simplefilter("ignore")
            header = dcmread(path, stop_before_pixels=True, specific_tags=["Manufacturer", "SeriesNumber"])
            return is_ours(header, kind)
    except Exception:  # a parser on anybody's bytes fails in any way
        return False


def _by_study(predictions: Predictions, files: DicomFiles, refused: list[Refused]) -> dict[str, dict[str, str]]:
    """Place of every image found, by study id and image id."""
    studies: dict[str, dict[str, str]] = defaultdict(dict)
    for image_id in sorted(predictions.boxes):
        record = predictions.records.get(image_id)
        place = ""
        try:
            place = files.find(image_id, record.source.get("file", "") if record else "")
            owner = record.study_id if record else _owner(predictions, files, place)
        except UserError as error:
            refused.append(Refused(image_id, place, error.reason))
        else:
            studies[owner][image_id] = place
    return studies


def _owner(predictions: Predictions, files: DicomFiles, place: str) -> str:
    """The study of a file: by its folder as in STUDY/SERIES/IMAGE if that is predicted, else by its header."""
    folders = PurePosixPath(place).parts[:-1]
    if len(folders) > 1 and folders[-2] in predictions.studies:
        return folders[-2]
    path = files.raw / place
    return check_id(read_header_ids(path).study_uid, file=path, field="StudyInstanceUID")


def _read_study(
    predictions: Predictions,
    files: DicomFiles,
    members: Mapping[str, str],
    threshold: float,
    refused: list[Refused],
) -> list[tuple[Source, ImageResult]]:
    found = []
    for image_id, place in members.items():
        record = predictions.records.get(image_id)
        try:
            source = read_source(files.raw / place)
            result = ImageResult(image_id, record.original if record else source.size, predictions.boxes[image_id])
            shown_boxes(source, result, threshold)
        except ImageError as error:
            refused.append(Refused(image_id, place, error.reason))
        else:
            found.append((source, result))
    return found


def _write_study(
    folder: Path,
    study_id: str,
    found: list[tuple[Source, ImageResult]],
    predictions: Predictions,
    origin: Origin,
    refused: list[Refused],
) -> set[Path]:
    """The files of a study, none if it is refused."""
    sources, images = zip(*found, strict=True)
    try:
        made = study_objects(sources, images, predictions.studies.get(study_id), origin)
    except ImageError as error:
        refused.append(Refused(study_id, "", error.reason))
        return set()
    objects = {folder / _REPORT: made.report}
    for image, state, picture in zip(images, made.presentations, made.captures, strict=True):
        objects[folder / f"{image.image_id}{_PRESENTATION}"] = state
        objects[folder / f"{image.image_id}{_CAPTURE}"] = picture
    for path, each in objects.items():
        _write(path, each)
    return set(objects)


def _write(path: Path, made: Dataset) -> None:
    with atomic_write(path, "wb") as stream:
        made.save_as(stream, enforce_file_format=True)
