"""The whole report on an evaluation, from the files on: every kind, the same bytes, what is refused."""

import numpy as np
import pytest

from siimdet.cli import run
from siimdet.core.types import Detections, ImageSize
from siimdet.data.coco import write_detections
from siimdet.data.manifest import Dataset
from siimdet.data.table import write_table

SIZE = ImageSize(240, 200)
SECTIONS = ("score", "detection", "classes", "breakdown", "shortcuts", "images", "facts")


def boxes_of(dataset: Dataset, seed: int) -> dict[str, Detections]:
    """Every true box moved a little, and a false one in every image."""
    rng = np.random.default_rng(seed)
    found = {}
    for record in dataset.records:
        if record.split == "test":
            moved = dataset.boxes[record.image_id].xyxy + rng.normal(0, 4, (len(dataset.boxes[record.image_id]), 4))
            xyxy = np.concatenate([moved, [[20, 60, 70, 110]]]).clip(0, [240, 200, 240, 200]).astype(np.float32)
            scores = rng.uniform(0.3, 0.9, len(xyxy)).astype(np.float32)
            found[record.image_id] = Detections(xyxy, np.zeros(len(xyxy), np.int64), scores, SIZE)
    return found


@pytest.fixture
def files(tmp_path, dataset):
    """A submission of the test images, two detectors' boxes and a classifier's CSV, in one folder."""
    rng = np.random.default_rng(2)
    records = [record for record in dataset.records if record.split == "test"]
    classes = [(record.image_id, *rng.dirichlet(np.ones(4) + 3 * record.labels)) for record in records]
    write_table(tmp_path / "study.csv", ("image_id", *dataset.labels.names), classes)
    for number in (1, 2):
        write_detections(tmp_path / f"boxes-{number}.json", dataset, boxes_of(dataset, number))
    boxes = [str(tmp_path / f"boxes-{number}.json") for number in (1, 2)]
    made = ["--boxes", *boxes, "--study", str(tmp_path / "study.csv"), "--out", str(tmp_path / "submission.csv")]
    assert run(["submit", "--dataset", str(dataset.root), *made]) == 0
    return tmp_path


def evaluate(files, dataset, name, *options):
    out = files / f"{name}.html"
    report = ["--dataset", str(dataset.root), "--report", str(out), "--bootstrap", "100", *map(str, options)]
    return run(["evaluate", str(files / name), *report]), out


@pytest.mark.parametrize(
    ("name", "lacking"),
    [
        ("submission.csv", ()),
        ("boxes-1.json", ("classes",)),
        ("study.csv", ("detection", "breakdown")),
    ],
)
def test_every_kind_of_file_has_its_sections(files, dataset, read_page, name, lacking):
    code, out = evaluate(files, dataset, name)
    page = read_page(out)
    assert code == 0
    assert [section for section in SECTIONS if section in page.ids] == [s for s in SECTIONS if s not in lacking]
    assert f"Evaluation of {name}" in page.texts
    assert "difference" not in page.ids
    assert "training" not in page.ids


def test_detectors_a_second_file_and_blanked_borders_stand_beside_the_first(files, dataset, read_page):
    (files / "other.csv").write_bytes((files / "submission.csv").read_bytes())
    boxes = [files / "boxes-1.json", files / "boxes-2.json"]
    code, out = evaluate(files, dataset, "submission.csv", files / "other.csv", "--boxes", *boxes)
    page = read_page(out)
    assert code == 0
    assert "difference" in page.ids
    assert {"boxes-1", "boxes-2"} <= set(page.texts)
    assert any("other.csv" in text for text in page.texts)
    code, out = evaluate(files, dataset, "submission.csv", "--blanked", files / "other.csv")
    assert code == 0
    assert any("blanked" in text for text in read_page(out).texts)


def test_the_same_files_give_the_same_bytes(files, dataset):
    first = evaluate(files, dataset, "submission.csv")[1].read_bytes()
    assert evaluate(files, dataset, "submission.csv")[1].read_bytes() == first


@pytest.mark.parametrize(
    ("name", "boxes", "words"),
    [
        ("submission.csv", ("boxes-1.json", "again/boxes-1.json"), ("boxes-1 twice", "a name of its own")),
        ("study.csv", ("boxes-1.json",), ("study.csv and boxes-1.json", "a file with boxes")),
        ("submission.csv", ("study.csv",), ("submission.csv and study.csv", "COCO results")),
    ],
)
def test_detectors_that_do_not_fit_are_one_line(files, dataset, capsys, name, boxes, words):
    (files / "again").mkdir()
    (files / "again/boxes-1.json").write_bytes((files / "boxes-1.json").read_bytes())
    capsys.readouterr()
    code, out = evaluate(files, dataset, name, "--boxes", *(files / box for box in boxes))
    said = capsys.readouterr().err
    assert code == 2
    assert said.count("\n") == 1
    assert all(word in said for word in words), said
    assert not out.exists()
