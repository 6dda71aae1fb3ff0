"""The distributions of small data sets whose figures can be told by hand."""

import json
import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from siimdet.core.types import SPLITS, BoxLabels, ImageRecord, ImageSize, LabelSpace
from siimdet.data.dataset import Dataset
from siimdet.data.distributions import GRID, box_positions, distributions
from siimdet.data.summary import summarise
from siimdet.errors import DatasetError

LABELS = LabelSpace("findings", ("mass", "nodule"))
CLASSES = LabelSpace("boxes", ("mass", "nodule", "effusion"))
NAN = math.nan


def record(name: str, size: tuple[int, int] = (100, 200), **changes) -> ImageRecord:
    fields = {"study_id": name, "patient_id": name, "labels": (0, 0), "split": "train", "original": size} | changes
    fields["original"] = ImageSize(*fields["original"])
    return ImageRecord(image_id=name, path=f"images/{name}.png", stored=ImageSize(*size), **fields)


def dataset(records: list[ImageRecord], boxes: dict[str, list[tuple[int, list[float]]]] | None = None) -> Dataset:
    truth = {r.image_id: BoxLabels.empty(r.stored) for r in records}
    for name, found in (boxes or {}).items():
        xyxy, class_ids = [box for _, box in found], [class_id for class_id, _ in found]
        truth[name] = BoxLabels(xyxy, class_ids, truth[name].size)  # type: ignore[arg-type]
    return Dataset(Path("set"), "siim", LABELS, CLASSES, 8, tuple(records), truth, "0" * 64)


def test_labels_are_counted_by_split():
    records = [record("a", labels=(1, 0)), record("b", labels=(1, NAN)), record("c", labels=(0, 1), split="test")]
    found = distributions(dataset(records))["labels"]
    assert found["train"] == {
        "mass": {"positive": 2, "negative": 0, "unknown": 0},
        "nodule": {"positive": 0, "negative": 1, "unknown": 1},
    }
    assert found["val"] == {name: {"positive": 0, "negative": 0, "unknown": 0} for name in LABELS.names}
    assert found["test"]["nodule"] == {"positive": 1, "negative": 0, "unknown": 0}


def test_a_study_is_positive_if_one_of_its_images_is():
    records = [
        record("a", study_id="s1", labels=(0, NAN)),
        record("b", study_id="s1", labels=(1, 0)),
        record("c", study_id="s2", labels=(0, 0), split="val"),
    ]
    found = distributions(dataset(records))["study_labels"]
    assert list(found) == ["all", *SPLITS]
    assert found["train"]["mass"] == {"positive": 1, "negative": 0, "unknown": 0}
    assert found["train"]["nodule"] == {"positive": 0, "negative": 0, "unknown": 1}
    assert found["all"]["nodule"] == {"positive": 0, "negative": 1, "unknown": 1}


def test_no_study_labels_where_every_image_is_a_study():
    assert distributions(dataset([record("a"), record("b")]))["study_labels"] is None


def test_boxes_per_image_and_by_class():
    boxes = {"a": [(0, [0, 0, 10, 10]), (1, [0, 0, 10, 10]), (1, [5, 5, 20, 20])], "b": [(0, [0, 0, 50, 50])]}
    found = distributions(dataset([record("a"), record("b", split="val"), record("c")], boxes))
    assert found["boxes_per_image"]["all"] == {"0": 1, "1": 1, "3": 1}
    assert found["boxes_per_image"]["classes"] == {
        "mass": {"0": 1, "1": 2},
        "nodule": {"0": 2, "2": 1},
        "effusion": {"0": 3},
    }
    assert found["classes"]["train"] == {"mass": 1, "nodule": 2, "effusion": 0}
    assert found["classes"]["val"] == {"mass": 1, "nodule": 0, "effusion": 0}


def test_box_sizes_are_fractions_of_their_own_image():
    boxes = {"a": [(0, [0, 0, 10, 100])], "b": [(0, [0, 0, 500, 500]), (0, [100, 100, 1000, 200])]}
    found = distributions(dataset([record("a", (100, 200)), record("b", (1000, 1000))], boxes))["box_sizes"]
    names = ("least", "lower_quartile", "median", "upper_quartile", "most")
    assert found["all"]["width"] == pytest.approx(dict(zip(names, (0.1, 0.3, 0.5, 0.7, 0.9), strict=True)))
    assert found["all"]["height"] == pytest.approx(dict(zip(names, (0.1, 0.3, 0.5, 0.5, 0.5), strict=True)))
    assert found["all"]["area"] == pytest.approx(dict(zip(names, (0.05, 0.07, 0.09, 0.17, 0.25), strict=True)))
    assert found["classes"] == {"mass": found["all"], "nodule": None, "effusion": None}


def test_the_map_has_x_rightwards_and_y_downwards():
    boxes = {"a": [(0, [50, 0, 100, 50])], "b": [(1, [0, 0, 100, 200])]}
    found = distributions(dataset([record("a"), record("b")], boxes))["box_positions"]
    assert (found["columns"], found["rows"]) == (GRID, GRID)
    mass = np.array(found["classes"]["mass"])
    assert mass[: GRID // 4, GRID // 2 :].all() and mass.sum() == GRID * GRID // 8
    assert (np.array(found["classes"]["nodule"]) == 1).all()
    assert (np.array(found["all"]) == mass + 1).all()
    assert not np.any(found["classes"]["effusion"])


edge = st.floats(0, 1, width=32)


@given(st.lists(st.tuples(edge, edge, edge, edge).filter(lambda b: b[0] != b[2] and b[1] != b[3]), max_size=8))
def test_the_map_counts_the_boxes_that_overlap_each_cell(corners):
    boxes = np.array(corners, np.float64).reshape(-1, 2, 2)
    boxes = np.concatenate([boxes.min(axis=1), boxes.max(axis=1)], axis=1)
    expected = np.zeros((GRID, GRID), np.int64)
    for x1, y1, x2, y2 in boxes.tolist():
        for row in range(GRID):
            for column in range(GRID):
                across = x1 < (column + 1) / GRID and x2 > column / GRID
                expected[row, column] += across and y1 < (row + 1) / GRID and y2 > row / GRID
    np.testing.assert_array_equal(box_positions(boxes), expected)


def test_image_sizes_list_the_most_frequent_first():
    records = [record(f"a{i}", (10, 20)) for i in range(3)] + [record("b", (5, 5), original=(50, 50))]
    records += [record(f"c{i}", (30 + i, 30)) for i in range(12)]
    found = distributions(dataset(records))["image_sizes"]
    assert found["stored"]["different"] == found["original"]["different"] == 14
    assert found["stored"]["common"][:2] == [
        {"width": 10, "height": 20, "images": 3},
        {"width": 5, "height": 5, "images": 1},
    ]
    assert len(found["stored"]["common"]) == 10
    assert {"width": 50, "height": 50, "images": 1} not in found["original"]["common"], "the tenth by size is smaller"


def test_bits_and_photometric_come_from_the_source_columns():
    columns = [
        {"bits": "12", "photometric": "MONOCHROME1"},
        {"bits": "8", "photometric": ""},
        {"bits": "16", "photometric": "MONOCHROME2"},
        {"bits": "", "photometric": "MONOCHROME2"},
        {},
    ]
    found = distributions(dataset([record(f"a{i}", source=source) for i, source in enumerate(columns)]))
    assert list(found["bits"].items()) == [("8", 1), ("12", 1), ("16", 1), ("unknown", 2)]
    assert found["photometric"] == {"MONOCHROME1": 1, "MONOCHROME2": 2, "none": 1, "unknown": 1}


def test_without_labels_boxes_or_images_there_are_no_figures():
    bare = replace(dataset([record("a", labels=())]), labels=LabelSpace("none", ()), classes=LabelSpace("none", ()))
    found = distributions(bare)
    assert found["labels"] == {split: {} for split in SPLITS}
    assert found["boxes_per_image"] == {"all": {"0": 1}, "classes": {}}
    assert found["box_sizes"] == {"all": None, "classes": {}}
    assert not np.any(found["box_positions"]["all"])
    empty = distributions(dataset([]))
    assert (empty["bits"], empty["boxes_per_image"]["all"], empty["image_sizes"]["stored"]["different"]) == ({}, {}, 0)


def test_the_summary_holds_them_as_plain_json():
    data = dataset([record("a"), record("b")], {"a": [(0, [0, 0, 10, 10])]})
    summary = summarise(data)
    assert json.loads(json.dumps(summary)) == summary
    assert summary["distributions"] == distributions(data)


@pytest.mark.parametrize("counts", [None, {}, {"labels": None}])
def test_without_published_counts_there_are_none(counts):
    assert summarise(replace(dataset([record("a")]), details={"counts": counts}))["published"] is None


@pytest.mark.parametrize(
    "counts", [[1], "x", {"labels": "x"}, {"labels": {"images": NAN}}, {"labels": {"images": "5"}}]
)
def test_broken_published_counts_are_named(counts):
    broken = replace(dataset([record("a")]), details={"counts": counts})
    with pytest.raises(DatasetError, match=r"dataset\.json: counts\.labels: found .*, expected an object"):
        summarise(broken)
