"""Boxes in one CSV file, VinBigData's among them: what is read, and every way in which they can be wrong."""

from pathlib import Path

import numpy as np
import pytest

from converters import SOURCES
from converters.run import convert
from siimdet.core.types import ImageSize
from siimdet.imaging.dicom_write import write_radiograph
from siimdet.imaging.png import write_png

VINBIG = (
    "image_id,class_name,class_id,rad_id,x_min,y_min,x_max,y_max\n"
    "a1,No finding,14,R11,,,,\n"
    "a1,No finding,14,R7,,,,\n"
    "b2,Cardiomegaly,3,R10,2.0,4.0,8.0,10.0\n"
    "b2,Aortic enlargement,0,R8,1,1,5,5\n"
    "c3,No finding,14,R1,,,,\n"
    "c3,Cardiomegaly,3,R9,3,3,9,9\n"
)
BOXES = (
    "image_id,class_name,class_id,x_min,y_min,x_max,y_max,width,height,split,patient_id,study_id\n"
    "a1,lung,1,2,4,8,10,32,24,train,p1,s1\n"
    "a1,heart,0,1,1,5,5,32,24,train,p1,s1\n"
    "b2,,,,,,,32,24,test,p2,s2\n"
)


def items_of(raw: Path) -> dict:
    return {item.image_id: item for item in SOURCES["csv"].read(raw).items}


@pytest.fixture
def vinbig(tmp_path) -> Path:
    """DICOM files that end in .dicom; whoever found nothing has a class of its own."""
    raw = tmp_path / "raw"
    (raw / "train").mkdir(parents=True)
    (raw / "train.csv").write_text(VINBIG)
    for seed, name in enumerate(("a1", "b2", "c3")):
        write_radiograph(
            raw / "train" / f"{name}.dicom",
            np.random.default_rng(seed).integers(0, 4096, (12, 16), dtype=np.uint16),
            patient_id="",
            study_uid="1.2.3",
            series_uid="1.2.4",
            sop_uid=f"1.2.5.{seed}",
            bits_stored=12,
        )
    return raw


@pytest.fixture
def boxes(tmp_path, pictures) -> Path:
    raw = pictures(tmp_path / "raw", "images/a1.png", "deep/er/b2.JPG")
    (raw / "boxes.csv").write_text(BOXES)
    (raw / "classes.csv").write_text("class_id,class_name\n0,heart\n1,lung\n2,never seen\n")
    return raw


def test_vinbigdata(vinbig, tmp_path):
    summary = convert(SOURCES["csv"], vinbig, tmp_path / "out", workers=1)
    dataset = summary.dataset
    assert (summary.converted, summary.failures) == (3, 0)
    assert dataset.classes.names == dataset.labels.names == ("Aortic enlargement", "Cardiomegaly")
    assert {r.image_id: r.labels.tolist() for r in dataset.records} == {"a1": [0, 0], "b2": [1, 1], "c3": [0, 1]}
    assert len(dataset.boxes["a1"]) == 0
    assert dataset.boxes["b2"].xyxy.tolist() == [[2, 4, 8, 10], [1, 1, 5, 5]]
    assert dataset.boxes["b2"].class_ids.tolist() == [1, 0]
    assert [(r.study_id, r.patient_id) for r in dataset.records] == [(name, name) for name in ("a1", "b2", "c3")]


def test_reduced_copies_need_their_original_size(vinbig, tmp_path, rows_of):
    for path in (vinbig / "train").iterdir():
        write_png(path.with_suffix(".png"), np.arange(48, dtype=np.uint8).reshape(6, 8))
        path.unlink()
    dataset = convert(SOURCES["csv"], vinbig, tmp_path / "out", workers=1).dataset
    assert [r.image_id for r in dataset.records] == ["a1"]
    reason = "original size: found unknown for this 8x6 copy, expected its original width and height beside the labels"
    assert [row[2] for row in rows_of(tmp_path / "out" / "failures.csv")] == [reason, reason]


def test_a_csv_as_siimdet_writes_it(boxes, tmp_path):
    dataset = convert(SOURCES["csv"], boxes, tmp_path / "out", workers=1).dataset
    assert dataset.classes.names == ("heart", "lung", "never seen")
    assert [(r.image_id, r.patient_id, r.study_id, r.split) for r in dataset.records] == [
        ("a1", "p1", "s1", "train"),
        ("b2", "p2", "s2", "test"),
    ]
    assert {(r.stored, r.original) for r in dataset.records} == {(ImageSize(16, 12), ImageSize(32, 24))}
    assert dataset.boxes["a1"].xyxy.tolist() == [[1, 2, 4, 5], [0.5, 0.5, 2.5, 2.5]]
    assert dataset.boxes["a1"].class_ids.tolist() == [1, 0]


def test_a_table_without_numbers_orders_classes_by_name(tmp_path, pictures):
    raw = pictures(tmp_path / "raw", "a.png", "b.png")
    text = "image_id,class_name,x_min,y_min,x_max,y_max\r\na,lung,1,1,2,2\r\na,heart,1,1,2,2\r\nb,,,,,\r\n"
    (raw / "boxes.csv").write_bytes(b"\xef\xbb\xbf" + text.encode())
    tables = SOURCES["csv"].read(raw)
    assert tables.classes.names == ("heart", "lung")
    assert [item.class_ids.tolist() for item in tables.items] == [[1, 0], []]
    assert [item.official for item in tables.items] == [None, None]


def test_a_dicom_file_of_another_size_than_the_table_says_is_refused(vinbig, tmp_path, rows_of):
    rows = VINBIG.splitlines()
    lines = [f"{rows[0]},width,height", *(f"{row},32,24" for row in rows[1:])]
    (vinbig / "train.csv").write_text("\n".join(lines))
    for name in ("a1", "c3"):
        (vinbig / "train" / f"{name}.dicom").unlink()
    write_png(vinbig / "train" / "c3.png", np.arange(48, dtype=np.uint8).reshape(6, 8))
    convert(SOURCES["csv"], vinbig, tmp_path / "out", workers=1, present_only=True)
    reason = "original size: found a DICOM file of 16x12, expected 32x24 as the labels say"
    assert rows_of(tmp_path / "out" / "failures.csv") == [["b2", "train/b2.dicom", reason]]


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        ("8,4,2,10", "box 1: found inverted 8 4 2 10, expected x1 < x2 and y1 < y2"),
        ("2,4,2,10", "box 1: found zero-sized 2 4 2 10, expected x1 < x2 and y1 < y2"),
        ("nan,4,8,10", "box 1: found nan 4 8 10, expected finite numbers"),
        ("1e999,4,8,10", "box 1: found inf 4 8 10, expected finite numbers"),
        ("40,4,50,10", "box 1: found 40 4 50 10, expected not wholly outside the 32x24 image"),
    ],
)
def test_boxes_are_judged_image_by_image(boxes, change, tmp_path, rows_of, row, reason):
    change(boxes / "boxes.csv", "2,4,8,10", row)
    convert(SOURCES["csv"], boxes, tmp_path / "out", workers=1)
    assert rows_of(tmp_path / "out" / "failures.csv") == [["a1", "images/a1.png", reason]]


@pytest.mark.parametrize(
    ("file", "old", "new", "complaint"),
    [
        ("boxes", "x_min", "xmin", "boxes.csv: header: found columns image_id, class_name, class_id, xmin"),
        ("boxes", "a1,lung", "../a1,lung", "boxes.csv:2: image_id: found '../a1', expected an id of A-Z"),
        ("boxes", "a1,lung", "a 1.png,lung", "boxes.csv:2: image_id: found 'a 1.png', expected an id of A-Z"),
        ("boxes", "2,4,8,10", ",4,8,10", "boxes.csv:2: x_min: found '', expected a number"),
        ("boxes", "2,4,8,10", "2,wide,8,10", "boxes.csv:2: y_min: found 'wide', expected a number"),
        ("boxes", "2,4,8,10", "2,4_0,8,10", "boxes.csv:2: y_min: found '4_0', expected a number"),
        ("boxes", "a1,lung,1", "a1,,1", "boxes.csv:2: class_name: found nothing, expected the class of the box"),
        ("boxes", "a1,lung,1", "a1,lung,1.0", "boxes.csv:2: class_id: found '1.0', expected a number from 0"),
        ("boxes", "a1,lung,1", f"a1,lung,{'9' * 5000}", "boxes.csv:2: class_id: found '9999"),
        ("boxes", "a1,heart,0", "a1,heart,1", "boxes.csv:3: class_id: found 1 of 'heart', expected 'lung' as before"),
        ("boxes", "a1,heart,0", "a1,lung,0", "boxes.csv:3: class_id: found 0 of 'lung', expected 1 as before"),
        ("boxes", "a1,lung,1", "a1,rib,1", "boxes.csv: class_name: found rib, expected a class of classes.csv"),
        ("boxes", "a1,lung,1", "a1,lung,2", "boxes.csv: class_id: found 2 of lung, expected 1 as in classes.csv"),
        ("boxes", "10,32,24", "10,32,", "boxes.csv:3: width, height, split, patient_id, study_id: found 32 24 train"),
        ("boxes", "test,p2", "dev,p2", "boxes.csv:4: split: found 'dev', expected train or val or test"),
        ("boxes", "32,24,test", "0,24,test", "boxes.csv:4: width, height: found 0 24, expected whole numbers of 1 to"),
        ("boxes", "32,24,test", "32,,test", "boxes.csv:4: width, height: found 32, expected whole numbers of 1 to"),
        ("boxes", "32,24,test", f"{10**40},24,test", "boxes.csv:4: width, height: found 1000000"),
        ("boxes", "test,p2", "test,../p2", "boxes.csv:4: patient_id: found '../p2', expected an id of A-Z"),
        ("boxes", "p2,s2", "p2,s/2", "boxes.csv:4: study_id: found 's/2', expected an id of A-Z"),
        ("boxes", "train,p1,s1\na1,heart", "train,p1\na1,heart", "boxes.csv:2: row: found 11 cells, expected 12"),
        ("classes", "0,heart", "1,heart", "classes.csv:2: class: found 1 heart, expected 0 and a name of its own"),
        ("classes", "2,never seen", "2,lung", "classes.csv:4: class: found 2 lung, expected 2 and a name of its own"),
        ("classes", "never seen", "", "classes.csv:4: class: found 2, expected 2 and a name of its own"),
        ("classes", "never seen", "fold", "class: found 'fold', a column of manifest.csv, expected another name"),
        ("classes", "never seen", " seen", "class: found ' seen', expected a name without blanks at its ends"),
    ],
)
def test_broken_tables(boxes, change, complaint_of, file, old, new, complaint):
    change(boxes / f"{file}.csv", old, new)
    assert complaint_of("csv", boxes).startswith(complaint)


def test_tables_that_are_none(boxes, complaint_of):
    path = boxes / "boxes.csv"
    path.write_bytes(BOXES.replace("lung", "Größe").encode("latin-1"))
    assert complaint_of("csv", boxes) == "boxes.csv: encoding: found byte 0xf6, expected UTF-8 text"
    path.unlink()
    assert complaint_of("csv", boxes) == "boxes.csv: file: found nothing there, expected a CSV file"
    path.mkdir()
    assert complaint_of("csv", boxes) == "boxes.csv: file: found Is a directory, expected a readable CSV file"
