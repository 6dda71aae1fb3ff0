"""The score of 6,334 images x 30 boxes from arrays, and the reading of a 27 MB submission.csv.

For equal threads run it with OMP_NUM_THREADS=1 POLARS_MAX_THREADS=1 RAYON_NUM_THREADS=1.
hotcoco is no dependency: its row is there where it can be imported, such as with
PYTHONPATH naming a folder filled by `uv pip install --target FOLDER --no-deps hotcoco`.
"""

import contextlib
import importlib
import importlib.util
import io
import json
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas
from numpy.typing import NDArray
from pairs import compare

from siimdet.core.labels import SUBMISSION_CLASSES
from siimdet.core.types import LabelSpace
from siimdet.scoring.box_tables import PredictedBoxes, TruthBoxes
from siimdet.scoring.voc import VocScore, voc_map
from siimdet.submission.file import read_submission, write_submission
from siimdet.submission.table import IMAGE_SUFFIX, STUDY_SUFFIX, Submission

IMAGES, BOXES = 6334, 30
STUDIES, BOXES_IN_FILE = 6054, 90
CLASSES = LabelSpace("submission", SUBMISSION_CLASSES)
RECALLS = np.linspace(0, 1, 101)


def make(rng: np.random.Generator) -> tuple[TruthBoxes, PredictedBoxes]:
    """Truth of up to three boxes an image and predictions scattered about them, every score a different one.

    Truths of an image lie in different thirds of it: rules that part where two could be meant agree.
    """
    counts = rng.integers(0, 4, IMAGES)
    truth_images = np.repeat(np.arange(IMAGES), counts)
    column = np.concatenate([np.arange(count) for count in counts])
    corner = rng.uniform(0, 100, (len(truth_images), 2)) + np.stack([column * 400, column * 0], axis=1)
    truth = TruthBoxes(
        truth_images,
        rng.integers(0, len(CLASSES), len(truth_images)),
        np.concatenate([corner, corner + rng.uniform(50, 200, corner.shape)], axis=1),
    )
    images = np.repeat(np.arange(IMAGES), BOXES)
    corner = rng.uniform(0, 800, (len(images), 2))
    xyxy = np.concatenate([corner, corner + rng.uniform(50, 200, corner.shape)], axis=1)
    near = rng.permutation(len(images))[: 2 * len(truth)]
    source = np.arange(len(near)) % len(truth)
    images[near], xyxy[near] = truth.images[source], truth.xyxy[source] + np.tile(rng.normal(0, 15, (len(near), 2)), 2)
    classes = rng.integers(0, len(CLASSES), len(images))
    classes[near] = truth.class_ids[source]
    return truth, PredictedBoxes(images, classes, xyxy, rng.permutation(len(images)) / len(images))


def voc_eval(truth: TruthBoxes, found: PredictedBoxes) -> list[float]:
    """AP by class as voc_eval counts it, without its + 1 on widths."""
    return [_voc_eval_class(truth, found, class_id) for class_id in range(len(CLASSES))]


def _voc_eval_class(truth: TruthBoxes, found: PredictedBoxes, class_id: int) -> float:
    mine = truth.class_ids == class_id
    order = np.argsort(truth.images[mine], kind="stable")
    numbers, starts = np.unique(truth.images[mine][order], return_index=True)
    boxes = dict(zip(numbers.tolist(), np.split(truth.xyxy[mine][order], starts[1:]), strict=True))
    taken = {i: np.zeros(len(b), bool) for i, b in boxes.items()}
    rows = np.flatnonzero(found.class_ids == class_id)
    rows = rows[np.argsort(-found.scores[rows])]
    hits = np.zeros(len(rows))
    for order, row in enumerate(rows):
        image, box = int(found.images[row]), found.xyxy[row]
        if image not in boxes:
            continue
        b = boxes[image]
        width = np.maximum(np.minimum(b[:, 2], box[2]) - np.maximum(b[:, 0], box[0]), 0)
        height = np.maximum(np.minimum(b[:, 3], box[3]) - np.maximum(b[:, 1], box[1]), 0)
        overlap = width * height
        union = (box[2] - box[0]) * (box[3] - box[1]) + (b[:, 2] - b[:, 0]) * (b[:, 3] - b[:, 1]) - overlap
        best = int(np.argmax(overlap / union))
        if overlap[best] / union[best] > 0.5 and not taken[image][best]:
            taken[image][best] = True
            hits[order] = 1
    counted = np.cumsum(hits)
    recall, precision = counted / mine.sum(), counted / np.arange(1, len(rows) + 1)
    envelope = np.maximum.accumulate(precision[::-1])[::-1]
    return float((np.diff(np.concatenate([[0.0], recall])) * envelope).sum())


def coco_runner(package: str, truth: TruthBoxes, found: PredictedBoxes) -> Callable[[], NDArray[np.float64]]:
    """AP50 f64[K] by a package with pycocotools' classes: truth is loaded before, predictions come as one array."""
    # By name: hotcoco is in no lock, and to the type checker in no place.
    of = {"pycocotools": ("pycocotools.coco", "pycocotools.cocoeval"), "hotcoco": ("hotcoco", "hotcoco")}[package]
    coco, evaluator = (importlib.import_module(name) for name in of)
    sizes = truth.xyxy[:, 2:] - truth.xyxy[:, :2]
    annotations = [
        {"id": k + 1, "image_id": i + 1, "category_id": c + 1, "bbox": [*b[:2], *s], "area": s[0] * s[1], "iscrowd": 0}
        for k, (i, c, b, s) in enumerate(
            zip(truth.images.tolist(), truth.class_ids.tolist(), truth.xyxy.tolist(), sizes.tolist(), strict=True)
        )
    ]
    # loadRes' own columns: image, x, y, width, height, score, category.
    results = np.column_stack(
        [found.images + 1, found.xyxy[:, :2], found.xyxy[:, 2:] - found.xyxy[:, :2], found.scores, found.class_ids + 1]
    )
    images = [{"id": number + 1, "width": 2000, "height": 2000} for number in range(IMAGES)]
    categories = [{"id": k + 1, "name": name} for k, name in enumerate(CLASSES.names)]
    with contextlib.redirect_stdout(io.StringIO()):
        known = _loaded(coco.COCO, {"images": images, "annotations": annotations, "categories": categories})

    def run() -> NDArray[np.float64]:
        with contextlib.redirect_stdout(io.StringIO()):
            evaluation = evaluator.COCOeval(known, known.loadRes(results), "bbox")
            evaluation.params.iouThrs = np.array([0.5])
            evaluation.params.areaRng, evaluation.params.areaRngLbl = [[0, 1e10]], ["all"]
            evaluation.params.maxDets = [100]
            evaluation.evaluate()
            evaluation.accumulate()
        return np.asarray(evaluation.eval["precision"])[0, :, :, 0, 0].mean(axis=0)

    return run


def _loaded(kind: Callable[..., Any], tables: dict[str, Any]) -> Any:
    """A COCO object of tables; both packages take a file."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "annotations.json"
        path.write_text(json.dumps(tables))
        return kind(str(path))


def sampled(score: VocScore) -> NDArray[np.float64]:
    """Our curves at COCO's 101 recalls, f64[K]: the number that its tools give."""
    means = []
    for curve in score.curves:
        envelope = np.append(np.maximum.accumulate(curve.precision[::-1])[::-1], 0.0)
        means.append(envelope[np.searchsorted(curve.recall, RECALLS, side="left")].mean())
    return np.array(means)


def write_large(path: Path, rng: np.random.Generator) -> None:
    """A submission of all of SIIM's training part, four classes a study and 90 boxes an image: 27 MB."""
    counts = [*[4] * STUDIES, *[1 + BOXES_IN_FILE] * IMAGES]
    rows = np.repeat(np.arange(len(counts)), counts)
    class_ids = np.concatenate([np.tile(range(4), STUDIES), np.tile([4, *[5] * BOXES_IN_FILE], IMAGES)])
    corner = rng.integers(0, 2000, (len(rows), 2))
    xyxy = np.concatenate([corner, corner + rng.integers(50, 1000, corner.shape)], axis=1).astype(np.float64)
    xyxy[class_ids < 5] = (0, 0, 1, 1)
    ids = [f"{n:012x}{STUDY_SUFFIX}" for n in range(STUDIES)] + [f"{n:012x}{IMAGE_SUFFIX}" for n in range(IMAGES)]
    write_submission(path, Submission("made", tuple(ids), rows, class_ids, rng.random(len(rows)), xyxy))


def split_loop(path: Path) -> tuple[list[str], NDArray, NDArray, NDArray, NDArray]:
    """Ids, rows, class ids, scores and boxes by pandas and a loop over the split cells."""
    frame = pandas.read_csv(path)
    rows, class_ids, scores, boxes = [], [], [], []
    for row, cell in enumerate(frame["PredictionString"]):
        tokens = cell.split()
        for k in range(0, len(tokens), 6):
            rows.append(row)
            class_ids.append(SUBMISSION_CLASSES.index(tokens[k]))
            scores.append(float(tokens[k + 1]))
            boxes.append([float(token) for token in tokens[k + 2 : k + 6]])
    return frame["id"].tolist(), np.array(rows), np.array(class_ids), np.array(scores), np.array(boxes)


def same_columns(theirs: tuple[Any, ...], ours: Submission) -> bool:
    """Whether both read the same, to the last digit."""
    mine = (ours.rows, ours.class_ids, ours.scores, ours.xyxy)
    return theirs[0] == list(ours.ids) and all(map(np.array_equal, theirs[1:], mine))


def main() -> None:
    """Print the rows."""
    truth, found = make(np.random.default_rng(0))
    item = "six-class VOC mAP, 6,334 images x 30 boxes"

    def ours() -> VocScore:
        return voc_map(truth, found, CLASSES)

    compare(
        item,
        "plain voc_eval",
        lambda: voc_eval(truth, found),
        ours,
        equal=lambda theirs, score: np.allclose(theirs, list(score.ap.values()), rtol=0, atol=1e-12),
    )
    for package in ("pycocotools", "hotcoco"):
        if importlib.util.find_spec(package) is None:
            print(f"{item}: no row for {package}, which is not installed")
            continue
        compare(
            f"{item}, {package}",
            f"{package} AP50",
            coco_runner(package, truth, found),
            ours,
            equal=lambda theirs, score: np.allclose(theirs, sampled(score), rtol=0, atol=1e-9),
        )
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "submission.csv"
        write_large(path, np.random.default_rng(0))
        megabytes = f"{path.stat().st_size / 1e6:.0f} MB"
        compare(
            f"reading a {megabytes} submission.csv",
            "pandas + split loop",
            lambda: split_loop(path),
            lambda: read_submission(path),
            equal=same_columns,
        )


if __name__ == "__main__":
    main()
