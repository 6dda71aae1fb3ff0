"""The commands that score: predictions against the truth, and runs against each other."""

import json
from pathlib import Path
from typing import Annotated

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
    study_level: Annotated[Path | None, typer.Option(help="and train_study_level.csv.")] = None,
    only_submitted: Annotated[bool, typer.Option("--only-submitted", help="Score the submitted ids alone.")] = False,
    check_only: Annotated[bool, typer.Option("--check-only", help="Check the file, do not score it.")] = False,
    bootstrap: Annotated[
        int | None, typer.Option(min=100, help="95 % intervals from as many resamples of the patients, such as 1000.")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Score a submission or a detector's boxes by VOC 2010 AP at IoU > 0.5, or report on a classifier's CSV."""
    if (dataset is None) == (image_level is None) or (image_level is None) != (study_level is None):
        expected = "--dataset, or --image-level and --study-level"
        raise UserError(predictions, "truth", found="none, half of one or two kinds", expected=expected)
    if check_only and (bootstrap is not None or other is not None):
        given = "--bootstrap" if other is None else "second file"
        raise UserError(predictions, given, found="--check-only", expected="one: a check has no figures")
    tables = None if image_level is None or study_level is None else (image_level, study_level)
    truth = (dataset, split.value if split else None, tables)
    if other is not None:
        from siimdet.submission.evaluate_pair import SAMPLES, evaluate_pair

        pair = evaluate_pair(predictions, other, *truth, only_submitted=only_submitted, samples=bootstrap or SAMPLES)
        print(json.dumps(pair) if as_json else difference_table(pair))
        return
    from siimdet.submission.evaluate import evaluate_file

    result = evaluate_file(
        predictions, *truth, only_submitted=only_submitted, check_only=check_only, bootstrap=bootstrap
    ).as_dict()
    shown = classification_report if "classes" in result else indented
    print(json.dumps(result) if as_json else shown(with_interval_texts(result)))


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
