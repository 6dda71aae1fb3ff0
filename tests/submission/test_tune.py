"""tune: a planted optimum is found out of sample, a gain that is none is said to be none, and what is refused."""

import json
from dataclasses import dataclass, fields, replace
from pathlib import Path

import numpy as np
import pytest

from siimdet.cli import run
from siimdet.config import Calibration, Coupling, NoneExponents
from siimdet.config_file import load_config
from siimdet.core.labels import OPACITY, STUDY
from siimdet.core.types import BoxLabels, Detections, ImageRecord, ImageSize, Probabilities
from siimdet.data.coco import read_detections, write_detections
from siimdet.data.manifest import read_dataset, write_dataset
from siimdet.data.table import write_table
from siimdet.errors import SubmissionError
from siimdet.imaging.png import write_png
from siimdet.inference.aggregate import study_probabilities
from siimdet.submission.coupling import fused_boxes
from siimdet.submission.evidence import Evidence, prediction_evidence, read_predictions, read_submitted
from siimdet.submission.file import read_submission, write_submission
from siimdet.submission.fitting import DEFAULT, Fitter
from siimdet.submission.score import score_submission
from siimdet.submission.table import CLASSES, Submission
from siimdet.submission.truth import make_truth
from siimdet.submission.tune import Tuned, applied, tune
from siimdet.submission.uncoupled import uncoupled_predictions

SIZE = ImageSize(200, 200)
PLANTED = Coupling(
    kind="coupling",
    fusion_iou=0.75,
    fusion_weights=(1.0, 0.1),
    study_from_images="opacity",
    none=NoneExponents(own=0, image_opacity=1),
)
"""What suits the phantoms best: see `phantoms`."""


@dataclass(frozen=True)
class Phantoms:
    """Two images a study, two studies a patient, with what two detectors and a study model say of them."""

    records: list[ImageRecord]
    boxes: dict[str, list[list[float]]]
    labels: dict[str, str]
    models: tuple[dict[str, Detections], dict[str, Detections]]
    classes: Probabilities
    opacity: Probabilities

    def evidence(self) -> Evidence:
        truth = make_truth({record.image_id: record.study_id for record in self.records}, self.boxes, self.labels)
        return prediction_evidence(
            self.records, truth, self.models, self.classes, opacity=self.opacity, file="phantoms"
        )


def phantoms(studies: int, seed: int) -> Phantoms:
    """Truths come in pairs that overlap by .63: an IoU of .55 fuses them. The second detector's scores tell nothing.

    One image of a study holds its boxes and its class; the other is a confident guess, which a mean or maximum takes
    in. `opacity` tells which is which.
    """
    rng = np.random.default_rng(seed)
    records, boxes, labels, values, opacity = [], {}, {}, [], []
    models: tuple[dict, dict] = ({}, {})
    for number in range(studies):
        class_id, shown = int(rng.integers(4)), int(rng.integers(2))
        labels[f"s{number}"] = STUDY.names[class_id]
        for i in range(2):
            image = f"i{number}_{i}"
            path = f"images/{image}.png"
            label = np.eye(4, dtype=np.float32)[class_id]
            records.append(ImageRecord(image, f"s{number}", f"p{number // 2}", path, SIZE, SIZE, label, "train"))
            x, y = rng.uniform(10, 90, 2)
            boxes[image] = [[x, y, x + 80, y + 80], [x + 18, y, x + 98, y + 80]] if class_id and i == shown else []
            for model, spread in zip(models, (0.1, None), strict=True):
                model[image] = found(rng, boxes[image], spread)
            logits = rng.normal(0, 2, 4)
            if i == shown:
                logits = rng.normal(0, 1, 4) + 2.5 * np.eye(4)[class_id]
            values.append(np.exp(logits) / np.exp(logits).sum())
            opacity.append([rng.uniform(0.4, 1) if boxes[image] else rng.uniform(0, 0.6 if i == shown else 0.3)])
    keys = tuple(record.image_id for record in records)
    return Phantoms(
        records, boxes, labels, models, Probabilities(keys, values, STUDY), Probabilities(keys, opacity, OPACITY)
    )


def found(rng: np.random.Generator, truth: list[list[float]], spread: float | None) -> Detections:
    """The truth off by a pixel or two, and false boxes of lower scores; without `spread`, scores are noise."""
    false = [[*corner, *(corner + 60)] for corner in rng.uniform(0, 140, (2, 2))]
    xyxy = np.array([*(np.array(box) + rng.normal(0, 1.5, 4) for box in truth), *false])
    means = np.array([0.6] * len(truth) + [0.3] * len(false))
    scores = rng.uniform(0, 1, len(means)) if spread is None else np.clip(rng.normal(means, spread), 0.01, 1)
    return Detections(np.clip(xyxy, 0, 200), [0] * len(xyxy), scores, SIZE)


def mean_ap(evidence: Evidence, coupling: Coupling) -> float:
    return score_submission(applied(evidence, coupling), evidence.truth).as_dict()["mAP"]


@pytest.fixture(scope="module")
def planted() -> Phantoms:
    return phantoms(60, seed=0)


@pytest.fixture(scope="module")
def tuned(planted) -> Tuned:
    return tune(planted.evidence(), folds=3, samples=100)


def test_most_of_a_planted_gain_is_recovered_out_of_sample(planted, tuned):
    evidence = planted.evidence()
    default, best = mean_ap(evidence, DEFAULT), mean_ap(evidence, PLANTED)
    # Every part of the plant counts.
    for part in ("fusion_iou", "fusion_weights", "study_from_images"):
        without = PLANTED.model_copy(update={part: getattr(DEFAULT, part)})
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
    coupling = PLANTED.model_copy(update={"calibration": calibration, "study_from_images": rule})
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


def corrupted(whole: Phantoms, images: set[str]) -> Phantoms:
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
def test_a_fold_is_not_fitted_on_its_own_rows(calibrate):
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


def without_information(studies: int) -> Evidence:
    """One detector, no probability of a box, classes at random: nothing to gain but by chance."""
    rng = np.random.default_rng(1)
    base = phantoms(studies, seed=1)
    noise = rng.dirichlet(np.ones(4), len(base.records))
    model = {image: Detections([[0, 0, 9, 9]], [0], [rng.uniform(0.1, 1)], SIZE) for image in base.boxes}
    truth = make_truth({record.image_id: record.study_id for record in base.records}, base.boxes, base.labels)
    classes = Probabilities(tuple(base.boxes), noise, STUDY)
    return prediction_evidence(base.records, truth, [model], classes, file="noise")


def test_a_gain_that_may_be_none_is_said_to_be_none_and_the_default_is_kept():
    evidence = without_information(40)
    tuned = tune(evidence, folds=3, samples=100)
    low, high = tuned.figures["interval"]
    assert low <= 0 <= high
    assert (tuned.figures["verdict"], tuned.figures["written"]) == ("none", "default")
    assert tuned.coupling == DEFAULT
    asked = tune(evidence, folds=3, samples=100, always=True)
    assert (asked.figures["verdict"], asked.figures["written"]) == ("none", "fitted")
    assert mean_ap(evidence, asked.coupling) == asked.figures["in_sample"]["mAP"] >= tuned.figures["default"]["mAP"]


@pytest.mark.parametrize("kind", ["temperature", "isotonic"])
def test_detectors_are_calibrated_fold_by_fold(kind):
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


def test_a_submission_has_no_detectors_to_calibrate(tmp_path, planted, capsys):
    options = tables(tmp_path, planted)
    assert run(["tune", *options, "--out", str(tmp_path / "c.yaml"), "--calibrate", "isotonic"]) == 2
    assert "s.csv: --calibrate: found boxes of no one detector, expected --boxes FILE..." in capsys.readouterr().err


def test_there_must_be_a_patient_for_each_fold():
    with pytest.raises(SubmissionError, match=r"^oof.csv: --folds: found rows of 2 patients, expected one per fold$"):
        tune(phantoms(4, seed=0).evidence(), folds=3, samples=100, file="oof.csv")


@pytest.fixture
def on_disk(tmp_path, planted) -> Path:
    """The phantoms as a data set with prediction files beside it."""
    root = tmp_path / "data"
    for record in planted.records:
        write_png(root / record.path, np.zeros((SIZE.height, SIZE.width), np.uint8))
    boxes = {image: BoxLabels(xyxy, [0] * len(xyxy), SIZE) for image, xyxy in planted.boxes.items()}
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
    words = tables(on_disk, planted)
    submitted = read_submitted(*words[1::2])
    assert sorted(submitted.truth.ids) == sorted(evidence.truth.ids)
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
def test_progress_ticks_with_every_candidate_and_ends_complete(calibrate):
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


def tables(folder: Path, planted: Phantoms, *, patients: str | None = None) -> list[str]:
    """A submission of the phantoms and the competition's tables of them; the options that name these."""
    evidence = planted.evidence()
    write_submission(folder / "s.csv", applied(evidence, PLANTED.model_copy(update={"none": DEFAULT.none})))
    images = []
    for record in planted.records:
        corners = np.array(planted.boxes[record.image_id]).reshape(-1, 4).tolist()
        cells = [{"x": x1, "y": y1, "width": x2 - x1, "height": y2 - y1} for x1, y1, x2, y2 in corners]
        images.append((f"{record.image_id}_image", str(cells) if cells else "", "", record.study_id))
    write_table(folder / "image.csv", ("id", "boxes", "label", "StudyInstanceUID"), images)
    columns = ("Negative for Pneumonia", "Typical Appearance", "Indeterminate Appearance", "Atypical Appearance")
    studies = [(f"{study}_study", *(int(name == own) for own in STUDY.names)) for study, name in planted.labels.items()]
    write_table(folder / "study_level.csv", ("id", *columns), studies)
    rows = [(patients or r.patient_id, r.study_id, r.image_id) for r in planted.records]
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
    good = applied(whole, PLANTED.model_copy(update={"fusion_iou": DEFAULT.fusion_iou}))
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
