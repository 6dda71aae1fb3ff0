"""What a second run finds in the folder: its own work kept, what no longer holds removed, others' files untouched."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from converters import SOURCES
from converters.journal import JOURNAL
from converters.run import convert
from siimdet.core.files import locked
from siimdet.errors import SourceError
from siimdet.imaging.png import read_grey, write_png


def contents(folder: Path) -> dict[str, bytes]:
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


def drop(raw: Path, image_id: str) -> None:
    """Take an image out of RSNA's tables and folder, as a patient who withdrew."""
    for name in ("stage_2_train_labels.csv", "stage_2_detailed_class_info.csv", "rsna_to_nih.csv"):
        lines = (raw / name).read_text().splitlines(keepends=True)
        (raw / name).write_text("".join(line for line in lines if not line.startswith(f"{image_id},")))
    next(raw.rglob(f"{image_id}.png")).unlink()


def test_a_withdrawn_image_leaves_nothing_behind(rsna_raw, tmp_path):
    convert(SOURCES["rsna"], rsna_raw, tmp_path / "out")
    drop(rsna_raw, "n2")
    again = convert(SOURCES["rsna"], rsna_raw, tmp_path / "out")
    assert (again.converted, again.resumed) == (0, 2)
    convert(SOURCES["rsna"], rsna_raw, tmp_path / "fresh")
    assert contents(tmp_path / "out") == contents(tmp_path / "fresh")


@pytest.mark.parametrize("options", [{"bit_depth": 16}, {"image_size": 40}, {"folds": 2}, {"split_by": "image"}])
def test_other_options_give_what_a_fresh_run_gives(rsna_raw, tmp_path, options):
    convert(SOURCES["rsna"], rsna_raw, tmp_path / "out")
    convert(SOURCES["rsna"], rsna_raw, tmp_path / "out", **options)
    convert(SOURCES["rsna"], rsna_raw, tmp_path / "fresh", **options)
    assert contents(tmp_path / "out") == contents(tmp_path / "fresh")


def test_a_file_that_broke_since_takes_its_image_along(rsna_raw, tmp_path):
    convert(SOURCES["rsna"], rsna_raw, tmp_path / "out")
    next(rsna_raw.rglob("n2.png")).write_bytes(b"broken")
    assert convert(SOURCES["rsna"], rsna_raw, tmp_path / "out").failures == 1
    assert not (tmp_path / "out" / "images" / "n2.png").exists()
    assert not (tmp_path / "out" / "labels" / "n2.txt").exists()


@pytest.mark.parametrize("absent", [False, True])
def test_what_a_run_leaves_out_is_not_done_again(rsna_raw, tmp_path, absent):
    whole = convert(SOURCES["rsna"], rsna_raw, tmp_path / "out")
    before = contents(tmp_path / "out")
    path = next(rsna_raw.rglob("n2.png"))
    if absent:
        path.rename(tmp_path / "n2.png")
    part = convert(SOURCES["rsna"], rsna_raw, tmp_path / "out", **({"present_only": True} if absent else {"limit": 1}))
    assert len(part.dataset.records) < len(whole.dataset.records)
    if absent:
        (tmp_path / "n2.png").rename(path)
    again = convert(SOURCES["rsna"], rsna_raw, tmp_path / "out")
    assert (again.converted, again.resumed) == (0, 3)
    assert contents(tmp_path / "out") == before


def test_a_run_killed_in_its_first_moment_is_no_stranger(rsna_raw, tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / f".{JOURNAL}.abcd_123").write_text("")
    assert convert(SOURCES["rsna"], rsna_raw, tmp_path / "out").converted == 3
    assert not list((tmp_path / "out").glob(f".{JOURNAL}.*"))


def test_patients_labels_and_folds_change_without_reading_an_image_again(rsna_raw, tmp_path, change):
    convert(SOURCES["rsna"], rsna_raw, tmp_path / "out")
    change(rsna_raw / "rsna_to_nih.csv", "n2,00000007", "n2,00000009")
    change(rsna_raw / "stage_2_detailed_class_info.csv", "n1,Normal", "n1,No Lung Opacity / Not Normal")
    again = convert(SOURCES["rsna"], rsna_raw, tmp_path / "out", folds=2, seed=3)
    assert (again.converted, again.resumed) == (0, 3)
    assert [r.patient_id for r in again.dataset.records] == ["00000007", "00000009", "n3"]
    convert(SOURCES["rsna"], rsna_raw, tmp_path / "fresh", folds=2, seed=3)
    assert contents(tmp_path / "out") == contents(tmp_path / "fresh")


def test_a_users_mistake_leaves_a_data_set_as_it_was(rsna_raw, tmp_path):
    convert(SOURCES["rsna"], rsna_raw, tmp_path / "out")
    before = contents(tmp_path / "out")
    with pytest.raises(SourceError, match="folds: found 9 folds of 2 patients"):
        convert(SOURCES["rsna"], rsna_raw, tmp_path / "out", image_size=40, folds=9)
    assert contents(tmp_path / "out") == before


@pytest.mark.parametrize("place", ["notes.txt", "images/n1.png", "annotations.json"])
def test_a_folder_of_somebody_else_is_refused(rsna_raw, tmp_path, place):
    (tmp_path / "out" / place).parent.mkdir(parents=True)
    (tmp_path / "out" / place).write_text("theirs")
    with pytest.raises(SourceError, match="--out: found other files, expected a new folder, or a data set of rsna"):
        convert(SOURCES["rsna"], rsna_raw, tmp_path / "out")
    assert contents(tmp_path / "out") == {place: b"theirs"}


def test_an_interrupted_data_set_of_another_source_is_refused(rsna_raw, nih_raw, tmp_path):
    convert(SOURCES["nih"], nih_raw, tmp_path / "out")
    (tmp_path / "out" / "dataset.json").unlink()
    with pytest.raises(SourceError, match="--out: found a data set of nih, expected a new folder"):
        convert(SOURCES["rsna"], rsna_raw, tmp_path / "out")
    assert json.loads((tmp_path / "out" / JOURNAL).read_text().splitlines()[0]) == {"source": "nih"}


def test_a_folder_of_raw_images_is_no_place_to_write_to(rsna_raw):
    with pytest.raises(SourceError, match="--out: found other files"):
        convert(SOURCES["rsna"], rsna_raw, rsna_raw / "stage_2_train_images")


def test_two_runs_at_a_time_are_refused(rsna_raw, tmp_path):
    convert(SOURCES["rsna"], rsna_raw, tmp_path / "out")
    holder = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(tmp_path / "out")], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert holder.stdout is not None and holder.stdout.readline() == "True\n"
    with pytest.raises(SourceError, match="--out: found another conversion at work, expected one at a time"):
        convert(SOURCES["rsna"], rsna_raw, tmp_path / "out")
    os.kill(holder.pid, signal.SIGKILL)
    holder.communicate()
    assert convert(SOURCES["rsna"], rsna_raw, tmp_path / "out").resumed == 3


HOLD = """
import sys
from pathlib import Path
from siimdet.core.files import locked
with locked(Path(sys.argv[1])) as free:
    print(free, flush=True)
    sys.stdin.read()
"""


def test_a_lock_ends_with_its_block(tmp_path):
    for _ in range(2):
        with locked(tmp_path) as free:
            assert free


def test_a_link_to_nothing_is_a_failure_like_a_missing_file(rsna_raw, tmp_path):
    path = next(rsna_raw.rglob("n1.png"))
    path.unlink()
    path.symlink_to(tmp_path / "nowhere")
    summary = convert(SOURCES["rsna"], rsna_raw, tmp_path / "out")
    assert (summary.converted, summary.failures) == (2, 1)
    assert (tmp_path / "out" / "failures.csv").read_text().splitlines()[1].startswith("n1,")


def test_twelve_bits_in_a_copy_of_sixteen_are_shown_in_full(rsna_raw, tmp_path):
    ramp = np.arange(4096, dtype=np.uint16).reshape(64, 64)
    write_png(next(rsna_raw.rglob("n1.png")), ramp)
    convert(SOURCES["rsna"], rsna_raw, tmp_path / "out")
    np.testing.assert_array_equal(read_grey(tmp_path / "out" / "images" / "n1.png"), np.rint(ramp * (255 / 4095)))
    convert(SOURCES["rsna"], rsna_raw, tmp_path / "full", scaling="full", bit_depth=16)
    np.testing.assert_array_equal(read_grey(tmp_path / "full" / "images" / "n1.png"), ramp)
