"""What a report shows: the outcome of one pass through the chain, as values."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from siimdet.core.labels import SUBMISSION_CLASSES
from siimdet.core.types import Detections, ImageRecord, Probabilities
from siimdet.data.dataset import Dataset

MEAN_AP = "mAP"


@dataclass(frozen=True, slots=True, eq=False)
class DetectorRow:
    """The figures of a detector; None where nothing defines one, which is shown as a dash.

    `ap50` is AP of opacity at IoU > .5; F1, precision and recall hold for boxes with a score of `threshold`
    or more, the only ones drawn over the radiographs. Without a threshold none is drawn.
    """

    name: str
    ap50: float | None
    f1: float | None
    precision: float | None
    recall: float | None
    threshold: float | None


@dataclass(frozen=True, slots=True, eq=False)
class RunReport:
    """All that a report shows.

    `score` holds AP of the six classes and `mAP`, None for a class without truth. `detectors` are the single
    ones, then the fused: the last one ranks the radiographs. `detections` are by row name, then image id, in
    stored pixels; `study` is by study id; `runs` are run directories by the name to show.
    Raises: ValueError if the parts do not fit each other.
    """

    title: str
    subtitle: str
    score: Mapping[str, float | None]
    detectors: Sequence[DetectorRow]
    dataset: Dataset
    records: Sequence[ImageRecord]
    detections: Mapping[str, Mapping[str, Detections]]
    study: Probabilities
    runs: Mapping[str, Path]
    facts: Mapping[str, str]

    def __post_init__(self) -> None:
        lacking = [name for name in (*SUBMISSION_CLASSES, MEAN_AP) if name not in self.score]
        if lacking:
            raise ValueError(f"score without {', '.join(lacking)}, expected the six classes and {MEAN_AP}")
        names = [row.name for row in self.detectors]
        if not names or len(set(names)) != len(names):
            raise ValueError(f"detectors {names}, expected at least one, each with a name of its own")
        if set(self.detections) != set(names):
            raise ValueError(f"detections of {sorted(self.detections)}, expected those of {sorted(names)}")
        if self.study.space.names != self.dataset.labels.names:
            raise ValueError(f"studies in {self.study.space.name}, expected {self.dataset.labels.name} as in the truth")


def shown(report: RunReport, row: DetectorRow, image_id: str) -> Detections:
    """The boxes of an image that a detector stands by: those at its threshold or above."""
    size = report.dataset.boxes[image_id].size
    found = report.detections[row.name].get(image_id)
    if found is None or row.threshold is None:
        return Detections.empty(size)
    kept = found.scores >= row.threshold
    return Detections(found.xyxy[kept], found.class_ids[kept], found.scores[kept], found.size)


def study_truth(report: RunReport) -> dict[str, NDArray[np.float32]]:
    """Labels f32[K] of every scored study by id, NaN for unknown."""
    return {record.study_id: record.labels for record in report.records}
