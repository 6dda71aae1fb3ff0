"""Mixing data sets: who is added under which name, who stays out, and what must agree."""

from pathlib import Path

import numpy as np
import pytest

from siimdet.core.labels import OPACITY
from siimdet.core.types import BoxLabels, ImageRecord, ImageSize, LabelSpace
from siimdet.data.dataset import Dataset
from siimdet.data.manifest import write_dataset
from siimdet.data.mixing import mix_in
from siimdet.data.yolo import write_yolo, write_yolo_lists
from siimdet.errors import DatasetError
from siimdet.imaging.png import write_png

SIZE = ImageSize(16, 12)
TWO = LabelSpace("two", ("clear", "ill"))


def written(
    root: Path, patients: str, *, splits: str = "train", labels: LabelSpace = TWO, classes: LabelSpace = OPACITY
) -> Dataset:
    """An image of one box for each letter, which is its patient; `splits` in their order, the last for the rest."""
    parts = splits.split()
    records, boxes = [], {}
    for number, patient in enumerate(patients):
        name = f"image{number}"
        write_png(root / "images" / f"{name}.png", np.full((12, 16), number * 10, np.uint8))
        truth = np.eye(len(labels), dtype=np.float32)[number % len(labels)]
        split = parts[min(number, len(parts) - 1)]
        records.append(ImageRecord(name, f"study{number}", patient, f"images/{name}.png", SIZE, SIZE, truth, split))
        boxes[name] = BoxLabels([[1, 1, 5, 5 + number]], [0], SIZE) if len(classes) else BoxLabels.empty(SIZE)
    data = write_dataset(root, records, boxes, source="test", labels=labels, classes=classes, bit_depth=8)
    write_yolo(data)
    return data


@pytest.fixture
def main(tmp_path) -> Dataset:
    return written(tmp_path / "main", "abv", splits="train train val")


def test_train_images_of_others_come_in_order_under_names_of_their_own(main, tmp_path):
    others = [written(tmp_path / "one", "cd"), written(tmp_path / "two", "exf", splits="train test train")]
    mixed, added = mix_in(main, others, learnt=("labels",), withheld=set())
    assert [record.image_id for record in added] == ["mix1.image0", "mix1.image1", "mix2.image0", "mix2.image2"]
    assert [record.study_id for record in added] == ["mix1.study0", "mix1.study1", "mix2.study0", "mix2.study2"]
    assert [record.patient_id for record in added] == ["c", "d", "e", "f"]
    assert {record.image_id for record in mixed.records} == {r.image_id for r in (*main.records, *added)}
    assert mixed.boxes["mix2.image2"].xyxy.tolist() == [[1, 1, 5, 7]]
    assert mixed.boxes["image0"] is main.boxes["image0"]
    assert [r.labels.tolist() for r in added] == [[1, 0], [0, 1], [1, 0], [1, 0]]
    assert mixed.fingerprint not in {main.fingerprint, *(other.fingerprint for other in others)}


def test_withheld_patients_are_not_trained_on_whatever_set_they_come_from(main, tmp_path):
    other = written(tmp_path / "other", "vcx")
    mixed, added = mix_in(main, [other], learnt=("classes",), withheld={"v", "x"})
    assert [record.patient_id for record in added] == ["c"]
    # One cache serves all folds: what a data set holds must not depend on who is withheld.
    everyone, _ = mix_in(main, [other], learnt=("classes",), withheld=set())
    assert [r.image_id for r in mixed.records] == [r.image_id for r in everyone.records]


def test_labels_of_another_space_are_unknown_to_a_detector_and_refused_for_a_classifier(main, tmp_path):
    other = written(tmp_path / "other", "cd", labels=LabelSpace("one", ("ill",)))
    _, added = mix_in(main, [other], learnt=("classes",), withheld=set())
    assert all(np.isnan(record.labels).tolist() == [True, True] for record in added)
    with pytest.raises(DatasetError, match=r"other: labels: found ill, expected clear, ill as in "):
        mix_in(main, [other], learnt=("labels",), withheld=set())


def test_what_does_not_fit_is_one_line(main, tmp_path):
    without = written(tmp_path / "without", "cd", classes=LabelSpace("none", ()))
    with pytest.raises(DatasetError, match=r"without: classes: found none, expected opacity as in "):
        mix_in(main, [without], learnt=("labels", "classes"), withheld=set())
    with pytest.raises(DatasetError, match=r"mix_in: found no train image of .*other beside the patients"):
        mix_in(main, [written(tmp_path / "other", "vx")], learnt=("classes",), withheld={"v", "x"})


def test_yolo_finds_the_labels_of_mixed_in_images_beside_them_also_behind_a_link(main, tmp_path):
    raw = written(tmp_path / "raw", "cd")
    linked = tmp_path / "linked"
    linked.mkdir()
    (linked / "images").symlink_to(raw.root / "images")
    records = [record for record in raw.records if record.patient_id == "d"]
    boxes = {"image1": BoxLabels([[2, 2, 10, 8]], [0], SIZE)}
    own = write_dataset(linked, records, boxes, source="test", labels=TWO, classes=OPACITY, bit_depth=8)
    write_yolo(own)
    mixed, added = mix_in(main, [own], learnt=("classes",), withheld=set())
    write_yolo_lists(tmp_path / "lists", mixed, added, main.records)
    (image,) = (tmp_path / "lists" / "train.txt").read_text().split()
    before, _, name = image.rpartition("/images/")
    (line,) = (Path(before) / "labels" / name).with_suffix(".txt").read_text().splitlines()
    assert [float(cell) for cell in line.split()] == pytest.approx([0, 6 / 16, 5 / 12, 8 / 16, 6 / 12])
