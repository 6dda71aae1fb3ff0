"""What write_dataset writes, read_dataset reads; anything broken is one line with file and field."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from siimdet.core.labels import OPACITY, STUDY
from siimdet.core.types import BoxLabels, ImageRecord, ImageSize, LabelSpace
from siimdet.data.dataset import scored_records
from siimdet.data.manifest import by_split, read_dataset, training_split, write_dataset
from siimdet.data.summary import summarise
from siimdet.data.yolo import write_yolo, write_yolo_lists
from siimdet.errors import DatasetError

STORED, ORIGINAL = ImageSize(40, 30), ImageSize(400, 300)
UNKNOWN = (np.nan,) * 4


def record(number: int, split: str, fold: int | None, labels=(0, 1, 0, 0), patient: str | None = None) -> ImageRecord:
    return ImageRecord(
        image_id=f"i{number}",
        study_id=f"s{number}",
        patient_id=patient or f"p{number}",
        path=f"images/i{number}.png",
        stored=STORED,
        original=ORIGINAL,
        labels=labels,  # type: ignore[arg-type]
        split=split,  # type: ignore[arg-type]
        fold=fold,
        source={"note": f"a, {number}"},
    )


@pytest.fixture
def root(tmp_path) -> Path:
    records = [
        record(2, "val", 1),
        record(1, "train", 0, UNKNOWN),
        record(4, "test", None),
        record(3, "train", 1, patient="p2"),
    ]
    boxes = {r.image_id: BoxLabels.empty(STORED) for r in records}
    boxes["i1"] = BoxLabels([[0.1, 0.2, 12.3, 30], [5, 5, 6, 40 / 3]], [0, 0], STORED)  # type: ignore[arg-type]
    details = {"counts": {"labels": {"images": 9}}}
    write_dataset(tmp_path, records, boxes, source="siim", labels=STUDY, classes=OPACITY, bit_depth=8, details=details)
    return tmp_path


def test_a_data_set_survives_the_disk(root):
    dataset = read_dataset(root)
    assert (dataset.source, dataset.labels, dataset.classes, dataset.bit_depth) == ("siim", STUDY, OPACITY, 8)
    assert [r.image_id for r in dataset.records] == ["i1", "i2", "i3", "i4"]
    assert [(r.split, r.fold) for r in dataset.records] == [("train", 0), ("val", 1), ("train", 1), ("test", None)]
    first, second, *_ = dataset.records
    assert (first.study_id, first.patient_id, first.path) == ("s1", "p1", "images/i1.png")
    assert (first.stored, first.original, first.source) == (STORED, ORIGINAL, {"note": "a, 1"})
    assert np.isnan(first.labels).all() and second.labels.tolist() == [0, 1, 0, 0]
    expected = np.array([[0.1, 0.2, 12.3, 30], [5, 5, 6, 40 / 3]], np.float32)
    np.testing.assert_array_equal(dataset.boxes["i1"].xyxy, expected)
    assert [len(dataset.boxes[f"i{i}"]) for i in (2, 3, 4)] == [0, 0, 0]
    assert dataset.details == {"counts": {"labels": {"images": 9}}}


def test_writing_again_gives_the_same_bytes(root, tmp_path_factory):
    dataset, copy = read_dataset(root), tmp_path_factory.mktemp("copy")
    again = write_dataset(
        copy,
        dataset.records[::-1],
        dataset.boxes,
        source=dataset.source,
        labels=dataset.labels,
        classes=dataset.classes,
        bit_depth=dataset.bit_depth,
        details=dataset.details,
    )
    assert again.fingerprint == dataset.fingerprint
    for name in ("manifest.csv", "annotations.json", "dataset.json"):
        assert (copy / name).read_bytes() == (root / name).read_bytes()


def test_the_manifest_has_the_columns_of_the_format(root):
    header, first, *_ = (root / "manifest.csv").read_text().splitlines()
    assert header == (
        "image_id,study_id,patient_id,path,width,height,original_width,original_height,split,fold,"
        "note,negative,typical,indeterminate,atypical"
    )
    assert first == 'i1,s1,p1,images/i1.png,40,30,400,300,train,0,"a, 1",,,,'


def test_the_fingerprint_follows_the_labels(root):
    before = read_dataset(root).fingerprint
    change(root / "manifest.csv", "a, 2", "b")
    assert read_dataset(root).fingerprint != before


def test_parts_for_training(root):
    dataset = read_dataset(root)
    assert ids(by_split(dataset, "test")) == ["i4"]
    assert [ids(part) for part in training_split(dataset)] == [["i1", "i3"], ["i2"]]
    assert [ids(part) for part in training_split(dataset, fold=1)] == [["i1"], ["i2", "i3"]]
    assert [ids(part) for part in training_split(dataset, exclude_patients={"p2"})] == [["i1"], []]
    with pytest.raises(DatasetError, match=r"manifest\.csv: fold: found folds 0, 1, expected fold 2"):
        training_split(dataset, fold=2)
    with pytest.raises(DatasetError, match="split: found none of 4 images, expected images to train on"):
        training_split(dataset, exclude_patients={"p1", "p2"})


def test_images_are_looked_for_only_when_asked(root):
    with pytest.raises(DatasetError, match=r"path: found no file images/i1\.png, expected the image"):
        read_dataset(root, check_files=True)


@pytest.mark.parametrize(
    ("old", "new", "complaint"),
    [
        ("path,", "file,", "manifest.csv: header: found columns"),
        ("p1,images", "images", "manifest.csv:2: row: found 14 cells, expected 15"),
        ("i2,s2", "i1,s2", "manifest.csv:3: image_id: found 'i1' again, expected an id of its own"),
        (",val,", ",dev,", "manifest.csv:3: split: found 'dev', expected train or val or test"),
        ("train,0", "train,-1", "manifest.csv:2: fold: found '-1', expected a number from 0, or nothing"),
        ("i1.png,40", "i1.png,0", "manifest.csv:2: size: found 0 30 400 300, expected four whole numbers from 1"),
        ("0,1,0,0", "0,2,0,0", "manifest.csv:3: typical: found '2', expected 1, 0 or nothing for unknown"),
        ("images/i1", "images/../../i1", "manifest.csv:2: path: found 'images/../../i1.png', expected a path below"),
        ("i1.png,40", "i1.png,41", "annotations.json: images: found (1, 'images/i1.png', 40, 30), expected (1,"),
        ('i4,s4,p4,images/i4.png,40,30,400,300,test,,"a, 4",0,1,0,0\n', "", "images: found 4, expected 3, as in"),
    ],
)
def test_a_broken_manifest_is_one_clear_line(root, old, new, complaint):
    change(root / "manifest.csv", old, new)
    with pytest.raises(DatasetError) as caught:
        read_dataset(root)
    assert complaint in str(caught.value)


@pytest.mark.parametrize(
    ("old", "new", "complaint"),
    [
        ('{"images"', '["images"', "content: found"),
        ('"annotations":', '"boxes":', "annotations: found NoneType, expected a list"),
        ('"opacity"', '"nodule"', "categories: found"),
        ('{"id":2', '{"id":1', "images: found (1, 'images/i2.png', 40, 30), expected every id once"),
        ('"file_name":', '"name":', "images: found an entry without 'file_name', expected COCO images"),
        ('"category_id":1', '"category_id":2', "annotations[0].category_id: found 2, expected 1 to 1"),
        ('"image_id":1,', '"image_id":9,', "annotations[0].image_id: found 9, expected an id of annotations.json"),
        ('"bbox":[5.0', '"bbox":[NaN', "annotations[1].bbox: found [nan, 5.0"),
        ('"bbox":[5.0', '"bbox":[39.5', "boxes of i1: found box"),
        ('"bbox":[5.0,', '"bbox":[', "annotations[1].bbox: found"),
    ],
)
def test_annotations_that_disagree_are_one_clear_line(root, old, new, complaint):
    change(root / "annotations.json", old, new)
    with pytest.raises(DatasetError) as caught:
        read_dataset(root)
    assert str(caught.value).startswith(f"{root}/annotations.json: {complaint}")


@pytest.mark.parametrize("name", ["dataset.json", "manifest.csv", "annotations.json"])
def test_a_missing_file_is_named(root, name):
    (root / name).unlink()
    with pytest.raises(DatasetError, match=f"{name}: file: found"):
        read_dataset(root)


@pytest.mark.parametrize(
    ("field", "value"), [("format", 2), ("bit_depth", 12), ("labels", {"name": "x"}), ("classes", {"names": [1]})]
)
def test_a_broken_header_is_one_clear_line(root, field, value):
    header = json.loads((root / "dataset.json").read_text())
    (root / "dataset.json").write_text(json.dumps(header | {field: value}))
    with pytest.raises(DatasetError, match=rf"dataset\.json: {field}: found"):
        read_dataset(root)


def test_the_summary_counts_everything(root):
    summary = summarise(read_dataset(root))
    assert {key: summary[key] for key in ("images", "studies", "patients", "boxes")} == {
        "images": 4,
        "studies": 4,
        "patients": 3,
        "boxes": 2,
    }
    assert summary["images_without_boxes"] == 3
    assert [summary["splits"][split]["images"] for split in ("train", "val", "test")] == [2, 1, 1]
    assert summary["folds"] == {"0": 1, "1": 2}
    assert summary["labels"]["typical"] == {"positive": 3, "negative": 0, "unknown": 1}
    assert summary["classes"] == {"opacity": 2}
    assert summary["sizes"]["original"] == {"width": {"least": 400, "most": 400}, "height": {"least": 300, "most": 300}}
    assert summary["published"] == {"images": 9}
    json.dumps(summary)


def test_a_yolo_view_survives_a_move(root, tmp_path_factory):
    write_yolo(read_dataset(root))
    moved = tmp_path_factory.mktemp("moved") / "set"
    shutil.copytree(root, moved)
    assert str(root) not in "".join(path.read_text() for path in moved.glob("*.[ty]*") if path.suffix != ".json")
    assert (moved / "train.txt").read_text() == "./images/i1.png\n./images/i3.png\n"
    assert (moved / "labels" / "i2.txt").read_text() == ""
    assert (moved / "data.yaml").read_text() == (
        "train: train.txt\nval: val.txt\ntest: test.txt\nchannels: 1\nnames:\n  0: opacity\n"
    )


def test_yolo_lists_for_a_fold_are_absolute(root, tmp_path_factory):
    dataset, run = read_dataset(root), tmp_path_factory.mktemp("run")
    with pytest.raises(DatasetError, match="expected its YOLO labels"):
        write_yolo_lists(run, dataset, *training_split(dataset, fold=1))
    write_yolo(dataset)
    assert write_yolo_lists(run, dataset, *training_split(dataset, fold=1)) == run / "data.yaml"
    assert (run / "train.txt").read_text() == f"{root}/images/i1.png\n"
    assert (run / "val.txt").read_text() == f"{root}/images/i2.png\n{root}/images/i3.png\n"


def test_sixteen_bits_have_no_yolo_view(root):
    change(root / "dataset.json", '"bit_depth": 8', '"bit_depth": 16')
    with pytest.raises(DatasetError, match=r"dataset\.json: bit_depth: found 16, expected 8 for YOLO"):
        write_yolo(read_dataset(root))


def ids(records) -> list[str]:
    return [r.image_id for r in records]


def change(path: Path, old: str, new: str) -> None:
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new, 1))


def test_predictions_are_scored_on_the_part_that_they_are_all_of(tmp_path):
    records = [
        ImageRecord(name, name, name, f"images/{name}.png", ImageSize(8, 8), ImageSize(8, 8), [1.0], split, fold)
        for name, split, fold in [
            *[("a", "train", 0), ("b", "val", 1), ("c", "train", 1), ("d", "test", None), ("e", "train", 0)],
            *[("f", "val", 0), ("g", "train", None), ("h", "train", 2)],
        ]
    ]
    boxes = {record.image_id: BoxLabels.empty(record.stored) for record in records}
    labels = LabelSpace("one", ("ill",))
    data = write_dataset(tmp_path, records, boxes, source="test", labels=labels, classes=OPACITY, bit_depth=8)

    def scored(split, *images):
        return "".join(record.image_id for record in scored_records(data, split, images))

    assert scored(None, "a", "b", "c", "e", "f", "h") == "abcefh"
    assert scored(None, "a", "c", "h") == "abcefh"  # images in which nothing was found have no entry
    assert scored(None, "b", "f") == scored(None, "b") == "bf"  # as `predict --split val` writes
    assert scored(None, "b", "c") == scored(None, "c") == "bc"  # as it writes of fold 1's run
    assert scored(None, "a", "h") == "aefh"  # two of three folds
    assert scored(None, "d") == scored(None) == scored(None, "a", "d") == scored(None, "a", "g") == "d"
    assert scored("val", "a", "b", "c") == "bf"
    assert scored(None, "a", "c", "h", "z") == "abcefh"  # judged by the images that there are
    assert scored(None, "z") == "d"
