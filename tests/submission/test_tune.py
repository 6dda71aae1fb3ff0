"""tune: a planted optimum is found out of sample, a gain that is none is said to be none, and what is refused."""

import json
from dataclasses import fields, replace
from pathlib import Path

import numpy as np
import pytest

from siimdet.cli import run
from siimdet.config import Calibration, Coupling
from siimdet.config_file import load_config
from siimdet.core.labels import OPACITY, STUDY
from siimdet.core.types import BoxLabels, Detections, Probabilities
from siimdet.data.coco import read_detections, write_detections
from siimdet.data.manifest import read_dataset, write_dataset
from siimdet.data.table import write_table
from siimdet.errors import SubmissionError
from siimdet.imaging.png import write_png
from siimdet.inference.aggregate import study_probabilities
from siimdet.submission.coupling import fused_boxes
from siimdet.submission.evidence import Evidence, prediction_evidence, read_predictions
from siimdet.submission.file import read_submission
from siimdet.submission.fitting import DEFAULT, Fitter
from siimdet.submission.score import score_submission
from siimdet.submission.truth import make_truth
from siimdet.submission.tune import applied, tune
from siimdet.submission.uncoupled import uncoupled_predictions


def mean_ap(evidence: Evidence, coupling: Coupling) -> float:
    return score_submission(applied(evidence, coupling), evidence.truth).as_dict()["mAP"]


def test_most_of_a_planted_gain_is_recovered_out_of_sample(planted, tuned):
    evidence = planted.evidence()
    default, best = mean_ap(evidence, DEFAULT), mean_ap(evidence, planted.best)
    # Every part of the plant counts.
    for part in ("fusion_iou", "fusion_weights", "study_from_images"):
        without = planted.best.model_copy(update={part: getattr(DEFAULT, part)})
        assert mean_ap(evidence, without) < best - 0.01, part
    assert tuned.figures["default"]["mAP"] == default
    assert tuned.figures["gain"] >= 0.8 * (best - default)
    assert tuned.figures["interval"][0] > 0.05
    assert (tuned.figures["verdict"], tuned.figures["written"]) == ("gain", "fitted")
    assert tuned.coupling.study_from_images == "opacity"
    assert tuned.coupling.fusion_iou > 0.63
    first, second = tuned.coupling.fusion_weights or (0, 0)
    assert first > 2 * second


@pytest.mark.parametrize("rule", ["mean", "max", "opacity"])
def test_the_columns_of_a_coupling_are_those_that_submit_would_couple(planted, rule):
    calibration = (Calibration(temperature=2.5), Calibration(knots=((0.1, 0.0), (0.6, 0.3), (0.6, 0.4), (0.9, 1.0))))
    coupling = planted.best.model_copy(update={"calibration": calibration, "study_from_images": rule})
    rng = np.random.default_rng(7)
    records = [planted.records[place] for place in rng.permutation(len(planted.records))]
    # One detector lacks an image, and has one that is not among the records.
    first = {key: boxes for key, boxes in planted.models[0].items() if key != "i3_0"} | {"a": planted.models[0]["i3_0"]}
    models = [first, planted.models[1]]
    truth, opacity = planted.evidence().truth, planted.opacity
    evidence = prediction_evidence(records, truth, models, planted.classes, opacity=opacity, file="f")
    studies = study_probabilities(planted.classes, records, rule, opacity=opacity)
    options = {"file": "f", "ids": truth.ids, "opacity": opacity}
    wanted = uncoupled_predictions(records, fused_boxes(models, coupling), studies, **options)
    found = evidence.columns(coupling)
    for field in fields(wanted):
        np.testing.assert_array_equal(getattr(found, field.name), getattr(wanted, field.name), err_msg=field.name)


def corrupted(whole, images: set[str]):
    """With `images` turned round: boxes where there were none and none where there were, all scores shuffled."""
    rng = np.random.default_rng(5)
    boxes = {key: ([] if xyxy else [[5, 5, 85, 85]]) if key in images else xyxy for key, xyxy in whole.boxes.items()}
    models = tuple(
        {
            key: replace(one, scores=rng.permutation(1 - one.scores)) if key in images else one
            for key, one in model.items()
        }
        for model in whole.models
    )
    mine = np.array([key in images for key in whole.classes.keys])
    classes, opacity = whole.classes.values.copy(), whole.opacity.values.copy()
    classes[mine] = rng.permutation(classes[mine])
    opacity[mine] = rng.permutation(1 - opacity[mine])
    return replace(
        whole,
        boxes=boxes,
        models=models,
        classes=replace(whole.classes, values=classes),
        opacity=replace(whole.opacity, values=opacity),
    )


@pytest.mark.parametrize("calibrate", [None, "temperature"])
def test_a_fold_is_not_fitted_on_its_own_rows(phantoms, calibrate):
    whole = phantoms(24, seed=2)
    fold_of_patient = {record.patient_id: int(record.patient_id[1:]) % 3 for record in whole.records}
    held_out = {record.image_id for record in whole.records if fold_of_patient[record.patient_id] == 0}
    fitters = []
    for one in (whole, corrupted(whole, held_out)):
        evidence = one.evidence()
        fold_of = np.array([fold_of_patient[patient] for patient in evidence.patients])
        fitters.append(Fitter(evidence, fold_of, calibrate=calibrate))
    assert fitters[0].fit(0) == fitters[1].fit(0)
    assert fitters[0].fit(None) != fitters[1].fit(None)


def test_the_gain_is_that_of_the_pooled_rows(planted, tuned):
    evidence = planted.evidence()
    assert len(tuned.of_folds) == 3
    assert sorted(tuned.pooled.ids) == sorted(evidence.truth.ids)
    score = score_submission(tuned.pooled, evidence.truth).as_dict()
    assert tuned.figures["out_of_sample"]["mAP"] == score["mAP"]
    assert tuned.figures["gain"] == score["mAP"] - tuned.figures["default"]["mAP"]


def without_information(phantoms, studies: int) -> Evidence:
    """One detector, no probability of a box, classes at random: nothing to gain but by chance."""
    rng = np.random.default_rng(1)
    base = phantoms(studies, seed=1)
    noise = rng.dirichlet(np.ones(4), len(base.records))
    model = {
        image: Detections([[0, 0, 9, 9]], [0], [rng.uniform(0.1, 1)], base.records[0].stored) for image in base.boxes
    }
    truth = make_truth({record.image_id: record.study_id for record in base.records}, base.boxes, base.labels)
    classes = Probabilities(tuple(base.boxes), noise, STUDY)
    return prediction_evidence(base.records, truth, [model], classes, file="noise")


def test_a_gain_that_may_be_none_is_said_to_be_none_and_the_default_is_kept(phantoms):
    evidence = without_information(phantoms, 40)
    tuned = tune(evidence, folds=3, samples=100)
    low, high = tuned.figures["interval"]
    assert low <= 0 <= high
    assert (tuned.figures["verdict"], tuned.figures["written"]) == ("none", "default")
    assert tuned.coupling == DEFAULT
    asked = tune(evidence, folds=3, samples=100, always=True)
    assert (asked.figures["verdict"], asked.figures["written"]) == ("none", "fitted")
    assert mean_ap(evidence, asked.coupling) == asked.figures["in_sample"]["mAP"] >= tuned.figures["default"]["mAP"]


@pytest.mark.parametrize("kind", ["temperature", "isotonic"])
def test_detectors_are_calibrated_fold_by_fold(phantoms, kind):
    evidence = phantoms(24, seed=2).evidence()
    tuned = tune(evidence, folds=2, samples=100, calibrate=kind, always=True)
    couplings = [*tuned.of_folds, tuned.coupling]
    assert len({coupling.calibration for coupling in couplings}) == 3
    for coupling in couplings:
        honest, noise = coupling.calibration or ()
        if kind == "temperature":
            assert honest.temperature < 1 < noise.temperature
        else:
            assert (honest.knots[0][1], honest.knots[-1][1]) == (0, 1)
            assert noise.temperature == honest.temperature == 1
    assert tuned.figures["gain"] > 0.05


def test_there_must_be_a_patient_for_each_fold(phantoms):
    with pytest.raises(SubmissionError, match=r"^oof.csv: --folds: found rows of 2 patients, expected one per fold$"):
        tune(phantoms(4, seed=0).evidence(), folds=3, samples=100, file="oof.csv")


@pytest.fixture
def on_disk(tmp_path, planted) -> Path:
    """The phantoms as a data set with prediction files beside it."""
    root = tmp_path / "data"
    for record in planted.records:
        write_png(root / record.path, np.zeros((record.stored.height, record.stored.width), np.uint8))
    sizes = {record.image_id: record.stored for record in planted.records}
    boxes = {image: BoxLabels(xyxy, [0] * len(xyxy), sizes[image]) for image, xyxy in planted.boxes.items()}
    write_dataset(root, planted.records, boxes, source="siim", labels=STUDY, classes=OPACITY, bit_depth=8, details={})
    data = read_dataset(root)
    for number, model in enumerate(planted.models):
        write_detections(tmp_path / f"{number}.json", data, model)
    rows = np.hstack([planted.classes.values, planted.opacity.values]).tolist()
    header = ("image_id", *STUDY.names, "opacity")
    write_table(
        tmp_path / "study.csv", header, [(key, *row) for key, row in zip(planted.classes.keys, rows, strict=True)]
    )
    return tmp_path


def test_files_are_tuned_into_a_coupling_that_submit_reads(on_disk, planted, tuned, capsys):
    files = [str(on_disk / name) for name in ("0.json", "1.json")]
    out = on_disk / "coupling.yaml"
    command = ["tune", "--dataset", str(on_disk / "data"), "--boxes", *files, "--study", str(on_disk / "study.csv")]
    assert run([*command, "--out", str(out), "--folds", "3", "--bootstrap", "100", "--json"]) == 0
    result = json.loads(capsys.readouterr().out)
    written = load_config(out, kinds=("coupling",))
    assert written.model_dump(mode="json") == result["coupling"]
    assert written == tuned.coupling
    assert result["gain"] == tuned.figures["gain"]
    submission = on_disk / "submission.csv"
    command[0] = "submit"
    assert run([*command, "--coupling", str(out), "--out", str(submission)]) == 0
    score = score_submission(read_submission(submission), planted.evidence().truth).as_dict()
    assert score["mAP"] == pytest.approx(result["in_sample"]["mAP"], abs=1e-12)
    assert out.read_text().startswith(f"# siimdet tune: gain out of sample {result['gain']:+.4f} (")


def test_strings_do_for_paths(on_disk, planted):
    files = [str(on_disk / name) for name in ("data", "0.json", "study.csv")]
    evidence = read_predictions(files[0], files[1:2], files[2])
    assert sorted(evidence.truth.ids) == sorted(planted.evidence().truth.ids)
    data = read_dataset(files[0])
    assert read_detections(files[1], data).keys() == read_detections(Path(files[1]), data).keys()


def test_a_place_that_cannot_be_written_to_is_refused_before_anything_is_fitted(on_disk, capsys, monkeypatch):
    monkeypatch.setattr(Fitter, "fit", lambda *_: pytest.fail("fitted"))
    (on_disk / "file").write_text("")
    command = ["tune", "--dataset", str(on_disk / "data"), "--boxes", str(on_disk / "0.json")]
    out = on_disk / "file" / "c.yaml"
    assert run([*command, "--study", str(on_disk / "study.csv"), "--out", str(out)]) == 2
    error = capsys.readouterr().err
    assert f"{out}: file: found " in error
    assert error.endswith(", expected a place to write to\n")
    assert error.count("\n") == 1


@pytest.mark.parametrize("calibrate", [None, "temperature"])
def test_progress_ticks_with_every_candidate_and_ends_complete(phantoms, calibrate):
    told = []
    evidence = phantoms(24, seed=2).evidence()
    tune(evidence, folds=2, samples=100, calibrate=calibrate, progress=lambda done, total: told.append((done, total)))
    done = [each for each, _ in told]
    assert done == sorted(done)
    assert {total for _, total in told} == {done[-1]}
    # Every fusion of the grid is told, and of each of the three fits every rule.
    assert done[:63] == list(range(1, 64))
    assert len(set(done)) > 63 + 3 * 4


def test_boxes_and_study_file_must_be_of_the_same_images(on_disk, capsys):
    lines = (on_disk / "study.csv").read_text().splitlines(keepends=True)
    (on_disk / "study.csv").write_text("".join(lines[:-1]))
    command = ["tune", "--dataset", str(on_disk / "data"), "--boxes", str(on_disk / "0.json")]
    assert run([*command, "--study", str(on_disk / "study.csv"), "--out", str(on_disk / "c.yaml")]) == 2
    error = capsys.readouterr().err
    assert error.endswith("found boxes of 'i59_1' (1 other images), expected only those of the study file's 119\n")
    assert error.count("\n") == 1
    assert not (on_disk / "c.yaml").exists()
