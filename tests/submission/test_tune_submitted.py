"""tune of a submission file: its exponents alone, the gain over what was handed in, and what is refused."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from siimdet.cli import run
from siimdet.config_file import load_config
from siimdet.core.labels import STUDY
from siimdet.data.table import write_table
from siimdet.submission.evidence import Evidence, read_submitted
from siimdet.submission.file import write_submission
from siimdet.submission.fitting import DEFAULT
from siimdet.submission.table import CLASSES, Submission
from siimdet.submission.tune import applied, tune


def tables(folder: Path, planted) -> list[str]:
    """A submission of the phantoms and the competition's tables of them; the options that name these."""
    evidence = planted.evidence()
    write_submission(folder / "s.csv", applied(evidence, planted.best.model_copy(update={"none": DEFAULT.none})))
    images = []
    for record in planted.records:
        corners = np.array(planted.boxes[record.image_id]).reshape(-1, 4).tolist()
        cells = [{"x": x1, "y": y1, "width": x2 - x1, "height": y2 - y1} for x1, y1, x2, y2 in corners]
        images.append((f"{record.image_id}_image", str(cells) if cells else "", "", record.study_id))
    write_table(folder / "image.csv", ("id", "boxes", "label", "StudyInstanceUID"), images)
    columns = ("Negative for Pneumonia", "Typical Appearance", "Indeterminate Appearance", "Atypical Appearance")
    studies = [(f"{study}_study", *(int(name == own) for own in STUDY.names)) for study, name in planted.labels.items()]
    write_table(folder / "study_level.csv", ("id", *columns), studies)
    rows = [(r.patient_id, r.study_id, r.image_id) for r in planted.records]
    write_table(folder / "meta.csv", ("patientid", "studyid", "imageid"), rows)
    names = {"submission": "s", "image-level": "image", "study-level": "study_level", "patients": "meta"}
    return [word for name, stem in names.items() for word in (f"--{name}", str(folder / f"{stem}.csv"))]


def test_a_submission_is_tuned_by_its_exponents_alone(tmp_path, planted, capsys):
    options = tables(tmp_path, planted)
    out = tmp_path / "coupling.yaml"
    assert run(["tune", *options, "--out", str(out), "--folds", "3", "--bootstrap", "100"]) == 0
    shown = capsys.readouterr().out
    assert shown.splitlines()[0].split() == ["AP", "submitted", "default", "in", "sample", "out", "of", "sample"]
    written = load_config(out, kinds=("coupling",))
    assert written.none.image_opacity > 0
    assert written.none.own + written.none.image_opacity + written.none.p_opacity == pytest.approx(1)
    assert written.model_copy(update={"none": DEFAULT.none, "opacity": DEFAULT.opacity}) == DEFAULT


def test_strings_do_for_paths(tmp_path, planted):
    words = tables(tmp_path, planted)
    assert sorted(read_submitted(*words[1::2]).truth.ids) == sorted(planted.evidence().truth.ids)


def faultless(evidence: Evidence) -> Submission:
    """All that is true at .9; `none` too of images in studies that are not negative, where the default has it wrong."""
    ids, boxes = evidence.truth.ids, evidence.truth.boxes
    lacking = {
        row: CLASSES.names.index("negative" if key.endswith("_study") else "none") for row, key in enumerate(ids)
    }
    for row, class_id in zip(boxes.images.tolist(), boxes.class_ids.tolist(), strict=True):
        if lacking.get(row) == class_id:
            del lacking[row]
    rows = np.array([*boxes.images, *lacking])
    class_ids = np.array([*boxes.class_ids, *lacking.values()])
    scores = np.repeat([0.9, 0.1], [len(boxes.images), len(lacking)])
    xyxy = np.concatenate([boxes.xyxy, np.tile([0.0, 0.0, 1.0, 1.0], (len(lacking), 1))])
    return Submission("faultless", ids, rows, class_ids, scores, xyxy)


def test_a_gain_is_one_over_the_submission_where_that_is_better_than_the_default(tmp_path, planted, capsys):
    options = tables(tmp_path, planted)
    write_submission(tmp_path / "s.csv", faultless(planted.evidence()))
    out = tmp_path / "c.yaml"
    command = ["tune", *options, "--out", str(out), "--folds", "2", "--bootstrap", "100"]
    assert run([*command, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    default, own, best = (found[name]["mAP"] for name in ("default", "out_of_sample", "submitted"))
    assert default < 0.96
    assert (best, found["reference"], found["gain"]) == (1.0, "submitted", own - best)
    assert found["interval"][0] <= 0
    assert (found["verdict"], found["written"]) == ("none", "fitted")  # it gains over the default
    assert load_config(out, kinds=("coupling",)) != DEFAULT
    assert run(command) == 0
    gain, kept = capsys.readouterr().out.splitlines()[-2:]
    assert ") over what was submitted, so none; written: " in gain
    assert kept == (
        "nothing found is surely better than the submission as it stands, mAP 1.0000: "
        f"keep it; the coupling written (fitted) gives {own:.4f}"
    )
    assert out.read_text().startswith(f"# siimdet tune: {gain}\n# {kept}\nkind: coupling\n")


def test_a_gain_over_a_submission_that_is_better_than_the_default(planted):
    whole = planted.evidence()
    good = applied(whole, planted.best.model_copy(update={"fusion_iou": DEFAULT.fusion_iou}))
    tuned = tune(replace(whole, submitted=good), folds=3, samples=100)
    figures = tuned.figures
    assert figures["default"]["mAP"] < figures["submitted"]["mAP"] < figures["out_of_sample"]["mAP"]
    assert figures["gain"] == figures["out_of_sample"]["mAP"] - figures["submitted"]["mAP"]
    assert (figures["reference"], figures["verdict"], figures["written"]) == ("submitted", "gain", "fitted")
    poor = tune(replace(whole, submitted=applied(whole, DEFAULT)), folds=3, samples=100)
    assert (poor.figures["reference"], poor.figures["verdict"]) == ("default", "gain")
    assert poor.figures["interval"][0] > figures["interval"][0] > 0
    # Better than the default, though what was submitted stays the best.
    best = tune(replace(whole, submitted=faultless(whole)), folds=3, samples=100)
    assert (best.figures["reference"], best.figures["verdict"], best.figures["written"]) == (
        "submitted",
        "none",
        "fitted",
    )
    assert best.coupling == tuned.coupling


@pytest.mark.parametrize("over_default", [-0.1, 0.1])
@pytest.mark.parametrize("over_submitted", [-0.1, 0.1])
def test_a_sure_gain_over_either_is_written(planted, monkeypatch, over_default, over_submitted):
    whole = planted.evidence()
    submitted = faultless(whole)

    def interval(_, pooled, reference, samples):
        return [over_submitted if reference is submitted else over_default, 0.2]

    monkeypatch.setattr("siimdet.submission.tune._interval", interval)
    figures = tune(replace(whole, submitted=submitted), folds=2, samples=10).figures
    assert figures["reference"] == "submitted"
    assert figures["verdict"] == ("gain" if over_submitted > 0 else "none")
    assert figures["written"] == ("fitted" if max(over_default, over_submitted) > 0 else "default")


def test_a_submission_needs_its_patients(tmp_path, planted, capsys):
    options = tables(tmp_path, planted)
    (tmp_path / "meta.csv").write_text("patientid,studyid,imageid\np0,s0,i0_0\np1,s0,i0_1\n")
    assert run(["tune", *options, "--out", str(tmp_path / "c.yaml")]) == 2
    assert "meta.csv:3: patientid: found p1, expected p0 as before" in capsys.readouterr().err
    (tmp_path / "meta.csv").write_text("patientid,studyid,imageid\np0,s0,i0_0\np0,s0,i0_1\n")
    assert run(["tune", *options, "--out", str(tmp_path / "c.yaml")]) == 2
    assert "expected the patient of every row" in capsys.readouterr().err


@pytest.mark.real_data
def test_real_predictions_cost_nothing_out_of_sample(shared_data, tmp_path, capsys):
    siim = shared_data / "siim"
    files = {
        "--submission": shared_data / "siim_oof" / "submission.csv",
        "--image-level": siim / "train_image_level.csv",
        "--study-level": siim / "train_study_level.csv",
        "--patients": siim / "train_meta.csv",
    }
    options = [word for name, path in files.items() for word in (name, str(path))]
    assert run(["tune", *options, "--out", str(tmp_path / "c.yaml"), "--bootstrap", "100", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert round(found["submitted"]["mAP"], 6) == 0.621253
    assert round(found["default"]["mAP"], 6) == 0.621597
    assert -0.002 <= found["gain"] <= found["in_sample"]["mAP"] - found["default"]["mAP"]
    low, high = found["interval"]
    assert low < found["gain"] < high
    assert (found["folds"], found["patients"]) == (5, 2309)
    assert found["verdict"] == ("gain" if low > 0 else "none")


def test_a_submission_has_no_detectors_to_calibrate(tmp_path, planted, capsys):
    options = tables(tmp_path, planted)
    assert run(["tune", *options, "--out", str(tmp_path / "c.yaml"), "--calibrate", "isotonic"]) == 2
    assert "s.csv: --calibrate: found boxes of no one detector, expected --boxes FILE..." in capsys.readouterr().err
