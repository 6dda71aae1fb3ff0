"""What must end in one line and exit 2, or must not be destroyed."""

import shutil
from pathlib import Path

import cv2
import pytest

from converters import SOURCES
from converters.run import convert
from siimdet.cli import run
from siimdet.data.phantom_trees import write_nih, write_rsna, write_siim
from siimdet.imaging.png import read_grey

DEMO = Path(__file__).parents[2] / "configs" / "demo"
TINY = ("epochs=1", "image_size=64", "batch_size=4")


@pytest.fixture(scope="module")
def made(tmp_path_factory) -> dict[str, Path]:
    root = tmp_path_factory.mktemp("refusals")
    write_siim(root / "raw" / "siim", patients=10)
    write_rsna(root / "raw" / "rsna", images=6)
    write_nih(root / "raw" / "nih", images=8)
    for name in ("siim", "rsna", "nih"):
        arguments = ("convert", name, "--raw", root / "raw" / name, "--out", root / name, "--workers", 1)
        assert run([str(a) for a in (*arguments, "--image-size", 96)]) == 0
    return {"raw": root / "raw", "siim": root / "siim", "rsna": root / "rsna", "nih": root / "nih"}


def refused(capfd, *arguments: object) -> str:
    capfd.readouterr()
    assert run([str(argument) for argument in arguments]) == 2
    lines = [line for line in capfd.readouterr().err.splitlines() if line.startswith("siimdet: ")]
    assert len(lines) == 1
    return lines[0]


def study(data: Path, out: Path, *more: object) -> tuple[object, ...]:
    return ("train-study", DEMO / "study.yaml", *TINY, *more, "--dataset", data, "--out", out, "--device", "cpu")


@pytest.mark.parametrize("workers", [0, 2])
def test_a_broken_image_is_one_line_from_any_process(made, tmp_path, capfd, workers):
    data = tmp_path / "data"
    shutil.copytree(made["siim"], data)
    for image in (data / "images").iterdir():
        image.write_bytes(image.read_bytes()[:100])
    line = refused(capfd, *study(data, tmp_path / "run", f"workers={workers}"))
    assert "images/" in line and "found" in line


def test_an_image_of_another_size_than_the_manifest_says_is_refused(made, tmp_path, capfd):
    data = tmp_path / "data"
    shutil.copytree(made["siim"], data)
    for image in (data / "images").iterdir():
        cv2.imwrite(str(image), cv2.resize(read_grey(image), (40, 40)))
    assert "size: found 40x40" in refused(capfd, *study(data, tmp_path / "run"))


def test_a_conversion_that_was_interrupted_is_no_data_set_until_it_is_finished(made, tmp_path, capfd):
    data = tmp_path / "data"
    shutil.copytree(made["siim"], data)

    def interrupt(done: int, total: int) -> None:
        raise KeyboardInterrupt

    raw, source = made["raw"] / "siim", SOURCES["siim"]
    with pytest.raises(KeyboardInterrupt):
        convert(source, raw, data, image_size=48, workers=1, progress=interrupt)
    # Some images are 48 px now, and the manifest still tells of 96.
    assert "dataset.json: file: found" in refused(capfd, "inspect", data)
    convert(source, raw, data, image_size=48, workers=1)
    assert run(["inspect", str(data)]) == 0


def test_broken_tables_leave_a_finished_data_set_alone(made, tmp_path, capfd):
    data, raw = tmp_path / "data", tmp_path / "raw"
    shutil.copytree(made["siim"], data)
    shutil.copytree(made["raw"] / "siim", raw)
    (raw / "train_study_level.csv").write_text("id\n")
    before = {path: path.read_bytes() for path in data.rglob("*") if path.is_file()}
    assert "train_study_level.csv" in refused(capfd, "convert", "siim", "--raw", raw, "--out", data, "--image-size", 48)
    assert {path: path.read_bytes() for path in data.rglob("*") if path.is_file()} == before


def test_resuming_on_other_data_is_refused(made, tmp_path, capfd):
    other = tmp_path / "other"
    shutil.copytree(made["siim"], other)
    manifest = (other / "manifest.csv").read_text()
    (other / "manifest.csv").write_text(manifest.replace(",train,", ",val,", 1))
    assert run([str(a) for a in study(made["siim"], tmp_path / "run")]) == 0
    assert "identity: found" in refused(capfd, *study(other, tmp_path / "run"), "--resume")


def test_resuming_yolo_under_another_config_is_refused_and_changes_nothing(made, tmp_path, capfd):
    out = tmp_path / "run"
    arguments = ("--dataset", made["rsna"], "--out", out, "--device", "cpu")
    assert run([str(a) for a in ("train-detector", DEMO / "yolo_rsna.yaml", *TINY, *arguments)]) == 0
    before = {path: path.read_bytes() for path in out.rglob("*") if path.is_file()}
    other = ("train-detector", DEMO / "yolo_rsna.yaml", *TINY, "only_positives=true", *arguments, "--resume")
    assert "identity: found" in refused(capfd, *other)
    assert {path: path.read_bytes() for path in out.rglob("*") if path.is_file()} == before


def test_excluding_patients_of_another_kind_of_id_is_refused(made, tmp_path, capfd):
    excluded = f"exclude_patients=[{made['rsna']}]"
    arguments = ("train-backbone", DEMO / "backbone.yaml", *TINY, excluded, "--dataset", made["nih"])
    assert "found no patient of" in refused(capfd, *arguments, "--out", tmp_path / "run")


def test_raw_files_and_other_data_sets_are_not_overwritten(made, tmp_path, capfd):
    raw = tmp_path / "nih"
    shutil.copytree(made["raw"] / "nih", raw)
    before = {path: path.read_bytes() for path in raw.rglob("*.png")}
    line = refused(capfd, "convert", "nih", "--raw", raw, "--out", raw, "--image-size", 64)
    assert "holds the raw files" in line
    assert {path: path.read_bytes() for path in raw.rglob("*.png")} == before
    assert "a data set of rsna" in refused(capfd, "convert", "nih", "--raw", raw, "--out", made["rsna"])


def test_the_demo_deletes_nothing_of_others(tmp_path, capfd):
    out = tmp_path / "thesis"
    out.mkdir()
    (out / "demo.json").write_text('{"my": 1}')
    (out / "thesis.tex").write_text("years of work")
    assert "--out" in refused(capfd, "demo", "--out", out)
    assert (out / "thesis.tex").read_text() == "years of work"
    assert "found a file" in refused(capfd, "demo", "--out", out / "thesis.tex")


def test_splits_without_images_or_labels_are_refused(made, tmp_path, capfd):
    results = tmp_path / "none.json"
    results.write_text("[]")
    line = refused(capfd, "evaluate", results, "--dataset", made["siim"], "--split", "test")
    assert "no labels" in line  # SIIM's own test part


@pytest.mark.parametrize(
    "override",
    ["trainable=[]", "trainable=[head.1]", "std=[0,0,0]", "optimiser={name: sgd, lr: 1, momentum: 0, nesterov: true}"]
    + [f"augment.erase={{p: 1, area: {area}}}" for area in ("[.2,.1]", "[0,0]", "[.5,1]")],
)
def test_configs_that_cannot_run_are_refused(made, tmp_path, capfd, override):
    refused(capfd, *study(made["siim"], tmp_path / "run", override))
