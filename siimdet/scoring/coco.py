"""COCO's average precision and recall of boxes, as pycocotools computes them.

It differs from the competition's score in four ways: a match overlaps by the threshold or more; a detection
takes the free truth that it overlaps most, so a second truth of the image may still be hit; AP samples the
envelope at 101 recalls; of an image the 100 best detections of a class count.
Source: Lin et al., arXiv:1405.0312, and https://cocodataset.org/#detection-eval.
"""

import contextlib
import io
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from siimdet.core.boxes import xyxy_to_xywh
from siimdet.core.types import BoxLabels, Detections, LabelSpace

MAX_DETECTIONS = 100
"""Detections of an image and a class that count, by score."""


def coco_figures(
    truth: Mapping[str, BoxLabels], found: Mapping[str, Detections], classes: LabelSpace
) -> dict[str, float | None]:
    """coco_ap (mean over IoU .50, .55 ... .95), coco_ap50, coco_ap75 and coco_ar100 (recall, mean over the IoUs).

    Means over the classes that have truth, over all images of `truth`, those without boxes included; boxes are
    in stored pixels. None of everything where no image has a box. An image that `found` lacks is one in which
    nothing was found.
    Raises: ValueError for a prediction of an image that `truth` lacks.
    """
    unknown = next((image_id for image_id in found if image_id not in truth), None)
    if unknown is not None:
        raise ValueError(f"prediction for image {unknown}, expected only images of the truth")
    if not any(len(labels) for labels in truth.values()):
        return dict.fromkeys(("coco_ap", "coco_ap50", "coco_ap75", "coco_ar100"))
    precision, recall = _evaluate(truth, found, classes)
    return {
        "coco_ap": _mean(precision),
        "coco_ap50": _mean(precision[0]),
        "coco_ap75": _mean(precision[5]),
        "coco_ar100": _mean(recall),
    }


def _evaluate(
    truth: Mapping[str, BoxLabels], found: Mapping[str, Detections], classes: LabelSpace
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Precision f64[10, 101, K] by IoU, recall and class, and recall f64[10, K]; -1 for a class without truth."""
    image_ids = sorted(truth)  # by id, as annotations.json numbers them: equal scores are then ranked alike
    detections = [found.get(image_id, Detections.empty(truth[image_id].size)) for image_id in image_ids]
    with contextlib.redirect_stdout(io.StringIO()):  # it prints its progress among our results
        known = _index([truth[image_id] for image_id in image_ids], classes)
        evaluation = COCOeval(known, _index(detections, classes), "bbox")
        # Small, medium and large boxes, and the best 1 and 10 detections, would cost four times the seconds.
        evaluation.params.areaRng, evaluation.params.areaRngLbl = [[0, 1e10]], ["all"]
        evaluation.params.maxDets = [MAX_DETECTIONS]
        evaluation.evaluate()
        evaluation.accumulate()
    return evaluation.eval["precision"][..., 0, 0], evaluation.eval["recall"][..., 0, 0]


def _index(images: Sequence[BoxLabels | Detections], classes: LabelSpace) -> COCO:
    """COCO's tables of the boxes of images 1, 2, ...; ids of boxes start at 1, since 0 means unmatched to it."""
    rows: list[dict[str, Any]] = []
    for number, boxes in enumerate(images, start=1):
        bboxes, class_ids = xyxy_to_xywh(boxes.xyxy).tolist(), boxes.class_ids.tolist()
        scores = boxes.scores.tolist() if isinstance(boxes, Detections) else [None] * len(boxes)
        for bbox, class_id, score in zip(bboxes, class_ids, scores, strict=True):
            row = {"id": len(rows) + 1, "image_id": number, "category_id": class_id + 1, "bbox": bbox, "iscrowd": 0}
            rows.append(row | {"area": bbox[2] * bbox[3], "score": score})
    tables: Any = COCO()  # its stubs ask for keys that boxes do not have
    tables.dataset = {
        "images": [{"id": number + 1} for number in range(len(images))],
        "annotations": rows,
        "categories": [{"id": class_id + 1, "name": name} for class_id, name in enumerate(classes.names)],
    }
    tables.createIndex()
    return tables


def _mean(values: NDArray[np.float64]) -> float:
    return float(values[values >= 0].mean())
