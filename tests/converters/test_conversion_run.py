"""The engine: one data set from a raw tree, whatever was refused, interrupted or done before."""

import importlib
import json
import os
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from converters import SOURCES
from converters.journal import JOURNAL
from converters.run import convert
from siimdet.core.types import ImageSize
from siimdet.data.manifest import read_dataset
from siimdet.data.table import read_table
from siimdet.errors import SourceError
from siimdet.imaging.dicom import read_radiograph
from siimdet.imaging.grayscale import to_grey
from siimdet.imaging.png import read_grey, write_png

RAMP = np.add.outer(np.arange(80), np.arange(100)).astype(np.uint8)


def rows_of(path: Path) -> list[list[str]]:
    return list(read_table(path, (), kind=SourceError).rows)


def bytes_of(folder: Path) -> dict[str, bytes]:
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


def test_siim_becomes_a_data_set(siim_raw, tmp_path):
    out = tmp_path / "out"
    summary = convert(SOURCES["siim"], siim_raw, out, workers=2)
    dataset = read_dataset(out, check_files=True)
    assert (summary.converted, summary.resumed, summary.without_file, summary.failures, summary.repairs) == (
        4,
        0,
        0,
        0,
        1,
    )
    assert summary.dataset.fingerprint == dataset.fingerprint
    assert [(r.image_id, r.study_id, r.patient_id) for r in dataset.records] == [
        ("a1", "s1", "p1"),
        ("a2", "s1", "p1"),
        ("b1", "s2", "p1"),
        ("c1", "s3", "p2"),
    ]
    assert {r.stored for r in dataset.records} == {r.original for r in dataset.records} == {ImageSize(100, 80)}
    assert dataset.boxes["a1"].xyxy.tolist() == [[10.5, 20, 40.5, 60], [60, 50, 75, 59.5]]
    assert dataset.boxes["c1"].xyxy.tolist() == [[0, 5, 17.5, 80]]
    assert rows_of(out / "repairs.csv") == [["c1", "box 1 xyxy", "-2.5 5 17.5 95", "0 5 17.5 80"]]
    assert (out / "failures.csv").read_text() == "id,path,reason\n"
    expected = to_grey(read_radiograph(siim_raw / "train" / "s1" / "series0" / "a1.dcm"))
    np.testing.assert_array_equal(read_grey(out / "images" / "a1.png"), expected)
    counts = json.loads((out / "dataset.json").read_text())["counts"]
    assert (
        counts["labels"]
        == counts["converted"]
        == {
            "images": 4,
            "studies": 3,
            "patients": 2,
            "boxes": 3,
            "images_with_boxes": 2,
            "images_without_boxes": 2,
        }
    )


def test_boxes_shrink_with_the_image_and_the_original_size_is_kept(siim_raw, tmp_path):
    dataset = convert(SOURCES["siim"], siim_raw, tmp_path / "out", image_size=50).dataset
    record = dataset.records[0]
    assert (record.stored, record.original) == (ImageSize(50, 40), ImageSize(100, 80))
    assert dataset.boxes["a1"].xyxy.tolist() == [[5.25, 10, 20.25, 30], [30, 25, 37.5, 29.75]]
    assert read_grey(tmp_path / "out" / "images" / "a1.png").shape == (40, 50)


def test_boxes_of_rsna_are_in_1024_pixel_space(rsna_raw, tmp_path):
    dataset = convert(SOURCES["rsna"], rsna_raw, tmp_path / "out").dataset
    assert {(r.stored, r.original) for r in dataset.records} == {(ImageSize(64, 64), ImageSize(1024, 1024))}
    assert dataset.boxes["n2"].xyxy.tolist() == [[6.25, 12.5, 25, 37.5], [37.5, 12.5, 45.5, 20.5]]
    sides = {r.patient_id: r.split for r in dataset.records}
    assert all(sides[r.patient_id] == r.split for r in dataset.records)


def test_nih_respects_the_official_test_list(nih_raw, tmp_path):
    summary = convert(SOURCES["nih"], nih_raw, tmp_path / "out", folds=2)
    records = summary.dataset.records
    assert [r.image_id for r in records if r.split == "test"] == ["00000004_000"]
    assert [r.fold for r in records if r.split == "test"] == [None]
    assert {r.fold for r in records if r.split != "test"} == {0, 1}
    assert rows_of(tmp_path / "out" / "repairs.csv") == [["00000004_000", "box 1 label", "Infiltrate", "Infiltration"]]


def test_sixteen_bits_have_no_yolo_view(siim_raw, tmp_path):
    out = tmp_path / "out"
    convert(SOURCES["siim"], siim_raw, out)
    assert (out / "data.yaml").exists()
    assert convert(SOURCES["siim"], siim_raw, out, bit_depth=16).converted == 4
    assert read_grey(out / "images" / "a1.png").dtype == np.uint16
    assert not any((out / name).exists() for name in ("data.yaml", "train.txt", "val.txt", "test.txt"))


def test_the_files_are_the_same_whatever_the_number_of_workers(siim_raw, tmp_path):
    for workers in (1, 2):
        convert(SOURCES["siim"], siim_raw, tmp_path / f"out{workers}", workers=workers, folds=2)
    assert bytes_of(tmp_path / "out1") == bytes_of(tmp_path / "out2")


def test_a_second_run_redoes_only_what_is_missing_or_changed(siim_raw, tmp_path, change):
    out = tmp_path / "out"
    convert(SOURCES["siim"], siim_raw, out)
    whole = bytes_of(out)
    again = convert(SOURCES["siim"], siim_raw, out)
    assert (again.converted, again.resumed) == (0, 4)
    assert bytes_of(out) == whole

    (out / "images" / "a1.png").unlink()
    (out / "images" / "a2.png").write_bytes(b"cut off")
    raw = siim_raw / "train" / "s2" / "series2" / "b1.dcm"
    os.utime(raw, ns=(time.time_ns(), raw.stat().st_mtime_ns + 1))
    again = convert(SOURCES["siim"], siim_raw, out)
    assert (again.converted, again.resumed) == (3, 1)
    assert {k: v for k, v in bytes_of(out).items() if k != JOURNAL} == {k: v for k, v in whole.items() if k != JOURNAL}

    change(siim_raw / "train_image_level.csv", "10.5", "11.5")
    assert convert(SOURCES["siim"], siim_raw, out).converted == 1
    assert convert(SOURCES["siim"], siim_raw, out, image_size=50).converted == 4


def test_a_killed_run_leaves_nothing_behind_after_the_next(siim_raw, tmp_path):
    out = tmp_path / "out"
    convert(SOURCES["siim"], siim_raw, out)
    whole = bytes_of(out)
    for name in ("manifest.csv", "dataset.json", "images/a1.png"):
        (out / name).unlink()
    lines = (out / JOURNAL).read_text().splitlines()
    (out / JOURNAL).write_text("\n".join([*lines[:3], lines[3][:40]]))
    (out / "images" / ".b1.png.abcd_123").write_bytes(b"half an image")
    again = convert(SOURCES["siim"], siim_raw, out)
    assert (again.converted, again.resumed) == (3, 1)
    assert bytes_of(out) == whole


def test_refused_inputs_are_listed_with_their_reason(siim_raw, tmp_path, change):
    change(siim_raw / "train_image_level.csv", "'width': 30", "'width': -30")
    (siim_raw / "train" / "s2" / "series2" / "b1.dcm").write_bytes(b"")
    (siim_raw / "train" / "s1" / "series1" / "a2.dcm").unlink()
    summary = convert(SOURCES["siim"], siim_raw, tmp_path / "out")
    assert summary.failures == 3
    assert [r.image_id for r in summary.dataset.records] == ["c1"]
    rows = rows_of(tmp_path / "out" / "failures.csv")
    assert [row[:2] for row in rows] == [
        ["a1", "train/s1/series0/a1.dcm"],
        ["a2", ""],
        ["b1", "train/s2/series2/b1.dcm"],
    ]
    assert rows[0][2] == "box 1: found inverted 10.5 20 -19.5 60, expected x1 < x2 and y1 < y2"
    assert rows[1][2] == "image file: found none, expected a2 with one of .dcm, .png, .jpg, .jpeg"
    assert "expected" in rows[2][2]
    assert sorted(path.name for path in (tmp_path / "out" / "images").iterdir()) == ["c1.png"]


def test_present_only_counts_what_has_no_file(siim_raw, tmp_path):
    for image_id, series in (("a2", "s1/series1"), ("c1", "s3/series3")):
        (siim_raw / "train" / series / f"{image_id}.dcm").unlink()
    summary = convert(SOURCES["siim"], siim_raw, tmp_path / "out", present_only=True)
    assert (summary.converted, summary.without_file, summary.failures) == (2, 2, 0)
    counts = json.loads((tmp_path / "out" / "dataset.json").read_text())["counts"]
    assert (counts["labels"]["images"], counts["converted"]["images"]) == (4, 2)
    # The labels of c1 are mended though its image is elsewhere; how far it reaches down is not known.
    assert rows_of(tmp_path / "out" / "repairs.csv") == [["c1", "box 1 xyxy", "-2.5 5 17.5 95", "0 5 17.5 95"]]


def test_limit_takes_the_first_images(siim_raw, tmp_path):
    dataset = convert(SOURCES["siim"], siim_raw, tmp_path / "out", limit=2).dataset
    assert [r.image_id for r in dataset.records] == ["a1", "a2"]


def test_a_partial_download_keeps_the_splits(rsna_raw, tmp_path):
    whole = {r.image_id: r.split for r in convert(SOURCES["rsna"], rsna_raw, tmp_path / "whole").dataset.records}
    (rsna_raw / "stage_2_train_images" / "n1.png").unlink()
    part = convert(SOURCES["rsna"], rsna_raw, tmp_path / "part", present_only=True).dataset.records
    assert {r.image_id: r.split for r in part} == {name: whole[name] for name in ("n2", "n3")}


def test_a_reduced_copy_takes_its_original_size_from_the_table(siim_raw, tmp_path):
    for name in ("a1", "b1", "c1"):
        next(siim_raw.rglob(f"{name}.dcm")).unlink()
        write_png(siim_raw / "train_png" / f"{name}.png", RAMP[:40, :50])
    (siim_raw / "train_sizes.csv").write_text("image_id,width,height\na1,100,80\n")
    dataset = convert(SOURCES["siim"], siim_raw, tmp_path / "out").dataset
    originals = {r.image_id: (r.stored, r.original) for r in dataset.records}
    assert originals["a1"] == (ImageSize(50, 40), ImageSize(100, 80))
    assert originals["b1"] == (ImageSize(50, 40), ImageSize(50, 40))
    assert dataset.boxes["a1"].xyxy[0].tolist() == [5.25, 10, 20.25, 30]
    (failure,) = rows_of(tmp_path / "out" / "failures.csv")
    assert failure == [
        "c1",
        "train_png/c1.png",
        "original size: found unknown for this 50x40 copy, expected its original width and height beside the labels",
    ]


def test_patients_come_from_the_files_where_no_table_tells(siim_raw, tmp_path):
    (siim_raw / "train_meta.csv").unlink()
    next(siim_raw.rglob("b1.dcm")).unlink()
    write_png(siim_raw / "b1.png", RAMP[:80, :100])
    dataset = convert(SOURCES["siim"], siim_raw, tmp_path / "out").dataset
    assert [r.patient_id for r in dataset.records] == ["p1", "p1", "s2", "p2"]
    assert ["b1", "patient_id", "", "s2"] in rows_of(tmp_path / "out" / "repairs.csv")


def test_an_output_below_the_raw_folder_is_no_input(rsna_raw):
    for _ in range(2):
        assert convert(SOURCES["rsna"], rsna_raw, rsna_raw / "out").failures == 0


def test_two_files_of_one_name_are_refused(rsna_raw, tmp_path):
    write_png(rsna_raw / "copies" / "n1.png", np.zeros((8, 8), np.uint8))
    convert(SOURCES["rsna"], rsna_raw, tmp_path / "out")
    (failure,) = rows_of(tmp_path / "out" / "failures.csv")
    assert failure[2] == (
        "image file: found copies/n1.png and stage_2_train_images/n1.png, expected one file of that name"
    )


@pytest.mark.parametrize("present_only", [True, False])
def test_a_folder_without_any_image_is_one_clear_line(rsna_raw, tmp_path, present_only):
    for path in (rsna_raw / "stage_2_train_images").iterdir():
        path.unlink()
    with pytest.raises(SourceError, match="images: found none of the 3 labelled images, expected files named by"):
        convert(SOURCES["rsna"], rsna_raw, tmp_path / "out", present_only=present_only)


def test_a_wrong_path_or_too_many_folds_is_one_clear_line(rsna_raw, tmp_path):
    with pytest.raises(SourceError, match="nowhere: folder: found nothing there, expected the raw files of rsna"):
        convert(SOURCES["rsna"], tmp_path / "nowhere", tmp_path / "out")
    with pytest.raises(SourceError, match="folds: found 9 folds of 2 patients"):
        convert(SOURCES["rsna"], rsna_raw, tmp_path / "out", folds=9)


KILLER = """
import os, signal
from pathlib import Path
from converters.image import load_image

def load(path: Path, bit_depth: int):
    mark = path.with_suffix(".tried")
    if path.stem == "n1" or (path.stem == "n2" and not mark.exists()):
        with open(mark, "a") as stream:
            stream.write("x")
        os.kill(os.getpid(), signal.SIGKILL)
    return load_image(path, bit_depth)
"""


def test_a_worker_that_dies_is_replaced_and_its_image_tried_once_more(rsna_raw, tmp_path, monkeypatch):
    (tmp_path / "killer.py").write_text(KILLER)
    monkeypatch.syspath_prepend(tmp_path)
    source = replace(SOURCES["rsna"], load=importlib.import_module("killer").load)
    summary = convert(source, rsna_raw, tmp_path / "out", workers=2)
    assert [r.image_id for r in summary.dataset.records] == ["n2", "n3"]
    assert rows_of(tmp_path / "out" / "failures.csv") == [
        ["n1", "stage_2_train_images/n1.png", "worker process: found exit code -9 2 times, expected a result"]
    ]
    assert (rsna_raw / "stage_2_train_images" / "n1.tried").read_text() == "xx"
    assert convert(SOURCES["rsna"], rsna_raw, tmp_path / "out").converted == 1


def test_progress_reaches_the_number_of_images(rsna_raw, tmp_path):
    seen = []
    convert(SOURCES["rsna"], rsna_raw, tmp_path / "out", progress=lambda done, total: seen.append((done, total)))
    assert seen == [(1, 3), (2, 3), (3, 3)]
