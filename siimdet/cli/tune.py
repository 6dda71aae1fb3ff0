"""The command that fits a coupling on out-of-fold predictions."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from siimdet.arguments import CalibrationName
from siimdet.cli.messages import say
from siimdet.cli.options import JsonOption
from siimdet.errors import UserError
from siimdet.plain_text import aligned
from siimdet.progress import progress_bar

if TYPE_CHECKING:
    from siimdet.submission.evidence import Evidence


def tune(
    out: Annotated[Path, typer.Option(help="The coupling to write, a YAML file for submit --coupling.")],
    dataset: Annotated[
        Path | None, typer.Option(help="Truth: a converted data set, with --boxes and --study ...")
    ] = None,
    boxes: Annotated[list[Path] | None, typer.Option(help="oof.json of a detector; several are fused.")] = None,
    study: Annotated[Path | None, typer.Option(help="oof.csv of a study classifier.")] = None,
    submission: Annotated[
        Path | None, typer.Option(help="... or a submission of out-of-fold predictions, with")
    ] = None,
    image_level: Annotated[Path | None, typer.Option(help="train_image_level.csv,")] = None,
    study_level: Annotated[Path | None, typer.Option(help="train_study_level.csv")] = None,
    patients: Annotated[Path | None, typer.Option(help="and train_meta.csv: imageid, studyid, patientid.")] = None,
    folds: Annotated[int, typer.Option(min=2, help="Folds of patients in which the gain is measured.")] = 5,
    bootstrap: Annotated[int, typer.Option(min=100, help="Resamples of patients for the gain's interval.")] = 1000,
    calibrate: Annotated[
        CalibrationName | None, typer.Option(help="Calibrate each detector's scores before they are fused.")
    ] = None,
    always: Annotated[
        bool, typer.Option("--always", help="Write what was fitted even if it may gain nothing.")
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Fit a coupling of boxes and study level on out-of-fold predictions, and measure its gain out of sample."""
    files = {"--boxes": boxes, "--study": study, "--dataset": dataset}
    tables = {"--submission": submission, "--image-level": image_level, "--study-level": study_level}
    tables["--patients"] = patients
    _check_kinds(files, tables)
    from siimdet.config_file import dump_config
    from siimdet.core.files import atomic_write
    from siimdet.submission.tune import tune as fit

    evidence = _evidence(dataset, boxes, study, submission, image_level, study_level, patients)
    # Opened before minutes of fitting: a place that cannot be written to is refused now.
    with atomic_write(out) as stream:
        with progress_bar("tune") as progress:
            file = submission or study or out
            kind = calibrate.value if calibrate else None
            options = {"calibrate": kind, "always": always, "file": file, "progress": progress}
            tuned = fit(evidence, folds=folds, samples=bootstrap, **options)
        said = "".join(f"# {line}\n" for line in f"siimdet tune: {_gain(tuned.figures)}".splitlines())
        stream.write(said + dump_config(tuned.coupling))
    print(json.dumps(tuned.figures | {"coupling": tuned.coupling.model_dump()}) if as_json else _text(tuned.figures))
    say(f"coupling: {out}")


def _check_kinds(files: dict[str, Any], tables: dict[str, Any]) -> None:
    """Raise UserError unless all options of one kind are given, and none of the other."""
    for these, others in ((files, tables), (tables, files)):
        if all(these.values()) and not any(others.values()):
            return
    given = [name for name, value in (files | tables).items() if value]
    expected = f"either {', '.join(sorted(files))} or {', '.join(tables)}"
    raise UserError("tune", "options", found=" ".join(given), expected=expected)


def _evidence(
    dataset: Path | None,
    boxes: list[Path] | None,
    study: Path | None,
    submission: Path | None,
    image_level: Path | None,
    study_level: Path | None,
    patients: Path | None,
) -> "Evidence":
    from siimdet.submission.evidence import read_predictions, read_submitted

    if dataset and boxes and study:
        return read_predictions(dataset, boxes, study)
    assert submission and image_level and study_level and patients, "neither kind of evidence"
    return read_submitted(submission, image_level, study_level, patients)


def _text(figures: dict[str, Any]) -> str:
    """AP by class under each coupling, then the gain."""
    columns = [name for name in ("submitted", "default", "in_sample", "out_of_sample") if name in figures]
    rows = [[name, *(figures[column][name] for column in columns)] for name in figures["default"]]
    table = aligned([["AP", *(column.replace("_", " ") for column in columns)], *rows])
    return f"{table}\n\n{_gain(figures)}"


def _gain(figures: dict[str, Any]) -> str:
    """The gain in one line, and one more where what was submitted stays the best."""
    low, high = figures["interval"] or (float("nan"), float("nan"))
    verdict = "" if figures["verdict"] == "gain" else ", so none"
    over = {"default": "over the default", "submitted": "over what was submitted"}[figures["reference"]]
    drawn = f"{figures['level']:.0%} of {figures['samples']} resamples"
    gain = (
        f"gain out of sample {figures['gain']:+.4f} ({low:+.4f} to {high:+.4f}) {over}{verdict}; "
        f"written: {figures['written']}; {figures['folds']} folds of {figures['patients']} patients, {drawn}"
    )
    if figures["verdict"] == "gain" or figures["reference"] == "default":
        return gain
    best = figures["submitted"]["mAP"]
    worth = figures["default" if figures["written"] == "default" else "out_of_sample"]["mAP"]
    return (
        f"{gain}\nnothing found is surely better than the submission as it stands, mAP {best:.4f}: "
        f"keep it; the coupling written ({figures['written']}) gives {worth:.4f}"
    )
