"""COCO detection sets as others write them: what is read, and every way in which they can be wrong."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from converters import SOURCES
from converters.run import convert
from siimdet.core.types import ImageSize
from siimdet.imaging.png import write_png


def content() -> dict[str, Any]:
    """Sparse ids in no order, a crowd, segmentations, an image below a folder of its own and one without boxes."""
    return {
        "info": {"year": 2026},
        "images": [
            {"id": 70, "file_name": "b (1).png", "width": 32, "height": 24, "coco_url": "http://nowhere"},
            {"id": 9, "file_name": "sub/a.png", "width": 16, "height": 12},
            {"id": 1234567890123, "file_name": "c.png", "width": 16, "height": 12, "split": "test", "patient_id": 7},
        ],
        "annotations": [
            {"id": 5, "image_id": 70, "category_id": 90, "bbox": [2, 4, 8.5, 6], "segmentation": [[2, 4, 8, 4, 8, 9]]},
            {"id": 2, "image_id": 9, "category_id": 3, "bbox": [1, 1, 4, 4], "iscrowd": 0, "area": 16},
            {"id": 3, "image_id": 9, "iscrowd": 1, "segmentation": {"counts": [3, 4], "size": [12, 16]}},
        ],
        "categories": [{"id": 90, "name": "opacity", "supercategory": "lung"}, {"id": 3, "name": "heart"}],
    }


@pytest.fixture
def write(tmp_path, pictures) -> Callable[[Any], Path]:
    raw = pictures(tmp_path / "raw", "images/b (1).png", "sub/a.png", "images/c.png")

    def annotate(value: Any) -> Path:
        text = value if isinstance(value, bytes) else json.dumps(value).encode()
        (raw / "annotations.json").write_bytes(text)
        return raw

    return annotate


def test_a_coco_set(write, tmp_path, rows_of):
    dataset = convert(SOURCES["coco"], write(content()), tmp_path / "out", workers=1).dataset
    assert dataset.classes.names == dataset.labels.names == ("heart", "opacity")
    records = {r.image_id: r for r in dataset.records}
    assert {name: (r.source["coco_id"], r.source["file"]) for name, r in records.items()} == {
        "a": ("9", "sub/a.png"),
        "b__1_": ("70", "images/b (1).png"),
        "c": ("1234567890123", "images/c.png"),
    }
    assert (records["b__1_"].stored, records["b__1_"].original) == (ImageSize(16, 12), ImageSize(32, 24))
    assert dataset.boxes["b__1_"].xyxy.tolist() == [[1, 2, 5.25, 5]]
    assert {name: boxes.class_ids.tolist() for name, boxes in dataset.boxes.items()} == {
        "a": [0],
        "b__1_": [1],
        "c": [],
    }
    assert {name: r.labels.tolist() for name, r in records.items()} == {"a": [1, 0], "b__1_": [0, 1], "c": [0, 0]}
    assert (records["c"].split, records["c"].patient_id, records["c"].study_id) == ("test", "7", "c")
    assert rows_of(tmp_path / "out" / "repairs.csv") == [
        ["a", "annotation 3", "iscrowd 1", ""],
        ["b__1_", "image_id", "b (1)", "b__1_"],
    ]


def test_patients_and_studies_that_no_id_can_hold_are_mended(write):
    value = content()
    value["images"][0] |= {"patient_id": "Eva M", "study_id": None}
    item = next(item for item in SOURCES["coco"].read(write(value)).items if item.image_id == "b__1_")
    assert (item.patient_id, item.study_id) == ("Eva_M", "b__1_")
    assert item.repairs[1:] == (("b__1_", "patient_id", "Eva M", "Eva_M"),)


def test_a_mark_and_windows_paths_are_no_obstacle(write, tmp_path):
    value = content()
    value["images"][1]["file_name"] = ".\\sub\\a.png"
    raw = write(b"\xef\xbb\xbf" + json.dumps(value, indent=1).replace("\n", "\r\n").encode())
    assert convert(SOURCES["coco"], raw, tmp_path / "out", workers=1).failures == 0


@pytest.mark.parametrize(
    ("bbox", "reason"),
    [
        ([-5, 2, 100, 200], None),
        ([20, 2, -4, 4], "box 1: found inverted 20 2 16 6, expected x1 < x2 and y1 < y2"),
        ([20, 2, 0, 4], "box 1: found zero-sized 20 2 20 6, expected x1 < x2 and y1 < y2"),
        ([40, 2, 4, 4], "box 1: found 40 2 44 6, expected not wholly outside the 32x24 image"),
        ([float("nan"), 2, 4, 4], "box 1: found nan 2 nan 6, expected finite numbers"),
        ([float("inf"), 2, float("-inf"), 4], "box 1: found inf 2 nan 6, expected finite numbers"),
    ],
)
def test_boxes_are_judged_image_by_image(write, tmp_path, rows_of, bbox, reason):
    value = content()
    value["annotations"][0]["bbox"] = bbox
    convert(SOURCES["coco"], write(value), tmp_path / "out", workers=1)
    failures = rows_of(tmp_path / "out" / "failures.csv")
    assert failures == ([["b__1_", "images/b (1).png", reason]] if reason else [])
    clipped = ["b__1_", "box 1 xyxy", "-5 2 95 202", "0 2 32 24"]
    assert (clipped in rows_of(tmp_path / "out" / "repairs.csv")) == (reason is None)


def test_an_image_that_was_turned_before_it_was_labelled_is_refused(write, tmp_path, rows_of):
    raw = write(content())
    write_png(raw / "images" / "b (1).png", np.arange(32 * 24, dtype=np.uint16).reshape(32, 24))
    convert(SOURCES["coco"], raw, tmp_path / "out", workers=1)
    reason = "original size: found a copy of 24x32, expected 32x24 as the labels say"
    assert rows_of(tmp_path / "out" / "failures.csv") == [["b__1_", "images/b (1).png", reason]]


def test_an_image_that_is_not_there_is_named(write, tmp_path, rows_of):
    raw = write(content())
    (raw / "images" / "c.png").unlink()
    (raw / "images" / "c.png").mkdir()
    convert(SOURCES["coco"], raw, tmp_path / "out", workers=1)
    reason = "image file: found none, expected images/c.png"
    assert rows_of(tmp_path / "out" / "failures.csv") == [["c", "images/c.png", reason]]


@pytest.mark.parametrize(
    ("place", "value", "complaint"),
    [
        (("images",), {"1": {}}, "images: found dict, expected a list of objects"),
        (("images",), [1], "images: found list, expected a list of objects"),
        (("annotations",), None, "annotations: found NoneType, expected a list of objects"),
        (("categories",), "opacity", "categories: found str, expected a list of objects"),
        (("images", 0, "id"), "70", "images[0].id: found 70, expected a whole number of its own"),
        (("images", 0, "id"), True, "images[0].id: found True, expected a whole number of its own"),
        (("images", 1, "id"), 70, "images[1].id: found 70, expected a whole number of its own"),
        (("images", 0, "file_name"), None, "images[0].file_name: found None, expected a name of its own"),
        (("images", 2, "file_name"), "sub/a.png", "images[2].file_name: found sub/a.png, expected a name of its own"),
        (("images", 2, "file_name"), "./sub/a.png", "images: found sub/a.png under two names, expected every file"),
        (("images", 0, "file_name"), "../b.png", "file_name: found '../b.png', expected a path below the raw folder"),
        (("images", 0, "file_name"), "/etc/b.png", "file_name: found '/etc/b.png', expected a path below the raw"),
        (("images", 0, "file_name"), "\ud800.png", "file_name: found '\\ud800.png', expected a path below the raw"),
        (("images", 0, "file_name"), "a\rb.png", "file_name: found 'a\\rb.png', expected a path below the raw folder"),
        (("images", 0, "width"), None, "images[0].width, height: found [None, 24], expected whole numbers of 1 to"),
        (("images", 0, "width"), 0, "images[0].width, height: found [0, 24], expected whole numbers of 1 to 65535"),
        (("images", 0, "height"), 24.5, "images[0].width, height: found [32, 24.5], expected whole numbers of 1 to"),
        (("images", 0, "height"), 10**40, "images[0].width, height: found [32, 1000000"),
        (("images", 0, "split"), "dev", "images[0].split: found dev, expected train or val or test"),
        (("images", 0, "split"), {}, "images[0].split: found {}, expected train or val or test"),
        (("images", 0, "patient_id"), [7], "image 70.patient_id: found [7], expected text"),
        (("images", 0, "study_id"), "\ud800", "image 70.study_id: found '\\ud800', expected text"),
        (("annotations", 0, "image_id"), 71, "annotations[0].image_id: found 71, expected the id of an image"),
        (("annotations", 0, "category_id"), 1, "annotations[0].category_id: found 1, expected the id of a category"),
        (("annotations", 0, "category_id"), None, "annotations[0].category_id: found None, expected the id of"),
        (("annotations", 0, "iscrowd"), "no", "annotations[0].iscrowd: found no, expected 0 or 1"),
        (("annotations", 0, "bbox"), None, "annotations[0].bbox: found None, expected four numbers: x, y, width"),
        (("annotations", 0, "bbox"), [1, 2, 3], "annotations[0].bbox: found [1, 2, 3], expected four numbers"),
        (("annotations", 0, "bbox"), {"x": 1}, "annotations[0].bbox: found {'x': 1}, expected four numbers"),
        (("annotations", 0, "bbox"), [1, 2, 3, "4"], "annotations[0].bbox: found [1, 2, 3, '4'], expected four"),
        (("annotations", 0, "bbox"), [1, 2, 3, 10**400], "annotations[0].bbox: found [1, 2, 3, 1000000"),
        (("categories", 1, "id"), 90, "categories[1]: found 90 'heart', expected an id and a name of its own"),
        (("categories", 1, "name"), "opacity", "categories[1]: found 3 'opacity', expected an id and a name of its"),
        (("categories", 1, "name"), None, "categories[1]: found 3 None, expected an id and a name of its own"),
        (("categories", 1, "name"), "", "class: found '', expected a name without blanks at its ends, on one line"),
        (("categories", 1, "name"), "\ud800", "class: found '\\ud800', expected a name without blanks at its ends"),
        (("categories", 1, "name"), "coco_id", "class: found 'coco_id', a column of manifest.csv, expected another"),
        (("categories", 1, "name"), "width", "class: found 'width', a column of manifest.csv, expected another name"),
    ],
)
def test_broken_coco_sets(write, complaint_of, place, value, complaint):
    broken = part = content()
    for key in place[:-1]:
        part = part[key]
    part[place[-1]] = value
    assert complaint_of("coco", write(broken)).removeprefix("annotations.json: ").startswith(complaint)


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        (b"[]", "content: found list, expected a COCO object"),
        (b"{", "content: found Expecting property name"),
        (b"\xff\xff\xff", "content: found 'utf-8' codec can't decode"),
        (b"{}", "categories: found NoneType, expected a list of objects"),
        (b'{"images": [], "annotations": [], "categories": []}', "images: found none of the 0 labelled images"),
    ],
)
def test_files_that_are_no_coco_set(write, complaint_of, text, complaint):
    assert complaint_of("coco", write(text)).removeprefix("annotations.json: ").startswith(complaint)


def test_a_missing_annotations_file_is_named(write, complaint_of):
    raw = write(content())
    (raw / "annotations.json").unlink()
    assert complaint_of("coco", raw).startswith("annotations.json: file: found No such file or directory, expected a")
    (raw / "annotations.json").mkdir()
    assert complaint_of("coco", raw).startswith("annotations.json: file: found Is a directory, expected a COCO")
