"""The commands that score: predictions against the truth, and runs against each other."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from siimdet.arguments import DeviceChoice, SplitName
from siimdet.cli.intervals import difference_table, with_interval_texts
from siimdet.cli.messages import say
from siimdet.cli.options import DatasetOption, DeviceOption, JsonOption, SplitOption, WorkersOption
from siimdet.errors import UserError
from siimdet.plain_text import aligned, classification_report, indented


def evaluate(
    predictions: Annotated[
        Path, typer.Argument(help="A submission.csv, a detector's COCO results (.json), or a classifier's CSV.")
    ],
    other: Annotated[
        Path | None, typer.Argument(help="A second file of that kind: how much better it is than the first.")
    ] = None,
    dataset: Annotated[Path | None, typer.Option(help="Truth: a converted data set ...")] = None,
    split: SplitOption = None,
    image_level: Annotated[Path | None, typer.Option(help="... or train_image_level.csv")] = None,
    study_level: Annotated[Path | None, typer.Option(help="and train_study_level.csv,")] = None,
    patients: Annotated[Path | None, typer.Option(help="with train_meta.csv to resample patients,")] = None,
    sources: Annotated[Path | None, typer.Option(help="and a CSV of image sizes and sources.")] = None,
    sample: Annotated[
        Path | None, typer.Option(help="For --check-only: the ids of this submission file are wanted.")
    ] = None,
    only_submitted: Annotated[bool, typer.Option("--only-submitted", help="Score the submitted ids alone.")] = False,
    check_only: Annotated[bool, typer.Option("--check-only", help="Check the file, do not score it.")] = False,
    bootstrap: Annotated[
        int | None, typer.Option(min=100, help="95 % intervals from as many resamples of the patients, such as 1000.")
    ] = None,
    report: Annotated[Path | None, typer.Option(help="HTML file to write: curves, breakdowns, images.")] = None,
    boxes: Annotated[
        list[Path] | None, typer.Option(help="For the report: COCO results of detectors that were fused.")
    ] = None,
    blanked: Annotated[
        Path | None, typer.Option(help="For the report: the same models' file, made with --blank-border.")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Score a submission or a detector's boxes by VOC 2010 AP at IoU > 0.5, or report on a classifier's CSV."""
    tables = {"--image-level": image_level, "--study-level": study_level}
    beside = {"--patients": patients, "--sources": sources}
    _check_truth(predictions, {"--dataset": dataset, "--sample": sample}, tables, beside, split)
    parts = {"--bootstrap": bootstrap, "second file": other, "--report": report}
    _check_parts(predictions, parts, {"--boxes": boxes, "--blanked": blanked}, sample, check_only=check_only)
    from siimdet.submission.evaluate import check_file, evaluate_file
    from siimdet.submission.evaluate_pair import evaluate_pair
    from siimdet.submission.scored import SAMPLES, Scored, resampled
    from siimdet.submission.truth_files import TruthFiles

    name = split.value if split else None
    against = TruthFiles(dataset, name, image_level, study_level, patients, sources, sample)
    if check_only:
        checked = check_file(predictions, against, only_submitted=only_submitted)
        _say_left_out(predictions, checked)
        print(json.dumps(checked) if as_json else indented(checked))
        return

    def score(file: Path) -> Scored:
        made = evaluate_file(file, against, only_submitted=only_submitted)
        _say_left_out(file, made.figures)
        return made

    scored, samples = score(predictions), bootstrap or SAMPLES
    pair = None if other is None else evaluate_pair(scored, score(other), samples=samples)
    if bootstrap is not None or report is not None:
        scored = resampled(scored, samples) if pair is None else pair.first
    if report is not None:
        from siimdet.report.evaluation import write_evaluation
        from siimdet.report.evaluation.gather import gather

        without = None if blanked is None else evaluate_pair(scored, score(blanked), samples=samples)
        found = [score(file) for file in boxes or ()]
        write_evaluation(report, gather(scored, against, detectors=found, other=pair, blanked=without))
        say(f"report: {report}")
    if pair is not None:
        print(json.dumps(pair.as_dict()) if as_json else difference_table(pair.as_dict()))
        return
    result = scored.as_dict()
    shown = classification_report if "classes" in result else indented
    print(json.dumps(result) if as_json else shown(with_interval_texts(result)))


def _check_truth(
    file: Path,
    whole: Mapping[str, Path | None],
    tables: Mapping[str, Path | None],
    beside: Mapping[str, Path | None],
    split: SplitName | None,
) -> None:
    """Raise UserError unless ids are of a data set, a sample or both, or of both tables with what goes beside them."""
    named = [name for name, path in whole.items() if path is not None]
    given = [name for name, path in tables.items() if path is not None]
    if bool(named) == bool(given) or 0 < len(given) < len(tables):
        expected = "--dataset, or --image-level and --study-level, or to check alone --sample"
        raise UserError(file, "truth", found="none, half of one or two kinds", expected=expected)
    if named:
        _refuse(file, beside, found=named[0], expected="label tables")
    if named != ["--dataset"]:
        found = "--sample, which names the images" if named else "label tables, which have no splits"
        _refuse(file, {"--split": split}, found=found, expected="--dataset alone")


def _check_parts(
    file: Path, figures: Mapping[str, Any], shown: Mapping[str, Any], sample: Path | None, *, check_only: bool
) -> None:
    """Raise UserError for what --check-only leaves out, what it alone takes, or a report alone shows."""
    if check_only:
        _refuse(file, figures, found="--check-only", expected="one: a check has no figures")
    else:
        _refuse(file, {"--sample": sample}, found="no --check-only", expected="one: a sample has no truth")
    if figures["--report"] is None:
        _refuse(file, shown, found="no --report", expected="one, which shows it")


def _refuse(file: Path, options: Mapping[str, Any], *, found: str, expected: str) -> None:
    """Raise UserError if one of the options is given."""
    given = next((name for name, value in options.items() if value), None)
    if given:
        raise UserError(file, given, found=found, expected=expected)


def _say_left_out(file: Path, figures: Mapping[str, Any]) -> None:
    """Say how many boxes lie in images that are not scored."""
    if boxes := figures.get("predictions_left_out"):
        say(f"{file}: {boxes} boxes of {figures['images_left_out']} other images are left out")


def compare(
    runs: Annotated[list[Path], typer.Argument(metavar="RUN...", help="Run directories of classifiers.")],
    dataset: DatasetOption,
    split: Annotated[list[SplitName] | None, typer.Option(help="May be given again. Default: as predict.")] = None,
    phases: Annotated[bool, typer.Option("--phases", help="Also the earlier phases of every run.")] = False,
    out: Annotated[Path | None, typer.Option(help="CSV of the table to write.")] = None,
    workers: WorkersOption = 0,
    device: DeviceOption = DeviceChoice.AUTO,
    as_json: JsonOption = False,
) -> None:
    """Compare classifier runs on the same images: figures, sizes and training times in one table."""
    from siimdet.data.table import write_table
    from siimdet.inference.device import pick_device
    from siimdet.submission.compare import compare_runs, comparison_table

    compared = compare_runs(
        runs,
        dataset,
        [name.value for name in split or ()],
        phases=phases,
        device=pick_device(device.value),
        workers=workers,
    )
    header, rows = comparison_table(compared)
    if out is not None:
        write_table(out, header, rows)
        say(f"comparison: {out}")
    print(json.dumps(compared) if as_json else f"{indented(compared['data'])}\n\n{aligned([header, *rows])}")
