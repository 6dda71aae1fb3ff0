"""From boxes and study probabilities to the rows of a submission.

The exponents are what a coupling file holds, fitted out of fold: nothing is tuned here.
"""

from collections.abc import Collection, Mapping, Sequence

import numpy as np

from siimdet.config import Coupling
from siimdet.core.boxes import clip_boxes, has_area, scale_boxes
from siimdet.core.types import Detections, ImageRecord, Probabilities
from siimdet.errors import SubmissionError
from siimdet.submission.table import CLASSES, IMAGE_SUFFIX, OPACITY_ID, STUDY_SUFFIX, Submission

_NONE_ID = CLASSES.index("none")
_UNIT = (0.0, 0.0, 1.0, 1.0)


def couple(
    records: Sequence[ImageRecord],
    boxes: Mapping[str, Detections],
    studies: Probabilities,
    coupling: Coupling,
    *,
    file: str,
    ids: Sequence[str] | None = None,
) -> Submission:
    """A submission for the images of `records` and their studies.

    opacity = score^own (1 - p_negative)^not_negative p_opacity^image_opacity, and none = p_negative^own
    (1 - p_opacity)^image_opacity, where p_opacity is the image's highest box score. Boxes go from stored
    to original pixels. Rows come in the order of `ids`, those of a sample file, or sorted.
    Raises: SubmissionError if `ids` are not exactly those of the records.
    """
    if len(studies.keys) != len(set(studies.keys)):
        raise ValueError("a study twice in the probabilities")
    study_rows = dict(zip(studies.keys, studies.values.astype(np.float64), strict=True))
    rows: dict[str, list[tuple[int, float, Sequence[float]]]] = {}
    for record in sorted(records, key=lambda record: record.image_id):
        probabilities = study_rows[record.study_id]
        rows[record.study_id + STUDY_SUFFIX] = [(k, float(p), _UNIT) for k, p in enumerate(probabilities)]
        found = boxes.get(record.image_id, Detections.empty(record.stored))
        rows[record.image_id + IMAGE_SUFFIX] = _image_row(record, found, float(probabilities[0]), coupling)
    ordered = _order(rows.keys(), ids, file)
    flat = [(row, *prediction) for row, key in enumerate(ordered) for prediction in rows[key]]
    return Submission(
        file=file,
        ids=tuple(ordered),
        rows=np.array([row for row, *_ in flat], np.int64),
        class_ids=np.array([class_id for _, class_id, *_ in flat], np.int64),
        scores=np.array([score for _, _, score, _ in flat], np.float64),
        xyxy=np.array([box for *_, box in flat], np.float64).reshape(-1, 4),
    )


def _image_row(
    record: ImageRecord, found: Detections, p_negative: float, coupling: Coupling
) -> list[tuple[int, float, Sequence[float]]]:
    p_opacity = float(found.scores.max()) if len(found) else 0.0
    none = coupling.none
    row: list[tuple[int, float, Sequence[float]]] = [
        (_NONE_ID, p_negative**none.own * (1 - p_opacity) ** none.image_opacity, _UNIT)
    ]
    opacity = coupling.opacity
    factor = (1 - p_negative) ** opacity.not_negative * p_opacity**opacity.image_opacity
    # Six decimals, as they are written: a box may not reach past the border by a rounding of its scale.
    xyxy = np.round(clip_boxes(scale_boxes(found.xyxy, record.stored, record.original), record.original), 6)
    for box, score in zip(xyxy[has_area(xyxy)], found.scores[has_area(xyxy)], strict=True):
        row.append((OPACITY_ID, float(score) ** opacity.own * factor, box.tolist()))
    return row


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
