"""`submit` from prediction files: the submission of the runs that wrote them, whose images, and what is refused."""

import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from siimdet.cli import run
from siimdet.config import Coupling
from siimdet.core.labels import OPACITY, STUDY
from siimdet.core.types import BoxLabels, Detections, ImageRecord, ImageSize
from siimdet.data.coco import write_detections
from siimdet.data.manifest import read_dataset, write_dataset
from siimdet.data.table import write_table
from siimdet.errors import ConfigError
from siimdet.imaging.png import write_png
from siimdet.models.weights import ModelSpec, build_model, save_model
from siimdet.submission.assemble import assemble_files
from siimdet.submission.file import read_submission

SIZE, ORIGINAL = ImageSize(64, 64), ImageSize(640, 320)
COUPLING = Coupling(kind="coupling")
DETECTOR = {
    **{"body": "resnet18", "finest_stage": 2, "fpn_channels": 8, "box_head_features": 8, "proposals": 20},
    **{"anchor_sizes": [8, 16, 32, 48], "mean": [0.5] * 3, "std": [0.25] * 3, "score_threshold": 0.05},
}
STUDY_RUN = {"body": "simple_cnn", "activation": "softmax", "mean": [0.5], "std": [0.25]}
CLASSES = {"a": (0.5, 0.25, 0.25, 0.0), "b": (0.25, 0.5, 0.25, 0.0), "c": (0.75, 0.25, 0.0, 0.0)}


@pytest.fixture
def data(tmp_path) -> Path:
    """Three images of two studies, a and b val, c test."""
    noise = np.random.default_rng(0).integers(0, 255, (3, 64, 64)).astype(np.uint8)
    records = []
    for number, (name, study, split) in enumerate((("a", "s", "val"), ("b", "s", "val"), ("c", "t", "test"))):
        write_png(tmp_path / "data" / "images" / f"{name}.png", noise[number])
        place = f"images/{name}.png"
        records.append(ImageRecord(name, study, f"p{study}", place, SIZE, ORIGINAL, [1, 0, 0, 0], split))
    boxes = {record.image_id: BoxLabels.empty(SIZE) for record in records}
    write_dataset(tmp_path / "data", records, boxes, source="test", labels=STUDY, classes=OPACITY, bit_depth=8)
    return tmp_path / "data"


@pytest.fixture
def files(tmp_path, data):
    """Two detectors' boxes of a and c, and a study classifier's CSV of all three images."""
    for name, score in (("one", 0.5), ("two", 0.75)):
        found = {image: Detections([[1, 2, 31, 42]], [0], [score], SIZE) for image in ("a", "c")}
        write_detections(tmp_path / f"{name}.json", read_dataset(data), found)
    write_table(tmp_path / "study.csv", ("image_id", *STUDY.names), [(k, *v) for k, v in CLASSES.items()])
    return [tmp_path / "one.json", tmp_path / "two.json"], tmp_path / "study.csv"


def command(data, out, *arguments) -> int:
    return run([str(each) for each in ("submit", "--dataset", data, "--out", out, *arguments)])


def test_rows_by_hand(tmp_path, data, files):
    boxes, study = files
    assert command(data, tmp_path / "s.csv", "--boxes", *boxes, "--study", study) == 0
    rows = dict(line.split(",") for line in (tmp_path / "s.csv").read_text().splitlines())
    assert list(rows) == ["id", "a_image", "b_image", "c_image", "s_study", "t_study"]
    # Mean of a's and b's negative; the box stretched from 64 x 64 to 640 x 320.
    assert (
        rows["s_study"] == "negative 0.375 0 0 1 1 typical 0.375 0 0 1 1 indeterminate 0.25 0 0 1 1 atypical 0 0 0 1 1"
    )
    assert rows["b_image"] == "none 0.375 0 0 1 1"
    assert rows["a_image"] == "none 0.375 0 0 1 1 opacity 0.625 10 10 310 210"


@pytest.mark.parametrize(
    ("arguments", "images"), [((), "abc"), (("--split", "val"), "ab"), (("--split", "test"), "c")], ids=str
)
def test_images_are_those_of_the_csv_or_of_the_split(tmp_path, data, files, arguments, images):
    boxes, study = files
    assert command(data, tmp_path / "s.csv", "--boxes", *boxes, "--study", study, *arguments) == 0
    ids = read_submission(tmp_path / "s.csv").ids
    assert [row_id[0] for row_id in ids if row_id.endswith("_image")] == [*images]


def test_a_sample_says_which_rows_and_in_which_order(tmp_path, data, files):
    boxes, study = files
    (tmp_path / "sample.csv").write_text("id,PredictionString\nt_study,\nc_image,\n")
    arguments = ("--boxes", boxes[0], "--study", study, "--sample", tmp_path / "sample.csv")
    assert command(data, tmp_path / "s.csv", *arguments) == 0
    assert read_submission(tmp_path / "s.csv").ids == ("t_study", "c_image")


@pytest.fixture
def runs(tmp_path) -> list[Path]:
    """Two detectors and a study run with random weights."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(2)
        for name, kind, architecture, classes in (
            ("one", "faster_rcnn", DETECTOR, OPACITY),
            ("two", "faster_rcnn", DETECTOR, OPACITY),
            ("study", "classifier", STUDY_RUN, STUDY),
        ):
            spec = ModelSpec(kind, architecture, classes, 64, "stretch", 1)
            save_model(tmp_path / name, spec, build_model(spec).state_dict(), {})
    return [tmp_path / "one", tmp_path / "two", tmp_path / "study"]


def test_kept_predictions_give_the_same_bytes_again(tmp_path, data, runs):
    arguments = ("--split", "val", "--detector", *runs[:2], "--study", runs[2], "--device", "cpu")
    assert command(data, tmp_path / "runs.csv", *arguments, "--keep", tmp_path / "kept") == 0
    assert sorted(os.listdir(tmp_path / "kept")) == ["boxes-1.json", "boxes-2.json", "study.csv"]
    kept = tmp_path / "kept"
    files = ("--boxes", kept / "boxes-1.json", kept / "boxes-2.json", "--study", kept / "study.csv")
    assert command(data, tmp_path / "files.csv", *files) == 0
    assert "opacity" in (tmp_path / "runs.csv").read_text()
    assert (tmp_path / "files.csv").read_bytes() == (tmp_path / "runs.csv").read_bytes()
    assert command(data, tmp_path / "again.csv", *arguments) == 0
    assert (tmp_path / "again.csv").read_bytes() == (tmp_path / "runs.csv").read_bytes()


def test_an_opacity_column_is_there_for_the_rule_that_needs_it(tmp_path, data, files):
    boxes, study = files
    rule = replace_rule(study_from_images="opacity")
    dataset = read_dataset(data)
    with pytest.raises(ConfigError, match="study_from_images"):
        assemble_files(dataset, None, boxes=boxes, study=study, coupling=rule, file="s")
    rows = [(k, *v, o) for (k, v), o in zip(CLASSES.items(), (0.25, 0.75, 0.5), strict=True)]
    write_table(study, ("image_id", *STUDY.names, "opacity"), rows)
    made = assemble_files(dataset, None, boxes=boxes, study=study, coupling=rule, file="s")
    assert made.studies.values[made.studies.keys.index("s")].tolist() == list(CLASSES["b"])


def replace_rule(**changes) -> Coupling:
    return COUPLING.model_copy(update=changes)


@pytest.mark.parametrize(
    ("rows", "words"),
    [
        ("", "sample.csv: rows: found none of an image, expected a row per image"),
        ("t_study,\n", "sample.csv: rows: found none of an image, expected a row per image"),
        ("c_image,\n", "sample.csv: id: found no row for 't_study' (1 ids lack), expected all 2 ids of the sample's"),
        ("c_image,\nt_study,\ns_study,\n", "sample.csv: line 4, 's_study': found 1 unknown ids, expected only ids of"),
        ("z_image,\n", "z_image: found no such image, expected the images of"),
    ],
)
def test_a_sample_that_does_not_fit_is_named(tmp_path, data, files, capfd, rows, words):
    boxes, study = files
    (tmp_path / "sample.csv").write_text(f"id,PredictionString\n{rows}")
    arguments = ("--boxes", boxes[0], "--study", study, "--sample", tmp_path / "sample.csv")
    assert command(data, tmp_path / "s.csv", *arguments) == 2
    err = capfd.readouterr().err
    assert err.count("\n") == 1
    assert words in err


def test_what_does_not_fit_is_one_line(tmp_path, data, files, capfd):
    boxes, study = files
    dataset = read_dataset(data)
    table = {k: (k, *v) for k, v in CLASSES.items()}
    header = ("image_id", *STUDY.names)
    write_table(tmp_path / "lacks.csv", header, [table["a"], table["c"]])
    write_table(tmp_path / "stray.csv", header, [*table.values(), ("z", *CLASSES["a"])])
    write_table(tmp_path / "other.csv", ("image_id", "x", *STUDY.names[1:]), [])
    write_table(tmp_path / "empty.csv", header, [])
    write_detections(tmp_path / "c.json", dataset, {"c": Detections([[1, 2, 31, 42]], [0], [0.5], SIZE)})
    wide = replace(dataset, classes=STUDY)
    write_detections(tmp_path / "classes.json", wide, {"a": Detections([[1, 2, 31, 42]], [1], [0.5], SIZE)})
    for arguments, words in (
        (
            ("--split", "val", "--boxes", boxes[0], "--study", tmp_path / "lacks.csv"),
            ("no row for 'b'", "all 2 images"),
        ),
        (("--boxes", boxes[0], "--study", tmp_path / "stray.csv"), ("found 'z' (1 unknown ids)",)),
        (("--boxes", boxes[0], "--study", tmp_path / "other.csv"), ("other.csv", "header")),
        (("--boxes", boxes[0], "--study", tmp_path / "empty.csv"), ("rows: found none",)),
        (("--boxes", boxes[0], "--study", tmp_path), ("file: found Is a directory",)),
        (
            ("--split", "val", "--boxes", tmp_path / "c.json", "--study", study),
            ("boxes of 'c' (1 other images alone)",),
        ),
        (("--boxes", tmp_path / "classes.json", "--study", study), ("category_id", "found 2", "1 to 1")),
        (("--study", study), ("predictions: found neither, expected --detector RUN... or --boxes FILE...",)),
        (("--detector", "x", "--boxes", boxes[0], "--study", study), ("predictions: found both",)),
        (("--boxes", boxes[0], "--study", study, "--flip"), ("--flip: found --boxes, expected --detector",)),
        (("--boxes", boxes[0], "--study", study, "--keep", tmp_path / "k"), ("--keep: found --boxes",)),
        (("--boxes", boxes[0], "--study", study, "--blank-border", ".1"), ("--blank-border: found --boxes",)),
        (("--boxes", boxes[0], "--study", study, "--workers", 3), ("--workers: found --boxes, expected --detector",)),
        (("--boxes", boxes[0], "--study", study, "--device", "cpu"), ("--device: found --boxes, expected --detector",)),
        (("--boxes", *boxes, boxes[0], "--study", study), (f"{boxes[0]}: detector: found it twice, expected every",)),
        (
            ("--boxes", boxes[0], data / ".." / boxes[0].name, "--study", study),
            ("one.json: detector: found it twice",),
        ),
        (("--detector", "x", "y", "x", "--study", "z"), ("x: detector: found it twice, expected every detector once",)),
    ):
        assert command(data, tmp_path / "s.csv", *arguments) == 2, arguments
        err = capfd.readouterr().err
        assert err.count("\n") == 1
        assert all(word in err for word in words), err
        assert not (tmp_path / "s.csv").exists()
