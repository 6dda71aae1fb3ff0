"""Pseudo-labels: which images a rule keeps, with which boxes and class, by hand; and what is refused."""

import json
import os
import tempfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from siimdet.cli import run
from siimdet.config import PseudoLabels
from siimdet.core.files import locked_file
from siimdet.core.labels import OPACITY, STUDY
from siimdet.core.types import BoxLabels, Detections, ImageRecord, ImageSize, LabelSpace, Probabilities
from siimdet.data.coco import write_detections
from siimdet.data.dataset import Dataset
from siimdet.data.manifest import read_dataset, write_dataset
from siimdet.data.relabelled import LOCK
from siimdet.data.table import write_table
from siimdet.errors import DatasetError, SubmissionError
from siimdet.imaging.png import write_png
from siimdet.submission.pseudo_labels import label_images, write_pseudo_labels

SIZE, ORIGINAL = ImageSize(40, 20), ImageSize(400, 200)
RULE = PseudoLabels(kind="pseudo_labels")
CONFIG = "configs/pseudo/siim.yaml"
CLASSES = {
    # image: negative, typical, indeterminate, atypical; a1 and a2 are of one study
    "a1": (0.1, 0.8, 0.1, 0.0),
    "a2": (0.2, 0.7, 0.1, 0.0),
    "b": (0.95, 0.05, 0.0, 0.0),
    "c": (0.5, 0.5, 0.0, 0.0),
    "d": (0.1, 0.4, 0.5, 0.0),
    "e": (0.3, 0.0, 0.0, 0.7),
}
HEADER = ("image_id", *STUDY.names)


def detections(*boxes: tuple[float, float, float, float, float], size: ImageSize = SIZE) -> Detections:
    """Boxes (x1, y1, x2, y2, score)."""
    rows = np.array(boxes, np.float32).reshape(-1, 5)
    return Detections(rows[:, :4], np.zeros(len(rows), np.int64), rows[:, 4], size)


BOXES = {
    "a1": detections((1, 2, 10, 12, 0.25), (5, 5, 30, 20, 0.9), (0, 0, 4, 4, 0.5), (2, 2, 6, 6, 0.19)),
    "a2": detections((0, 0, 40, 20, 0.1)),
    "b": detections((1, 1, 9, 9, 0.99)),
    "d": detections((1, 1, 9, 9, 0.99)),
    "e": detections((3, 4, 11, 13, 0.2)),
}


@pytest.fixture
def dataset(tmp_path) -> Dataset:
    """Six images of five studies, unlabelled, half of them val, two of them with a true box that must not matter."""
    root, records, boxes = tmp_path / "data", [], {}
    for number, name in enumerate(CLASSES):
        write_png(root / "images" / f"{name}.png", np.full((20, 40), number, np.uint8))
        study, place = name[0], f"images/{name}.png"
        source = {"file": f"{name}.dcm", "typical": "a column of the source"}
        split = "test" if number < 3 else "val"
        records.append(ImageRecord(name, study, f"p_{study}", place, SIZE, ORIGINAL, [], split, number % 2, source))
        boxes[name] = BoxLabels([[0, 0, 1, 1]], [0], SIZE) if number < 2 else BoxLabels.empty(SIZE)
    nothing = LabelSpace("none", ())
    return write_dataset(root, records, boxes, source="dicom", labels=nothing, classes=OPACITY, bit_depth=8)


@pytest.fixture
def pseudo(dataset, tmp_path):
    """Runs the command on files of predictions: pseudo(*arguments, boxes=..., rows=..., header=...)."""

    def command(*arguments: object, boxes=BOXES, rows=None, header=HEADER) -> int:
        write_detections(tmp_path / "boxes.json", dataset, boxes)
        given = [(name, *values) for name, values in CLASSES.items()] if rows is None else rows
        write_table(tmp_path / "study.csv", header, given)
        files = ("--boxes", tmp_path / "boxes.json", "--study", tmp_path / "study.csv", "--out", tmp_path / "out")
        return run([str(each) for each in ("pseudo-label", CONFIG, *arguments, "--dataset", dataset.root, *files)])

    return command


def labelled(dataset, **changes):
    studies = Probabilities(
        tuple("abcde"), [np.mean([CLASSES["a1"], CLASSES["a2"]], 0), *(CLASSES[name] for name in "bcde")], STUDY
    )
    return label_images(dataset.records, BOXES, studies, RULE.model_copy(update=changes))


def test_images_are_kept_by_their_studies_probabilities(dataset):
    found = labelled(dataset)
    assert {record.image_id: record.labels.tolist() for record in found.records} == {
        "a1": [0, 1, 0, 0],
        "b": [1, 0, 0, 0],
        "e": [0, 0, 0, 1],  # thresholds that are reached exactly: .7 and .2
    }
    assert found.outcomes == {"positive": 2, "negative": 1, "undecided": 1, "unclear": 1, "without_box": 1}


def test_the_best_boxes_from_the_score_on_stay_and_a_negative_image_loses_its_own(dataset):
    found = labelled(dataset)
    assert found.boxes["a1"].xyxy.tolist() == [[5, 5, 30, 20], [0, 0, 4, 4]]
    assert len(found.boxes["b"]) == 0
    everything = labelled(dataset, most_boxes=None, box_score=0.0)
    assert everything.boxes["a1"].xyxy[:, 0].tolist() == [5, 0, 1, 2]
    assert everything.boxes["a2"].xyxy.tolist() == [[0, 0, 40, 20]]


def test_records_are_to_train_on_and_keep_patient_study_sizes_and_source(dataset):
    record = labelled(dataset).records[0]
    assert (record.split, record.fold) == ("train", None)
    assert (record.patient_id, record.study_id, record.stored, record.original) == ("p_a", "a", SIZE, ORIGINAL)
    assert record.source == {"file": "a1.dcm"}  # without the column that would be a label now


def test_thresholds_of_the_config(dataset):
    assert [r.image_id for r in labelled(dataset, negative=None).records] == ["a1", "e"]
    assert labelled(dataset, negative=None).outcomes["undecided"] == 2
    unclear = labelled(dataset, finding=0.0)
    assert [r.image_id for r in unclear.records] == ["a1", "b", "d", "e"]
    assert np.isnan(unclear.records[2].labels).all()  # its class has .5
    assert labelled(dataset, positive=0.5, finding=0.5, study=0.5).records[2].labels.tolist() == [0, 0, 1, 0]


def test_the_command_writes_a_whole_data_set(dataset, pseudo, tmp_path, capfd):
    assert pseudo() == 0
    line = f"{tmp_path / 'out'}, of 6 images 2 positive, 1 negative, 1 undecided, 1 unclear, 1 without box"
    assert capfd.readouterr().err == f"pseudo-labels: {line}\n"
    made = read_dataset(tmp_path / "out", check_files=True)
    assert (made.source, made.labels, made.classes, made.bit_depth) == ("pseudo", STUDY, OPACITY, 8)
    assert [record.image_id for record in made.records] == ["a1", "b", "e"]
    assert made.boxes["e"].xyxy.tolist() == [[3, 4, 11, 13]]
    assert {record.split for record in made.records} == {"train"}
    kept = made.details["pseudo_labels"]
    assert kept["outcomes"] == {"positive": 2, "negative": 1, "undecided": 1, "unclear": 1, "without_box": 1}
    assert kept["rule"]["positive"] == 0.7
    assert kept["images_of"] == {"source": "dicom", "fingerprint": dataset.fingerprint}
    assert made.details["counts"]["converted"]["images_with_boxes"] == 2
    assert os.path.samefile(made.root / "images" / "e.png", dataset.root / "images" / "e.png")
    assert (made.root / "train.txt").read_text().split() == ["./images/a1.png", "./images/b.png", "./images/e.png"]
    assert (made.root / "labels" / "e.txt").read_text() == "0 0.175 0.425 0.2 0.45\n"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["boxes.json", "data", "out", "study.csv"]


def test_a_study_is_the_mean_or_the_maximum_of_its_images(pseudo, tmp_path):
    rows = [("a1", 0.0, 1.0, 0.0, 0.0), ("a2", 0.5, 0.5, 0.0, 0.0)]  # mean .25 and .75, maximum 1/3 and 2/3
    assert pseudo(rows=rows, boxes={"a2": BOXES["a1"]}) == 0
    assert [record.image_id for record in read_dataset(tmp_path / "out").records] == ["a2"]
    (tmp_path / "out").rename(tmp_path / "mean")
    assert pseudo("study_from_images=max", rows=rows, boxes={"a2": BOXES["a1"]}) == 2


def test_a_split_takes_its_images_alone(pseudo, tmp_path):
    rows = [(name, *CLASSES[name]) for name in ("a1", "a2", "b")]
    assert pseudo("--split", "test", rows=rows, boxes={name: BOXES[name] for name in ("a1", "a2", "b")}) == 0
    assert [record.image_id for record in read_dataset(tmp_path / "out").records] == ["a1", "b"]


def rows_of(*names: str) -> list[tuple[object, ...]]:
    return [(name, *CLASSES[name]) for name in names]


@pytest.mark.parametrize(
    ("arguments", "files", "words"),
    [
        ((), {"rows": rows_of("a1", "b", "a1")}, ("study.csv:4: image_id: found 'a1' a second time",)),
        ((), {"rows": [("z", 1, 0, 0, 0)]}, ("study.csv:2: image_id: found 'z' (1 unknown ids)",)),
        (
            ("--split", "test"),
            {"rows": rows_of("a1", "b"), "boxes": {}},
            ("found no row for 'a2' (1 ids lack)", "all 3 ids"),
        ),
        (
            (),
            {"rows": rows_of("a1")},
            ("boxes.json: image_id: found boxes of 'a2' (4 other images)", "of the 1 images"),
        ),
        (
            (),
            {"header": ("image_id", "normal", *STUDY.names[1:])},
            ("study.csv: header: found columns image_id, normal", "'negative'"),
        ),
        (
            ("positive=.99", "negative=.99"),
            {},
            ("images: found none to keep: 6 undecided, 0 unclear, 0 without_box, expected one at least",),
        ),
        (("positive=.2", "negative=.5"), {}, (f"{CONFIG}: content: found negative 0.5 and positive 0.2", "above 1")),
        (("--split", "train"), {}, ("found no train images",)),
    ],
)
def test_a_mistake_is_one_line_and_nothing_is_written(pseudo, tmp_path, capfd, arguments, files, words):
    assert pseudo(*arguments, **files) == 2
    err = capfd.readouterr().err
    assert err.count("\n") == 1
    assert all(word in err for word in words), err
    assert sorted(path.name for path in tmp_path.iterdir()) == ["boxes.json", "data", "study.csv"]


def test_boxes_that_do_not_fit_the_data_set_are_refused(dataset, pseudo, tmp_path, capfd):
    assert pseudo() == 0
    (tmp_path / "out").rename(tmp_path / "first")
    entry = {"image_id": 7, "category_id": 1, "bbox": [0, 0, 1, 1], "score": 0.5}
    for change, words in (
        ({}, "[0].image_id: found 7, expected an id of annotations.json"),
        ({"image_id": 1, "bbox": [0, 0, 41, 20]}, "boxes of a1: found box [0.0, 0.0, 41.0, 20.0] is outside"),
        ({"image_id": 1, "category_id": 2}, "[0].category_id: found 2, expected 1 to 1"),
    ):
        (tmp_path / "boxes.json").write_text(json.dumps([entry | change]))
        files = ("--boxes", tmp_path / "boxes.json", "--study", tmp_path / "study.csv", "--out", tmp_path / "out")
        capfd.readouterr()
        assert run([str(each) for each in ("pseudo-label", CONFIG, "--dataset", dataset.root, *files)]) == 2
        err = capfd.readouterr().err
        assert err.count("\n") == 1
        assert words in err, err


def test_an_out_that_holds_files_is_left_alone(pseudo, tmp_path, capfd):
    (tmp_path / "out").mkdir()
    assert pseudo() == 0  # an empty folder is no matter
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "out").rglob("*")}
    assert pseudo() == 2
    assert "--out: found other files, expected a new folder" in capfd.readouterr().err
    assert {path: path.stat().st_mtime_ns for path in (tmp_path / "out").rglob("*")} == before


def test_a_missing_image_leaves_nothing_behind(dataset, pseudo, tmp_path, capfd):
    (dataset.root / "images" / "e.png").unlink()
    assert pseudo() == 2
    assert "e.png: image: found nothing there, expected the image of the manifest" in capfd.readouterr().err
    assert sorted(path.name for path in tmp_path.iterdir()) == ["boxes.json", "data", "study.csv"]


def test_what_a_killed_run_left_is_removed_and_one_at_work_or_a_users_folder_stays(pseudo, tmp_path):
    places = {name: tmp_path / f".out.{name}" for name in ("killed00", "at_work0", "a_users_own")}
    for name, folder in places.items():
        (folder / "out" / "images").mkdir(parents=True)
        if name != "a_users_own":
            (folder / LOCK).touch()
    with locked_file(places["at_work0"] / LOCK) as ours:
        assert ours
        assert pseudo() == 0
    assert [name for name, folder in places.items() if folder.exists()] == ["at_work0", "a_users_own"]
    assert (places["at_work0"] / "out" / "images").is_dir()
    assert {path.name for path in tmp_path.iterdir()} - {f".out.{name}" for name in places} == {
        *("boxes.json", "data", "out", "study.csv")
    }


def test_no_file_is_synced_for_each_image(pseudo, tmp_path, monkeypatch):
    counts, fsync = [], os.fsync
    monkeypatch.setattr(os, "fsync", lambda handle: counts.append(handle) or fsync(handle))
    made = []
    for names in (("b",), ("b", "a1", "e")):
        counts.clear()
        assert pseudo(rows=rows_of(*names), boxes={name: BOXES[name] for name in names}) == 0
        made.append((len(read_dataset(tmp_path / "out").records), len(counts)))
        (tmp_path / "out").rename(tmp_path / f"out{len(made)}")
    assert [images for images, _ in made] == [1, 3]
    assert made[0][1] == made[1][1]


def test_a_set_of_16_bits_without_classes_or_labels_is_taken_for_opacity(tmp_path):
    write_png(tmp_path / "data" / "images" / "a.png", np.full((20, 40), 40000, np.uint16))
    record = ImageRecord("a", "a", "a", "images/a.png", SIZE, ORIGINAL, [], "test")
    nothing = LabelSpace("none", ())
    options = {"source": "dicom", "labels": nothing, "classes": nothing, "bit_depth": 16}
    data = write_dataset(tmp_path / "data", [record], {"a": BoxLabels.empty(SIZE)}, **options)
    write_table(tmp_path / "study.csv", HEADER, [("a", 0, 1, 0, 0)])
    write_detections(tmp_path / "boxes.json", data, {"a": BOXES["e"]})
    files = {"boxes": tmp_path / "boxes.json", "study": tmp_path / "study.csv"}
    assert write_pseudo_labels(tmp_path / "out", data, None, **files, rule=RULE)["positive"] == 1
    made = read_dataset(tmp_path / "out", check_files=True)
    assert (made.classes, made.bit_depth, len(made.boxes["a"])) == (OPACITY, 16, 1)
    assert not (made.root / "labels").exists()
    second = Detections([[0, 0, 9, 9]], [1], [0.5], SIZE)
    write_detections(tmp_path / "boxes.json", data, {"a": second})
    with pytest.raises(DatasetError, match=r"boxes of a: found category_id 2, expected 1, opacity$"):
        write_pseudo_labels(tmp_path / "again", data, None, **files, rule=RULE)


def test_rows_of_patients_and_other_classes_of_boxes_are_refused(dataset, tmp_path):
    names = STUDY.names
    header = ("patient_id", "slices", *(f"{name}_slices" for name in names), *names, "decision")
    write_table(tmp_path / "study.csv", header, [("p_a", 1, 1, 0, 0, 0, 1, 0, 0, 0, "negative")])
    files = {"boxes": tmp_path / "boxes.json", "study": tmp_path / "study.csv", "rule": RULE}
    with pytest.raises(SubmissionError, match=r"header: found a row per patient_id, expected a row per image_id$"):
        write_pseudo_labels(tmp_path / "out", dataset, None, **files)
    other = replace(dataset, classes=LabelSpace("nih", ("Mass", "Nodule")))
    with pytest.raises(DatasetError, match=r"classes: found Mass, Nodule, expected opacity, or none$"):
        write_pseudo_labels(tmp_path / "out", other, None, **files)


def test_images_are_copied_to_another_file_system(dataset, tmp_path):
    place = Path("/dev/shm")
    if not place.is_dir() or place.stat().st_dev == tmp_path.stat().st_dev:
        pytest.skip("no second file system here")
    write_table(tmp_path / "study.csv", HEADER, rows_of("b"))
    write_detections(tmp_path / "boxes.json", dataset, {})
    files = {"boxes": tmp_path / "boxes.json", "study": tmp_path / "study.csv", "rule": RULE}
    with tempfile.TemporaryDirectory(dir=place) as folder:
        write_pseudo_labels(Path(folder) / "out", dataset, None, **files)
        copied = Path(folder) / "out" / "images" / "b.png"
        assert copied.read_bytes() == (dataset.root / "images" / "b.png").read_bytes()
        assert os.listdir(folder) == ["out"]
