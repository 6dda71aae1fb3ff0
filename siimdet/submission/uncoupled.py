"""What a submission is made of before any exponent, as columns: of our predictions, or of a file."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from siimdet.core.boxes import has_area
from siimdet.core.types import Detections, ImageRecord, ImageSize, Probabilities
from siimdet.errors import SubmissionError
from siimdet.submission.table import CLASSES, IMAGE_SUFFIX, OPACITY_ID, STUDY_SUFFIX, Submission

NONE_ID = CLASSES.index("none")
_NEGATIVE_ID = CLASSES.index("negative")


@dataclass(frozen=True, slots=True, eq=False)
class Uncoupled:
    """Studies, images and boxes of a submission's rows.

    Shapes: ids R row ids with their suffix. Of P study predictions study_rows i64[P] (indices into ids),
    study_classes i64[P] and study_scores f64[P]. Of I images image_rows i64[I], p_negative f64[I] of the image's
    study, p_opacity f64[I] that it has a box (None where nothing tells it) and highest f64[I], its best box score,
    0 without boxes. Of N boxes box_images i64[N] (indices of images), box_scores f64[N], xyxy f64[N, 4] in original
    pixels. `file` is the name that errors carry.
    """

    file: str
    ids: tuple[str, ...]
    study_rows: NDArray[np.int64]
    study_classes: NDArray[np.int64]
    study_scores: NDArray[np.float64]
    image_rows: NDArray[np.int64]
    p_negative: NDArray[np.float64]
    p_opacity: NDArray[np.float64] | None
    highest: NDArray[np.float64]
    box_images: NDArray[np.int64]
    box_scores: NDArray[np.float64]
    xyxy: NDArray[np.float64]


def uncoupled_predictions(
    records: Sequence[ImageRecord],
    boxes: Mapping[str, Detections],
    studies: Probabilities,
    *,
    file: str,
    ids: Sequence[str] | None = None,
    opacity: Probabilities | None = None,
) -> Uncoupled:
    """Of boxes by image id in stored pixels, which become original ones, and probabilities by study id.

    opacity f32[I, 1] is keyed by image id. Rows come in the order of `ids`, those of a sample file, or sorted.
    Raises: SubmissionError if `ids` are not exactly those of the records.
    """
    records = sorted(records, key=lambda record: record.image_id)
    found = _in_order(records, boxes)
    images = np.repeat(np.arange(len(records)), [len(one) for one in found])
    scores = np.concatenate([np.zeros(0), *(one.scores for one in found)])
    xyxy = np.concatenate([np.zeros((0, 4)), *(one.xyxy for one in found)])
    columns = without_boxes(records, studies, file=file, ids=ids, opacity=opacity)
    return with_boxes(columns, records, images, xyxy, scores)


def without_boxes(
    records: Sequence[ImageRecord],
    studies: Probabilities,
    *,
    file: str,
    ids: Sequence[str] | None = None,
    opacity: Probabilities | None = None,
) -> Uncoupled:
    """uncoupled_predictions of `records`, sorted by image id, in which nothing was found."""
    assert len(studies.keys) == len(set(studies.keys)), "a study twice in the probabilities"
    probabilities = dict(zip(studies.keys, studies.values.astype(np.float64), strict=True))
    names = list(dict.fromkeys(record.study_id for record in records))
    keys = [*(name + STUDY_SUFFIX for name in names), *(record.image_id + IMAGE_SUFFIX for record in records)]
    ordered = _order(keys, ids, file)
    row_of = {key: row for row, key in enumerate(ordered)}
    rows = np.array([row_of[key] for key in keys], np.int64)
    classes = len(studies.space)
    return Uncoupled(
        file=file,
        ids=tuple(ordered),
        study_rows=np.repeat(rows[: len(names)], classes),
        study_classes=np.tile(np.arange(classes), len(names)),
        study_scores=np.array([probabilities[name] for name in names], np.float64).reshape(-1),
        image_rows=rows[len(names) :],
        p_negative=np.array([probabilities[record.study_id][_NEGATIVE_ID] for record in records], np.float64),
        p_opacity=None if opacity is None else _by_image(records, opacity),
        highest=np.zeros(len(records)),
        box_images=np.zeros(0, np.int64),
        box_scores=np.zeros(0),
        xyxy=np.zeros((0, 4)),
    )


def with_boxes(
    columns: Uncoupled,
    records: Sequence[ImageRecord],
    images: NDArray[np.int64],
    xyxy: NDArray[np.floating],
    scores: NDArray[np.floating],
) -> Uncoupled:
    """The columns of without_boxes with boxes.

    Shapes: images i64[N], places in the records, ascending; xyxy f[N, 4] in stored pixels, scores f[N].
    """
    scores = scores.astype(np.float64)
    xyxy = _original_pixels(records, xyxy, images)
    kept = has_area(xyxy)
    highest = _highest(len(records), images, scores)
    return replace(columns, highest=highest, box_images=images[kept], box_scores=scores[kept], xyxy=xyxy[kept])


def uncoupled_submission(submission: Submission, study_of: Mapping[str, str]) -> Uncoupled:
    """Of a submission's own confidences, p_opacity being 1 - none; `study_of` has the study of each image, no suffixes.

    Raises: SubmissionError for an image without study row, a row without exactly one `negative` or `none`.
    """
    image_rows = np.array([row for row, key in enumerate(submission.ids) if key.endswith(IMAGE_SUFFIX)], np.int64)
    row_of = {key: row for row, key in enumerate(submission.ids)}
    owners = np.zeros(len(image_rows), np.int64)
    for image, row in enumerate(image_rows.tolist()):
        study = study_of[submission.ids[row].removesuffix(IMAGE_SUFFIX)] + STUDY_SUFFIX
        if study not in row_of:
            raise submission.error(row, found=f"no row for {study}", expected="the row of the image's study")
        owners[image] = row_of[study]
    boxes = submission.class_ids == OPACITY_ID
    studies = ~boxes & (submission.class_ids != NONE_ID)
    images = np.searchsorted(image_rows, submission.rows[boxes])
    return Uncoupled(
        file=submission.file,
        ids=submission.ids,
        study_rows=submission.rows[studies],
        study_classes=submission.class_ids[studies],
        study_scores=submission.scores[studies],
        image_rows=image_rows,
        p_negative=_only(submission, _NEGATIVE_ID, owners),
        p_opacity=1 - _only(submission, NONE_ID, image_rows),
        highest=_highest(len(image_rows), images, submission.scores[boxes]),
        box_images=images,
        box_scores=submission.scores[boxes],
        xyxy=submission.xyxy[boxes],
    )


def _in_order(records: Sequence[ImageRecord], boxes: Mapping[str, Detections]) -> list[Detections]:
    """The boxes of every record, none where it has no entry."""
    empty = {size: Detections.empty(size) for size in {record.stored for record in records}}
    return [boxes.get(record.image_id, empty[record.stored]) for record in records]


def _original_pixels(
    records: Sequence[ImageRecord], xyxy: NDArray[np.floating], images: NDArray[np.int64]
) -> NDArray[np.float64]:
    """Corners f64[N, 4] of stored pixels in original pixels, inside their image, in six decimals."""
    stored, original = (_extents([getattr(record, name) for record in records]) for name in ("stored", "original"))
    # Six decimals, as they are written: a box may not reach past the border by a rounding of its scale.
    return np.round(np.clip(xyxy * (original / stored)[images], 0, original[images]), 6)


def _extents(sizes: Sequence[ImageSize]) -> NDArray[np.float64]:
    corners = [(size.width, size.height, size.width, size.height) for size in sizes]
    return np.array(corners, np.float64).reshape(-1, 4)


def _by_image(records: Sequence[ImageRecord], opacity: Probabilities) -> NDArray[np.float64]:
    value_of = dict(zip(opacity.keys, opacity.values[:, 0].tolist(), strict=True))
    return np.array([value_of[record.image_id] for record in records], np.float64)


def _highest(count: int, images: NDArray[np.int64], scores: NDArray[np.float64]) -> NDArray[np.float64]:
    highest = np.zeros(count)
    np.maximum.at(highest, images, scores)
    return highest


def _only(submission: Submission, class_id: int, rows: NDArray[np.int64]) -> NDArray[np.float64]:
    """The one confidence of a class in each of `rows`."""
    mine = submission.class_ids == class_id
    counts = np.bincount(submission.rows[mine], minlength=len(submission.ids))
    odd = np.flatnonzero(counts[rows] != 1)
    if len(odd):
        row, name = int(rows[odd[0]]), CLASSES.names[class_id]
        raise submission.error(row, found=f"{counts[row]} predictions of {name}", expected="one")
    values = np.zeros(len(submission.ids))
    values[submission.rows[mine]] = submission.scores[mine]
    return values[rows]


def _order(keys: Collection[str], ids: Sequence[str] | None, file: str) -> list[str]:
    if ids is None:
        return sorted(keys)
    missing = sorted(set(ids) - set(keys))
    surplus = sorted(set(keys) - set(ids))
    if missing:
        raise SubmissionError(file, missing[0], found="no such image or study in the data", expected="every sample id")
    if surplus:
        raise SubmissionError(file, surplus[0], found="an id that the sample lacks", expected="the sample's ids only")
    return list(ids)
