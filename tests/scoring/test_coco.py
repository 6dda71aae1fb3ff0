"""COCO's figures against hand-worked cases, and against pycocotools run from files."""

import json
from pathlib import Path

import numpy as np
import pytest
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from siimdet.core.types import BoxLabels, Detections, ImageRecord, ImageSize, LabelSpace
from siimdet.data.coco import write_detections
from siimdet.data.manifest import Dataset, write_dataset
from siimdet.scoring.coco import coco_figures
from siimdet.scoring.detection import detector_figures

ONE, TWO = LabelSpace("one", ("opacity",)), LabelSpace("two", ("a", "b"))
SIZE = ImageSize(100, 100)
LEFT, RIGHT = (0, 0, 10, 10), (50, 0, 60, 10)
NAMES = ("coco_ap", "coco_ap50", "coco_ap75", "coco_ar100")


def truth_of(**images):
    return {name: BoxLabels(boxes, [0] * len(boxes), SIZE) for name, boxes in images.items()}


def found_of(**images):
    return {
        name: Detections([box for box, _ in rows], [0] * len(rows), [score for _, score in rows], SIZE)
        for name, rows in images.items()
    }


@pytest.mark.parametrize(
    ("truth", "found", "expected"),
    [
        # Recall ends at 1/2: 51 of the 101 recalls have precision 1.
        pytest.param(
            truth_of(a=[LEFT, RIGHT]), found_of(a=[(LEFT, 0.9)]), (51 / 101, 51 / 101, 51 / 101, 0.5), id="half"
        ),
        pytest.param(
            truth_of(a=[LEFT]), found_of(a=[((0, 0, 10, 5), 0.9)]), (0.1, 1, 0, 0.1), id="IoU of .5 is a match"
        ),
        # IoU .77: a match at .50 to .75.
        pytest.param(truth_of(a=[LEFT]), found_of(a=[((0, 0, 10, 7.7), 0.9)]), (0.6, 1, 1, 0.6), id="six thresholds"),
        # The best truth of the second detection is taken; of the other it covers 105 of 120: a match at .50 to .85.
        pytest.param(
            truth_of(a=[(0, 0, 10, 10), (0, 0, 10, 12)]),
            found_of(a=[((0, 0, 10, 10), 0.9), ((0, 0, 10, 10.5), 0.8)]),
            ((8 + 2 * 51 / 101) / 10, 1, 1, 0.9),
            id="a free truth will do",
        ),
        # A box on the image without any comes first: precision 1/2 at every recall.
        pytest.param(
            truth_of(a=[LEFT], b=[]), found_of(a=[(LEFT, 0.5)], b=[(LEFT, 0.75)]), (0.5, 0.5, 0.5, 1), id="empty image"
        ),
        pytest.param(truth_of(a=[LEFT], b=[]), {}, (0, 0, 0, 0), id="nothing found"),
        pytest.param(
            truth_of(a=[LEFT]), found_of(a=[(RIGHT, 0.9)] * 100 + [(LEFT, 0.5)]), (0, 0, 0, 0), id="the 101st"
        ),
        pytest.param(truth_of(a=[], b=[]), found_of(a=[(LEFT, 0.9)]), (None,) * 4, id="no truth"),
        pytest.param({}, {}, (None,) * 4, id="no images"),
    ],
)
def test_hand_worked(truth, found, expected):
    values = coco_figures(truth, found, ONE)
    assert tuple(values) == NAMES
    assert list(values.values()) == [None if value is None else pytest.approx(value, abs=1e-12) for value in expected]


def test_a_class_without_truth_stays_out_of_the_means():
    found = {"a": Detections([LEFT, RIGHT], [1, 0], [0.9, 0.95], SIZE)}
    assert coco_figures({"a": BoxLabels([LEFT], [1], SIZE)}, found, TWO) == pytest.approx(dict.fromkeys(NAMES, 1))


def test_nothing_goes_to_stdout(capfd):
    coco_figures(truth_of(a=[LEFT]), found_of(a=[(LEFT, 0.9)]), ONE)
    assert capfd.readouterr() == ("", "")


def test_a_prediction_of_another_image_is_refused():
    with pytest.raises(ValueError, match="prediction for image x"):
        coco_figures(truth_of(a=[LEFT]), found_of(x=[(LEFT, 0.9)]), ONE)


@pytest.fixture(scope="module")
def rough(tmp_path_factory) -> tuple[Dataset, dict[str, Detections]]:
    """40 images of two classes, and boxes around their truth with scores of two digits: many are equal."""
    rng, records, truth, found = np.random.default_rng(0), [], {}, {}
    for number in rng.permutation(40):
        name, size = f"image{number}", ImageSize(int(rng.integers(200, 300)), 250)
        records.append(ImageRecord(name, name, name, f"images/{name}.png", size, size, [1], "val"))
        true = int(rng.integers(0, 4))
        truth[name] = BoxLabels(draw(rng, true), rng.integers(0, 2, true), size)
        near = np.clip(truth[name].xyxy + rng.normal(0, 5, (true, 4)), 0, (size.width, 250) * 2)
        far = draw(rng, int(rng.integers(0, 6)))
        if number % 10:
            kinds = np.concatenate([truth[name].class_ids, rng.integers(0, 2, len(far))])
            found[name] = Detections(
                np.concatenate([near, far]), kinds, rng.uniform(size=true + len(far)).round(2), size
            )
    root = tmp_path_factory.mktemp("rough")
    labels = LabelSpace("any", ("ill",))
    return write_dataset(root, records, truth, source="test", labels=labels, classes=TWO, bit_depth=8), found


def draw(rng: np.random.Generator, count: int) -> np.ndarray:
    corner, extent = rng.uniform(0, 120, (count, 2)), rng.uniform(40, 80, (count, 2))
    return np.concatenate([corner, corner + extent], axis=1)


@pytest.mark.parametrize("part", [40, 25], ids=["all images", "a part"])
def test_equals_pycocotools_from_files(rough, tmp_path: Path, part: int):
    dataset, found = rough
    kept = sorted(dataset.boxes)[:part]
    write_detections(tmp_path / "found.json", dataset, found)
    known = COCO(str(dataset.root / "annotations.json"))
    evaluation = COCOeval(known, known.loadRes(str(tmp_path / "found.json")), "bbox")
    evaluation.params.imgIds = list(range(1, part + 1))
    evaluation.evaluate()
    evaluation.accumulate()
    evaluation.summarize()
    expected = [evaluation.stats[k] for k in (0, 1, 2, 8)]
    truth = {name: dataset.boxes[name] for name in reversed(kept)}
    values = coco_figures(truth, {name: boxes for name, boxes in found.items() if name in truth}, TWO)
    assert list(values.values()) == pytest.approx(expected, abs=1e-12)
    assert 0.2 < values["coco_ap"] < 0.6


def test_figures_of_a_detector_hold_both_scores_and_are_json(rough):
    dataset, found = rough
    figures = json.loads(json.dumps(detector_figures(dataset, dataset.records, found)))
    assert {name: figures[name] for name in NAMES} == coco_figures(dataset.boxes, found, TWO)
    assert list(figures["ap"]) == ["a", "b"]
    assert figures["coco_ap50"] == pytest.approx(figures["ap50"], abs=0.02)  # other rules, other sampling
    assert figures["threshold"] == figures["operating_points"]["a"]["threshold"]
