"""The figures by which a detector is judged on a data set: AP of VOC and COCO, the operating point of the best F1."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from siimdet.core.types import Detections, ImageRecord
from siimdet.data.dataset import Dataset
from siimdet.scoring.coco import coco_figures
from siimdet.scoring.voc import detection_ap


def detector_figures(
    dataset: Dataset, records: Sequence[ImageRecord], found: Mapping[str, Detections]
) -> dict[str, Any]:
    """ap50 (VOC, mean over classes with truth), `ap` by class, f1, precision, recall and threshold, operating_points.

    Beside them those of `coco_figures`: coco_ap, coco_ap50, coco_ap75, coco_ar100. f1 to threshold are those
    of the first class with an operating point, None if there is none; a point also has its sensitivity and
    its false positives per image, over all of `records`.
    """
    truth = {record.image_id: dataset.boxes[record.image_id] for record in records}
    score = detection_ap(truth, found, dataset.classes)
    points = {}
    for curve in score.curves:
        point = curve.operating_point(len(records))
        if point is not None:
            points[curve.name] = {**asdict(point), "sensitivity": point.sensitivity}
    first = next(iter(points.values()), {})
    flat = {key: first.get(key) for key in ("f1", "precision", "recall", "threshold")}
    coco = coco_figures(truth, found, dataset.classes)
    return {"ap50": score.mean_ap, "ap": score.ap, **coco, **flat, "operating_points": points}
