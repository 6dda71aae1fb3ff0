"""Boxes keep their pixels through COCO and YOLO files, and detections through COCO results."""

import json
import warnings
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pycocotools.coco import COCO

from siimdet.core.boxes import cxcywhn_to_xyxy
from siimdet.core.types import BoxLabels, Detections, ImageRecord, ImageSize, LabelSpace
from siimdet.data.coco import coco_ids, read_detections, write_detections
from siimdet.data.manifest import Dataset, read_dataset, write_dataset
from siimdet.data.yolo import label_path, write_yolo
from siimdet.errors import DatasetError

SPACE = LabelSpace("things", ("one", "two", "three"))


def make(root: Path, boxes: dict[str, BoxLabels]) -> Dataset:
    records = [
        ImageRecord(name, name, name, f"images/{name}.png", truth.size, truth.size, np.zeros(3), "train")  # type: ignore[arg-type]
        for name, truth in boxes.items()
    ]
    return write_dataset(root, records, boxes, source="test", labels=SPACE, classes=SPACE, bit_depth=8)


@st.composite
def labelled_images(draw) -> BoxLabels:
    size = ImageSize(draw(st.integers(1, 5000)), draw(st.integers(1, 5000)))
    inside = st.floats(0, 1, width=32)
    rows = draw(st.lists(st.tuples(inside, inside, inside, inside), max_size=5))
    corners = np.array(rows, np.float32).reshape(-1, 4) * np.array([size.width, size.height] * 2, np.float32)
    xyxy = np.concatenate([np.minimum(corners[:, :2], corners[:, 2:]), np.maximum(corners[:, :2], corners[:, 2:])], 1)
    xyxy = xyxy[(xyxy[:, 2:] > xyxy[:, :2]).all(1)]
    return BoxLabels(xyxy, draw(st.lists(st.integers(0, 2), min_size=len(xyxy), max_size=len(xyxy))), size)  # type: ignore[arg-type]


@given(images=st.lists(labelled_images(), min_size=1, max_size=3))
def test_coco_returns_the_boxes_exactly_and_yolo_to_a_millionth_of_a_pixel(tmp_path_factory, images):
    root = tmp_path_factory.mktemp("set")
    written = make(root, {f"image{i}": truth for i, truth in enumerate(images)})
    write_yolo(written)
    dataset = read_dataset(root)
    for record, truth in zip(dataset.records, images, strict=True):
        found = dataset.boxes[record.image_id]
        np.testing.assert_array_equal(found.xyxy, truth.xyxy)
        np.testing.assert_array_equal(found.class_ids, truth.class_ids)
        rows = [line.split() for line in label_path(root, record).read_text().splitlines()]
        assert [int(row[0]) for row in rows] == truth.class_ids.tolist()
        fractions = np.array([[float(cell) for cell in row[1:]] for row in rows]).reshape(-1, 4)
        np.testing.assert_allclose(cxcywhn_to_xyxy(fractions, truth.size), truth.xyxy, rtol=0, atol=1e-6)


def test_pycocotools_loads_the_annotations(tmp_path, capsys):
    size = ImageSize(40, 30)
    boxes = {"b": BoxLabels.empty(size), "a": BoxLabels([[1, 2, 4, 8]], [2], size), "c": BoxLabels.empty(size)}  # type: ignore[arg-type]
    dataset = make(tmp_path, boxes)
    coco = COCO(str(tmp_path / "annotations.json"))
    assert coco_ids(dataset) == {"a": 1, "b": 2, "c": 3}
    assert [coco.imgs[i]["file_name"] for i in (1, 2, 3)] == ["images/a.png", "images/b.png", "images/c.png"]
    assert coco.anns == {1: {"id": 1, "image_id": 1, "category_id": 3, "bbox": [1, 2, 3, 6], "area": 18, "iscrowd": 0}}
    assert [category["name"] for category in coco.loadCats(coco.getCatIds())] == list(SPACE.names)


@pytest.fixture
def dataset(tmp_path) -> Dataset:
    size = ImageSize(40, 30)
    return make(tmp_path, {name: BoxLabels.empty(size) for name in ("a", "b", "c")})


def test_detections_survive_the_disk(dataset, tmp_path):
    size = ImageSize(40, 30)
    found = Detections([[0.1, 0.2, 40, 30], [5, 6, 7.7, 8.8]], [0, 2], [0.123456789, 1], size)  # type: ignore[arg-type]
    path = tmp_path / "predictions.json"
    write_detections(path, dataset, {"c": found, "a": Detections.empty(size)})
    assert [entry["image_id"] for entry in json.loads(path.read_text())] == [3, 3]
    back = read_detections(path, dataset)
    assert back.keys() == {"c"}
    for name in ("xyxy", "class_ids", "scores"):
        np.testing.assert_array_equal(getattr(back["c"], name), getattr(found, name))


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        ('{"a": 1}', "content: found dict, expected a list of COCO results"),
        ("[1]", "[0]: found 1, expected an object"),
        ('[{"image_id": 4}]', "[0].image_id: found 4, expected an id of annotations.json"),
        ('[{"image_id": 1, "category_id": 0}]', "[0].category_id: found 0, expected 1 to 3"),
        ('[{"image_id": 1, "category_id": 1, "bbox": [1, 2, 3]}]', "[0].bbox: found [1, 2, 3], expected four numbers"),
        (
            '[{"image_id": 1, "category_id": 1, "bbox": [1, 2, 3, 4], "score": 1.5}]',
            "[0].score: found 1.5, expected a number in [0, 1]",
        ),
        (
            '[{"image_id": 1, "category_id": 1, "bbox": [39, 2, 3, 4], "score": 1}]',
            "boxes of a: found box [39.0, 2.0, 42.0, 6.0] is outside its 40x30 image",
        ),
        ("not JSON", "content: found Expecting value"),
        ("[" * 200_000, "content: found maximum recursion depth exceeded"),
        *(
            (f'[{{"image_id": 1, "category_id": 1, "bbox": [1, 1, {number}, 5], "score": 1}}]', complaint)
            for number, complaint in (
                ("9" * 400, f"[0].bbox: found [1, 1, {'9' * 193}..., expected four numbers"),
                ("9" * 5000, "content: found Exceeds the limit"),
                ("1e400", "[0].bbox: found [1, 1, inf, 5], expected four numbers"),
                ("NaN", "[0].bbox: found [1, 1, nan, 5], expected four numbers"),
                ("1e300", "[0].bbox: found [1, 1, 1e+300, 5], expected four numbers"),
                ("1e38", "boxes of a: found box [1.0, 1.0, 9.9"),
            )
        ),
        (
            f'[{{"image_id": 1, "category_id": 1, "bbox": [1, 1, 5, 5], "score": {"9" * 400}}}]',
            f"[0].score: found {'9' * 200}..., expected a number in [0, 1]",
        ),
        (f'[{{"image_id": {"9" * 400}}}]', f"[0].image_id: found {'9' * 200}..., expected an id of annotations.json"),
        (
            f'[{{"image_id": 1, "category_id": {"9" * 400}}}]',
            f"[0].category_id: found {'9' * 200}..., expected 1 to 3",
        ),
        (f'["{"a" * 50_000}"]', f"[0]: found {'a' * 200}..., expected an object"),
    ],
)
def test_broken_predictions_are_one_clear_line(dataset, tmp_path, content, complaint):
    path = tmp_path / "predictions.json"
    path.write_text(content)
    with warnings.catch_warnings(), pytest.raises(DatasetError) as caught:
        warnings.simplefilter("error")
        read_detections(path, dataset)
    assert str(caught.value).startswith(f"{path}: {complaint}")


@pytest.mark.parametrize("number", ["9" * 400, "1e400", '"5"', "true"])
def test_numbers_of_annotations_that_are_none_are_one_clear_line(dataset, number):
    path = dataset.root / "annotations.json"
    content = json.loads(path.read_text())
    content["annotations"] = [{"image_id": 1, "category_id": 1, "bbox": [1, 1, "here", 5]}]
    path.write_text(json.dumps(content).replace('"here"', number))
    with pytest.raises(DatasetError, match=r"annotations\[0\]\.bbox: found \[1, 1, .+, expected four numbers: x, y"):
        read_dataset(dataset.root)
    content["annotations"], content["images"][0]["width"] = [], "here"
    path.write_text(json.dumps(content).replace('"here"', number))
    with pytest.raises(DatasetError, match=r"images: found .*, expected \(1, .*\), as in manifest.csv"):
        read_dataset(dataset.root)


def test_a_class_of_a_data_set_without_any_is_an_integer_of_32_bits(tmp_path):
    none, size = LabelSpace("none", ()), ImageSize(40, 30)
    record = ImageRecord("a", "a", "a", "images/a.png", size, size, [], "test")  # type: ignore[arg-type]
    options = {"source": "dicom", "labels": none, "classes": none, "bit_depth": 8}
    bare = write_dataset(tmp_path, [record], {"a": BoxLabels.empty(size)}, **options)
    path = tmp_path / "predictions.json"
    entry = {"image_id": 1, "category_id": 2**31 - 1, "bbox": [1, 1, 5, 5], "score": 1}
    path.write_text(json.dumps([entry]))
    assert read_detections(path, bare)["a"].class_ids.tolist() == [2**31 - 2]
    path.write_text(json.dumps([entry | {"category_id": 2**64}]))
    with pytest.raises(DatasetError, match=f"category_id: found {2**64}, expected 1 to {2**31 - 1}"):
        read_detections(path, bare)
