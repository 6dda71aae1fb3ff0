"""Every command in a row on a handful of phantoms: whether the rooms fit, not how well the models do."""

import json
from pathlib import Path

import pytest
import torch

from siimdet.cli import run
from siimdet.data.manifest import read_dataset
from siimdet.data.phantom_trees import write_nih, write_rsna, write_siim
from siimdet.submission.file import read_submission

DEMO = Path(__file__).parents[2] / "configs" / "demo"
TINY = ("epochs=1", "image_size=64", "batch_size=4")


@pytest.fixture(scope="module", autouse=True)
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)  # at 64 px a second thread only waits
    yield
    torch.set_num_threads(before)


def call(*arguments: object) -> None:
    assert run([str(argument) for argument in arguments]) == 0


def train(command: str, config: str, dataset: Path, out: Path, *overrides: str) -> Path:
    call(command, DEMO / f"{config}.yaml", *TINY, *overrides, "--dataset", dataset, "--out", out, "--device", "cpu")
    return out


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> dict[str, Path]:
    root = tmp_path_factory.mktemp("chain")
    write_siim(root / "raw" / "siim", patients=16)
    write_rsna(root / "raw" / "rsna", images=14)
    write_nih(root / "raw" / "nih", images=14)
    for name in ("siim", "rsna", "nih"):
        options = ("--image-size", 64, "--workers", 1, "--folds", 2)
        call("convert", name, "--raw", root / "raw" / name, "--out", root / name, *options)
    return {name: root / name for name in ("siim", "rsna", "nih")} | {"raw": root / "raw"}


@pytest.fixture(scope="module")
def runs(data, tmp_path_factory) -> dict[str, Path]:
    root = tmp_path_factory.mktemp("runs")
    backbone = train("train-backbone", "backbone", data["nih"], root / "backbone")
    small = ("inference_size=64", "anchor_sizes=[9, 13, 18, 26]")
    first = train(
        "train-detector", "faster_rcnn_rsna", data["rsna"], root / "frcnn-rsna", f"weights={backbone}", *small
    )
    second = train("train-detector", "faster_rcnn_siim", data["siim"], root / "frcnn", f"init_from={first}", *small)
    yolo = train("train-detector", "yolo_rsna", data["rsna"], root / "yolo-rsna")
    return {
        "backbone": backbone,
        "frcnn": second,
        "yolo": train("train-detector", "yolo_siim", data["siim"], root / "yolo", f"init_from={yolo}"),
        "study": train("train-study", "study", data["siim"], root / "study", f"weights={backbone}"),
    }


@pytest.mark.parametrize("name", ["backbone", "frcnn", "yolo", "study"])
def test_a_run_directory_is_whole(runs, name):
    run_dir = runs[name]
    card = json.loads((run_dir / "model.json").read_text())
    for key in ("architecture", "classes", "input", "data", "scores", "versions", "git", "sha256"):
        assert key in card
    for file in ("config.yaml", "metrics.jsonl", "weights/best.safetensors", "state/last.pt", "plots/loss.png"):
        assert (run_dir / file).stat().st_size > 0
    torch.load(run_dir / "state" / "last.pt", weights_only=True)
    assert not list(run_dir.rglob(".*"))


def test_predictions_fuse_submit_and_score(data, runs, tmp_path, capfd):
    results = []
    for name in ("frcnn", "yolo"):
        results.append(tmp_path / f"{name}.json")
        call("predict", runs[name], "--dataset", data["siim"], "--out", results[-1])
    call("predict", runs["study"], "--dataset", data["siim"], "--out", tmp_path / "study.csv")
    assert (tmp_path / "study.csv").read_text().startswith("image_id,negative,typical,indeterminate,atypical\n")
    call("fuse", *results, "--dataset", data["siim"], "--out", tmp_path / "fused.json", "--weights", 2, 1)
    out = tmp_path / "submission.csv"
    detectors = ("--detector", runs["frcnn"], runs["yolo"])
    call("submit", "--dataset", data["siim"], *detectors, "--study", runs["study"], "--out", out)
    again = tmp_path / "again.csv"
    call("submit", "--dataset", data["siim"], *detectors, "--study", runs["study"], "--out", again)
    assert out.read_bytes() == again.read_bytes()
    capfd.readouterr()
    call("evaluate", out, "--dataset", data["siim"], "--json")
    score = json.loads(capfd.readouterr().out)
    assert list(score)[:7] == ["negative", "typical", "indeterminate", "atypical", "none", "opacity", "mAP"]
    raw = data["raw"] / "siim"
    tables = ("--image-level", raw / "train_image_level.csv", "--study-level", raw / "train_study_level.csv")
    call("evaluate", out, *tables, "--only-submitted", "--json")
    from_tables = json.loads(capfd.readouterr().out)
    assert {k: from_tables[k] for k in ("images", "studies")} == {k: score[k] for k in ("images", "studies")}
    for name, value in list(score.items())[:7]:  # boxes of the tables never went through stored pixels
        assert from_tables[name] == (None if value is None else pytest.approx(value, abs=1e-6))
    call("evaluate", tmp_path / "fused.json", "--dataset", data["siim"], "--json")
    figures = json.loads(capfd.readouterr().out)
    assert set(figures) >= {"opacity", "mAP", "f1", "images", "boxes"}
    assert (figures["images"], figures["predictions_left_out"]) == (score["images"], 0)
    assert figures["predictions"] > 0


def test_a_plain_folder_of_dicom_is_predicted(data, runs, tmp_path):
    ward = tmp_path / "ward"
    call("convert", "dicom", "--raw", data["raw"] / "siim" / "test", "--out", ward, "--image-size", 64)
    records = read_dataset(ward).records
    assert {record.split for record in records} == {"test"}
    call("predict", runs["frcnn"], "--dataset", ward, "--out", tmp_path / "boxes.json")
    call("fuse", tmp_path / "boxes.json", "--dataset", ward, "--out", tmp_path / "fused.json")
    assert {box["category_id"] for box in json.loads((tmp_path / "fused.json").read_text())} <= {1}
    call("predict", runs["study"], "--dataset", ward, "--out", tmp_path / "study.csv")
    assert len((tmp_path / "study.csv").read_text().splitlines()) == 1 + len(records)


def test_a_sample_decides_rows_and_order(data, runs, tmp_path, capfd):
    records = [record for record in read_dataset(data["siim"]).records if record.split != "train"]
    ids = [f"{record.image_id}_image" for record in reversed(records)]
    ids += sorted({f"{record.study_id}_study" for record in records}, reverse=True)
    sample, out = tmp_path / "sample.csv", tmp_path / "submission.csv"
    rows = (f"{name},{'none' if name.endswith('image') else 'negative'} 1 0 0 1 1\n" for name in ids)
    sample.write_text("id,PredictionString\n" + "".join(rows))
    arguments = ["submit", "--dataset", data["siim"], "--detector", runs["frcnn"], "--study", runs["study"]]
    call(*arguments, "--sample", sample, "--out", out)
    assert list(read_submission(out).ids) == ids
    sample.write_text("id,PredictionString\nnobody_image,none 1 0 0 1 1\n")
    assert run([str(a) for a in (*arguments, "--sample", sample, "--out", out)]) == 2
    assert "nobody_image" in capfd.readouterr().err


def test_folds_write_out_of_fold_predictions(data, tmp_path):
    train("train-study", "study", data["siim"], tmp_path / "study", "--folds", "2")
    lines = (tmp_path / "study" / "oof.csv").read_text().splitlines()
    folded = [record for record in read_dataset(data["siim"]).records if record.fold is not None]
    assert [line.split(",")[0] for line in lines[1:]] == [record.image_id for record in folded]


def test_a_run_is_not_overwritten_and_wrong_kinds_are_refused(data, runs, tmp_path, capfd):
    arguments = ["train-study", DEMO / "study.yaml", *TINY, "--dataset", data["siim"], "--out", runs["study"]]
    assert run([str(a) for a in arguments]) == 2
    assert "--resume" in capfd.readouterr().err
    submit = ["submit", "--dataset", data["siim"], "--study", runs["frcnn"], "--detector", runs["frcnn"]]
    assert run([str(a) for a in (*submit, "--out", tmp_path / "x.csv")]) == 2
    assert capfd.readouterr().err.count("\n") == 1
    wrong = ["train-study", DEMO / "study.yaml", *TINY, "--dataset", data["rsna"], "--out", tmp_path / "x"]
    assert run([str(a) for a in wrong]) == 2
    assert "siim-study" in capfd.readouterr().err


def test_excluded_patients_are_left_out(data, tmp_path, capfd):
    arguments = ["train-backbone", DEMO / "backbone.yaml", *TINY, f"exclude_patients=[{data['nih']}]"]
    assert run([str(a) for a in (*arguments, "--dataset", data["nih"], "--out", tmp_path / "x")]) == 2
    assert "found none of" in capfd.readouterr().err


def test_inspect_counts_what_convert_wrote(data, capfd):
    call("inspect", data["siim"], "--json")
    counts = json.loads(capfd.readouterr().out)
    assert counts["images"] == len(read_dataset(data["siim"]).records)
