"""YOLO detection sets as Roboflow, CVAT and ultralytics lay them out, and every way in which they can be wrong."""

from pathlib import Path

import pytest

from converters import SOURCES
from converters.run import convert

NAMES = "names: [opacity, no]\n"


def texts(raw: Path, files: dict[str, str]) -> Path:
    for place, text in files.items():
        (raw / place).parent.mkdir(parents=True, exist_ok=True)
        (raw / place).write_text(text)
    return raw


def boxes_of(raw: Path) -> dict[str, tuple]:
    items = SOURCES["yolo"].read(raw).items
    return {item.image_id: (item.official, item.class_ids.tolist(), item.xyxy.tolist()) for item in items}


@pytest.fixture
def roboflow(tmp_path, pictures) -> Path:
    """PART/images and PART/labels, with paths that lead one folder too high."""
    raw = pictures(tmp_path / "raw", *(f"{part}/images/{part}_png.rf.1.jpg" for part in ("train", "valid", "test")))
    yaml = "train: ../train/images\nval: ../valid/images\ntest: ../test/images\n\nnc: 2\nnames: ['opacity', 'no']\n"
    return texts(
        raw,
        {
            "data.yaml": yaml,
            "train/labels/train_png.rf.1.txt": "0 0.5 0.5 0.5 0.5\n1 0.25 0.5 0.5 1\n",
            "valid/labels/valid_png.rf.1.txt": "1 0.25 0.25 0.75 0.25 0.75 0.75 0.25 0.5\n",
            "test/labels/test_png.rf.1.txt": "",
        },
    )


def test_an_export_of_roboflow(roboflow, tmp_path):
    assert boxes_of(roboflow) == {
        "train_png.rf.1": ("train", [0, 1], [[4, 3, 12, 9], [0, 0, 8, 12]]),
        "valid_png.rf.1": ("val", [1], [[4, 3, 12, 9]]),
        "test_png.rf.1": ("test", [], []),
    }
    dataset = convert(SOURCES["yolo"], roboflow, tmp_path / "out", workers=1).dataset
    assert dataset.classes.names == dataset.labels.names == ("opacity", "no")
    assert {r.image_id: (r.split, r.labels.tolist()) for r in dataset.records} == {
        "train_png.rf.1": ("train", [1, 1]),
        "valid_png.rf.1": ("val", [0, 1]),
        "test_png.rf.1": ("test", [0, 0]),
    }


def test_what_lies_beside_the_export_is_not_read(roboflow, pictures):
    pictures(roboflow.parent, "train/images/stranger.png")
    assert len(boxes_of(roboflow)) == 3


def test_folders_of_ultralytics(tmp_path, pictures):
    raw = pictures(tmp_path / "raw", "images/train/a.png", "images/train/b.png", "images/val/c.PNG")
    parts = "path: ../datasets/coco8 # root\ntrain: images/train\nval: images/val\ntest: # none\n"
    yaml = f"{parts}names:\n  0: no\n  1: yes\n"
    texts(raw, {"data.yaml": yaml, "labels/train/a.txt": "\ufeff1 .5 .5 1 1\r\n \r\n"})
    assert boxes_of(raw) == {
        "a": ("train", [1], [[0, 0, 16, 12]]),
        "b": ("train", [], []),
        "c": ("val", [], []),
    }
    # What YAML takes for truth values are names here.
    assert SOURCES["yolo"].read(raw).classes.names == ("no", "yes")


def test_lists_of_paths(tmp_path, pictures):
    raw = pictures(tmp_path / "raw", "obj/a b.png", "obj/c.png", "lists/d.png")
    texts(
        raw,
        {
            "data.yaml": f"train: [lists/train.txt, lists/more.txt]\nval: null\n{NAMES}",
            "lists/train.txt": f"\ufeff./d.png\r\nobj/a b.png \r\n\r\n{raw}/obj/c.png\r\n",
            "lists/more.txt": "obj/c.png",
            "obj/a b.txt": "0 0.5 0.5 0.5 0.5",
        },
    )
    assert {name: len(ids) for name, (_, ids, _) in boxes_of(raw).items()} == {"a_b": 1, "c": 0, "d": 0}


def test_a_raw_folder_below_one_called_images(tmp_path, pictures):
    raw = pictures(tmp_path / "images" / "raw", "train/a.png")
    texts(raw, {"data.yaml": f"train: train\n{NAMES}", "train/a.txt": "0 .5 .5 1 1"})
    assert boxes_of(raw)["a"] == (None, [0], [[0, 0, 16, 12]])  # a training part alone is divided


def test_borders_survive_rounding_without_a_repair(roboflow, tmp_path, rows_of):
    rows = "0 0.333333333333 0.5 0.666666666667 1\n0 0.7 0.5 0.600000000001 1\n"
    texts(roboflow, {"train/labels/train_png.rf.1.txt": rows})
    convert(SOURCES["yolo"], roboflow, tmp_path / "out", workers=1)
    assert rows_of(tmp_path / "out" / "repairs.csv") == []


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        ("0 0.5 0.5 0 0.5", "box 1: found zero-sized 8 3 8 9, expected x1 < x2 and y1 < y2"),
        ("0 0.5 0.5 -0.5 0.5", "box 1: found inverted 12 3 4 9, expected x1 < x2 and y1 < y2"),
        ("0 1.5 0.5 0.5 0.5", "box 1: found 20 3 28 9, expected not wholly outside the 16x12 image"),
        ("0 nan 0.5 0.5 0.5", "box 1: found nan 3 nan 9, expected finite numbers"),
        ("0 inf 0.5 inf 0.5", "box 1: found nan 3 inf 9, expected finite numbers"),
    ],
)
def test_boxes_are_judged_image_by_image(roboflow, tmp_path, rows_of, row, reason):
    texts(roboflow, {"train/labels/train_png.rf.1.txt": row})
    assert convert(SOURCES["yolo"], roboflow, tmp_path / "out", workers=1).converted == 2
    (failure,) = rows_of(tmp_path / "out" / "failures.csv")
    assert failure == ["train_png.rf.1", "train/images/train_png.rf.1.jpg", reason]


def test_images_that_cannot_be_read_are_refused_by_name(roboflow, tmp_path, rows_of):
    (roboflow / "train" / "images" / "train_png.rf.1.jpg").write_bytes(b"GIF89a")
    (roboflow / "valid" / "images" / "gone.png").symlink_to(roboflow / "nowhere")
    (roboflow / "valid" / "images" / "old.bmp").write_bytes(b"BM")
    convert(SOURCES["yolo"], roboflow, tmp_path / "out", workers=1)
    reasons = {row[0]: row[2] for row in rows_of(tmp_path / "out" / "failures.csv")}
    assert reasons["gone"] == "image file: found none, expected valid/images/gone.png"
    assert reasons["train_png.rf.1"].startswith("file: found a file that starts with b'GIF89a'")
    assert reasons["old"].startswith("file: found a file that starts with b'BM'")


@pytest.mark.parametrize(
    ("row", "complaint"),
    [
        ("0 0.5 0.5 0.5", ":1: row: found '0 0.5 0.5 0.5', expected class cx cy w h"),
        ("0 0.5 0.5 0.5 0.5 0.9", ":1: row: found '0 0.5 0.5 0.5 0.5 0.9', expected class cx cy w h"),
        ("\nopacity 0.5 0.5 0.5 0.5", ":2: row: found 'opacity 0.5 0.5 0.5 0.5', expected class cx cy w h"),
        ("0 0_5 0.5 0.5 0.5", ":1: row: found '0 0_5 0.5 0.5 0.5', expected class cx cy w h"),
        ("2 0.5 0.5 0.5 0.5", ":1: class: found 2, expected 0 to 1"),
        ("-1 0.5 0.5 0.5 0.5", ":1: class: found -1, expected 0 to 1"),
        ("0.5 0.5 0.5 0.5 0.5", ":1: class: found 0.5, expected 0 to 1"),
        ("nan 0.5 0.5 0.5 0.5", ":1: class: found nan, expected 0 to 1"),
        ("1e400 0.5 0.5 0.5 0.5", ":1: class: found inf, expected 0 to 1"),
    ],
)
def test_broken_label_files(roboflow, complaint_of, row, complaint):
    path = texts(roboflow, {"train/labels/train_png.rf.1.txt": row}) / "train/labels/train_png.rf.1.txt"
    assert complaint_of("yolo", roboflow) == f"{path.relative_to(roboflow)}{complaint}"


def test_label_files_that_are_no_text(roboflow, complaint_of):
    path = roboflow / "train/labels/train_png.rf.1.txt"
    path.write_bytes(b"0 0.5 \xff")
    assert complaint_of("yolo", roboflow).endswith("train_png.rf.1.txt: encoding: found byte 0xff, expected UTF-8 text")
    path.unlink()
    path.mkdir()
    assert complaint_of("yolo", roboflow).endswith(
        "train_png.rf.1.txt: file: found Is a directory, expected a text file"
    )


BOMB = "a: &a [x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"{name}: &{name} [{', '.join([f'*{before}'] * 9)}]\n" for before, name in zip("abcdefgh", "bcdefghi", strict=True)
)


@pytest.mark.parametrize(
    ("yaml", "complaint"),
    [
        ("- 1", "content: found list, expected names, train, val and test"),
        ("", "content: found NoneType, expected names, train, val and test"),
        ("a: [", "content: found while parsing a flow node"),
        ("[" * 5000, "content: found maximum recursion depth exceeded"),
        ("train: t\n", "names: found nothing, expected a name for every class from 0"),
        ("names: 3\n", "names: found other entries, expected a name for every class from 0"),
        ("names: []\n", "names: found other entries, expected a name for every class from 0"),
        ("names: {0: a, 2: b}\n", "names: found other entries, expected a name for every class from 0"),
        ("names: {0: a, x: b}\n", "names: found other entries, expected a name for every class from 0"),
        ("names: [a, [b]]\n", "names: found other entries, expected a name for every class from 0"),
        (f"{BOMB}names: *i\n", "names: found other entries, expected a name for every class from 0"),
        (f"{BOMB}{NAMES}train: *i\n", "train: found list, expected a folder or a list file"),
        (f"{BOMB}{NAMES}nc: *i\n", "nc: found list, expected 2, as many as names"),
        ("names: [a, b, a]\n", "names: found a twice, expected every name once"),
        ("nc: 3\nnames: [a, b]\n", "nc: found 3, expected 2, as many as names"),
        (f"{NAMES}kpt_shape: [17, 3]\n", "kpt_shape: found a set of poses, expected a detection set"),
        (f"{NAMES}path: [a]\n", "path: found list, expected a folder"),
        (f"{NAMES}train: {{a: b}}\n", "train: found dict, expected a folder or a list file"),
        (f"{NAMES}train: [train/images, ]\nval: [~]\n", "val: found '~', expected a folder or a list file"),
        (NAMES, "train, val, test: found no image, expected folders or lists of images"),
        (f"{NAMES}train: nowhere\n", "train: found nowhere, not below "),
        (f"{NAMES}train: ../..\n", "train: found ../.., not below "),
        (f"{NAMES}train: /etc\n", "train: found /etc, not below "),
        (f"{NAMES}train: train/images\nval: train\n", "val: found train/images/train_png.rf.1.jpg, an image of train"),
        (
            "train: train/images\nnames: [split, b]\n",
            "class: found 'split', a column of manifest.csv, expected another",
        ),
        ('train: train/images\nnames: ["a ", b]\n', "class: found 'a ', expected a name without blanks at its ends"),
    ],
)
def test_broken_data_yaml(roboflow, complaint_of, yaml, complaint):
    texts(roboflow, {"data.yaml": yaml})
    assert complaint_of("yolo", roboflow).removeprefix("data.yaml: ").startswith(complaint)


@pytest.mark.parametrize(
    ("line", "complaint"),
    [
        ("../secret.png", ":1: train: found '"),
        ("/etc/secret.png", ":1: train: found '/etc/secret.png', expected a PNG or JPEG image below "),
        ("\ntrain/labels/x.txt", ":2: train: found '"),
        ("film.dcm", ":1: train: found '"),
    ],
)
def test_broken_lists(roboflow, complaint_of, line, complaint):
    texts(roboflow, {"data.yaml": f"train: list.txt\n{NAMES}", "list.txt": line})
    assert complaint_of("yolo", roboflow).startswith(f"list.txt{complaint}")
    (roboflow / "list.txt").write_bytes(b"Gro\xdf.png")
    assert complaint_of("yolo", roboflow) == "list.txt: encoding: found byte 0xdf, expected UTF-8 text"


def test_sets_without_labels_or_data_yaml(roboflow, pictures, complaint_of):
    pictures(roboflow, "a.png")
    texts(roboflow, {"data.yaml": f"train: list.txt\n{NAMES}", "list.txt": "a.png"})
    assert complaint_of("yolo", roboflow) == (
        f"data.yaml: labels: found none for any image, expected files such as {roboflow}/a.txt"
    )
    (roboflow / "data.yaml").write_bytes(b"names: [\xff]")
    assert complaint_of("yolo", roboflow) == "data.yaml: encoding: found byte 0xff, expected UTF-8 text"
    (roboflow / "data.yaml").unlink()
    assert complaint_of("yolo", roboflow) == (
        "data.yaml: file: found No such file or directory, expected a YOLO data set"
    )
