"""`siimdet write`: a data set as COCO, YOLO or CSV, with copies of its images and of nothing else."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from pycocotools.coco import COCO

from siimdet.core.types import BoxLabels, ImageRecord, ImageSize, LabelSpace
from siimdet.data.dataset import Dataset
from siimdet.data.export import MARK, export
from siimdet.data.manifest import write_dataset
from siimdet.errors import DatasetError
from siimdet.imaging.png import write_png

SPACE = LabelSpace("things", ("heart", "lung"))
SIZE = ImageSize(16, 12)


def make(root: Path, *, bit_depth: int = 8, coco_ids: tuple[str, ...] = ("", "", "")) -> Dataset:
    """a has two boxes, b none and is of the same patient; c is a test image."""
    boxes = {
        "a": BoxLabels([[1, 2, 5.5, 8], [0, 0, 16, 12]], [1, 0], SIZE),  # type: ignore[arg-type]
        "b": BoxLabels.empty(SIZE),
        "c": BoxLabels([[3, 3, 4, 4]], [1], SIZE),  # type: ignore[arg-type]
    }
    records = []
    for name, split, patient, number in zip("abc", ("train", "val", "test"), ("p1", "p1", "p2"), coco_ids, strict=True):
        pixels = np.random.default_rng(ord(name)).integers(0, 1 << bit_depth, (12, 16)).astype(f"u{bit_depth // 8}")
        write_png(root / "images" / f"{name}.png", pixels)
        record = ImageRecord(
            image_id=name,
            study_id=f"s{name}",
            patient_id=patient,
            path=f"images/{name}.png",
            stored=SIZE,
            original=ImageSize(32, 24),
            labels=np.zeros(2, np.float32),
            split=split,  # type: ignore[arg-type]
            source={"coco_id": number} if number else {},
        )
        records.append(record)
    return write_dataset(root, records, boxes, source="test", labels=SPACE, classes=SPACE, bit_depth=bit_depth)


def files_of(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


IMAGES = {"images/a.png", "images/b.png", "images/c.png"}


@pytest.mark.parametrize(
    ("format_name", "labels"),
    [
        ("coco", {"annotations.json"}),
        ("csv", {"boxes.csv", "classes.csv"}),
        (
            "yolo",
            {"data.yaml", "train.txt", "val.txt", "test.txt", "labels/a.txt", "labels/b.txt", "labels/c.txt"},
        ),
    ],
)
def test_labels_beside_copies_of_the_images_and_a_second_run_changes_nothing(tmp_path, format_name, labels):
    dataset = make(tmp_path / "set")
    before = files_of(dataset.root)
    for _ in range(2):
        export(dataset, format_name, tmp_path / "out")
        written = files_of(tmp_path / "out")
        assert written.keys() == IMAGES | labels | {MARK}
        assert {name: written[name] for name in IMAGES} == {name: before[name] for name in IMAGES}
    assert files_of(dataset.root) == before


def test_coco(tmp_path):
    export(make(tmp_path / "set"), "coco", tmp_path / "out")
    content = json.loads((tmp_path / "out" / "annotations.json").read_text())
    shared = {"width": 16, "height": 12}
    assert content["images"] == [
        {"id": 1, "file_name": "images/a.png", **shared, "split": "train", "patient_id": "p1", "study_id": "sa"},
        {"id": 2, "file_name": "images/b.png", **shared, "split": "val", "patient_id": "p1", "study_id": "sb"},
        {"id": 3, "file_name": "images/c.png", **shared, "split": "test", "patient_id": "p2", "study_id": "sc"},
    ]
    assert [(entry["image_id"], entry["category_id"], entry["bbox"]) for entry in content["annotations"]] == [
        (1, 2, [1, 2, 4.5, 6]),
        (1, 1, [0, 0, 16, 12]),
        (3, 2, [3, 3, 1, 1]),
    ]
    assert content["categories"] == [{"id": 1, "name": "heart"}, {"id": 2, "name": "lung"}]


@pytest.mark.parametrize(
    ("cells", "expected"),
    [
        (("70", "-9", "1234567890123"), [70, -9, 1234567890123]),
        (("7", "7", "8"), [1, 2, 3]),
        (("7", "", "8"), [1, 2, 3]),
        (("7", "eight", "9"), [1, 2, 3]),
    ],
)
def test_the_ids_of_a_coco_source_come_back_where_they_are_whole(tmp_path, capsys, cells, expected):
    export(make(tmp_path / "set", coco_ids=cells), "coco", tmp_path / "out")
    coco = COCO(str(tmp_path / "out" / "annotations.json"))
    assert list(coco.imgs) == expected
    assert [len(coco.getAnnIds(imgIds=number)) for number in expected] == [2, 0, 1]


def test_csv(tmp_path):
    export(make(tmp_path / "set"), "csv", tmp_path / "out")
    assert (tmp_path / "out" / "boxes.csv").read_text() == (
        "image_id,class_name,class_id,x_min,y_min,x_max,y_max,width,height,split,patient_id,study_id\n"
        "a,lung,1,1.0,2.0,5.5,8.0,16,12,train,p1,sa\n"
        "a,heart,0,0.0,0.0,16.0,12.0,16,12,train,p1,sa\n"
        "b,,,,,,,16,12,val,p1,sb\n"
        "c,lung,1,3.0,3.0,4.0,4.0,16,12,test,p2,sc\n"
    )
    assert (tmp_path / "out" / "classes.csv").read_text() == "class_id,class_name\n0,heart\n1,lung\n"


def test_yolo(tmp_path):
    export(make(tmp_path / "set"), "yolo", tmp_path / "out")
    text = {name: content.decode() for name, content in files_of(tmp_path / "out").items() if name not in IMAGES}
    assert text["labels/a.txt"] == "1 0.203125 0.416666666667 0.28125 0.5\n0 0.5 0.5 1 1\n"
    assert text["labels/b.txt"] == ""
    assert (text["train.txt"], text["val.txt"]) == ("./images/a.png\n", "./images/b.png\n")


def test_yolo_of_sixteen_bits_is_refused_before_anything_is_written(tmp_path):
    with pytest.raises(DatasetError, match="bit_depth: found 16, expected 8 for YOLO"):
        export(make(tmp_path / "set", bit_depth=16), "yolo", tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("place", ["annotations.csv", "images/theirs.jpg", "labels/theirs.txt", "notes/a.txt"])
def test_what_others_have_in_the_folder_is_not_written_over(tmp_path, place):
    (tmp_path / "out" / place).parent.mkdir(parents=True)
    (tmp_path / "out" / place).write_text("theirs")
    (tmp_path / "out" / "annotations.json").write_text("theirs")
    before = files_of(tmp_path / "out")
    with pytest.raises(DatasetError) as caught:
        export(make(tmp_path / "set"), "coco", tmp_path / "out")
    expected = "a new folder, or one that this very data set was written to in this format"
    assert str(caught.value) == f"{tmp_path / 'out'}: --out: found other files, expected {expected}"
    assert files_of(tmp_path / "out") == before


def test_a_data_set_is_not_written_over(tmp_path):
    dataset = make(tmp_path / "set")
    make(tmp_path / "other")
    for out in (tmp_path / "set", tmp_path / "set" / "images" / "..", tmp_path / "other"):
        with pytest.raises(DatasetError, match="--out: found other files, expected a new folder"):
            export(dataset, "coco", out)


def test_the_raw_set_that_it_came_from_is_not_written_over(tmp_path):
    # All of its names are ours too, but its images are not.
    export(make(tmp_path / "set"), "coco", tmp_path / "raw")
    (tmp_path / "raw" / MARK).unlink()
    before = files_of(tmp_path / "raw")
    with pytest.raises(DatasetError, match="--out: found other files"):
        export(make(tmp_path / "other"), "coco", tmp_path / "raw")
    assert files_of(tmp_path / "raw") == before


def test_an_export_of_other_data_or_another_format_is_not_written_over(tmp_path):
    export(make(tmp_path / "set"), "coco", tmp_path / "out")
    for dataset, format_name in (
        (make(tmp_path / "set"), "csv"),
        (make(tmp_path / "x", coco_ids=("7", "8", "9")), "coco"),
    ):
        with pytest.raises(DatasetError, match="--out: found other files"):
            export(dataset, format_name, tmp_path / "out")


def test_a_data_set_without_classes_of_boxes_is_one_clear_line(tmp_path):
    dataset = replace(make(tmp_path / "set"), classes=LabelSpace("none", ()))
    with pytest.raises(DatasetError, match=r"dataset\.json: classes: found none, expected classes of boxes"):
        export(dataset, "coco", tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_missing_image_and_a_file_in_the_way_are_one_clear_line(tmp_path):
    dataset = make(tmp_path / "set")
    (tmp_path / "file").write_text("")
    with pytest.raises(DatasetError, match="--out: found other files, expected a new folder"):
        export(dataset, "csv", tmp_path / "file")
    (dataset.root / "images" / "b.png").unlink()
    with pytest.raises(DatasetError, match=r"b\.png: image: found No such file or directory, expected the image of"):
        export(dataset, "csv", tmp_path / "out")
