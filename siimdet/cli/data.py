"""The commands around data sets: from raw files in, out to other formats, and what is in them."""

import json
from pathlib import Path
from typing import Annotated

import typer

from siimdet.arguments import FormatName, ResizeName, ScalingName, SourceName, SplitBy, SplitName
from siimdet.cli.messages import say
from siimdet.cli.options import ConfigArgument, DatasetOption, JsonOption, OverridesArgument
from siimdet.errors import UserError
from siimdet.plain_text import counted, indented


def convert(
    source: Annotated[SourceName, typer.Argument(help="What the raw files are.")],
    raw: Annotated[Path, typer.Option(help="Folder of the raw files.")],
    out: Annotated[Path, typer.Option(help="The data set to write; a second run resumes.")],
    image_size: Annotated[int | None, typer.Option(min=32, help="Bound of the longer side, px.")] = None,
    resize: Annotated[ResizeName, typer.Option(help="How images become smaller.")] = ResizeName.AREA,
    bit_depth: Annotated[int, typer.Option(help="8 or 16.")] = 8,
    scaling: Annotated[ScalingName, typer.Option(help="Black and white of DICOM files.")] = ScalingName.MINMAX,
    voi: Annotated[int, typer.Option(min=0, help="Which VOI table or window of a file; 0: none.")] = 1,
    patient_pattern: Annotated[
        str | None, typer.Option(help="Regular expression: the patient in a file's name.")
    ] = None,
    workers: Annotated[int | None, typer.Option(min=1, help="Processes; default: the cores.")] = None,
    cluster: Annotated[str | None, typer.Option(help="Address of a Dask scheduler to work instead.")] = None,
    split_by: Annotated[SplitBy, typer.Option(help="What train, val and test divide.")] = SplitBy.PATIENT,
    folds: Annotated[int | None, typer.Option(min=2, help="Number train + val into this many folds.")] = None,
    seed: Annotated[int, typer.Option(min=0, help="Seed of splits and folds.")] = 0,
    limit: Annotated[int | None, typer.Option(min=1, help="Convert the first images by id only.")] = None,
    present_only: Annotated[bool, typer.Option("--present-only", help="Pass over labels without a file.")] = False,
    allow_failures: Annotated[bool, typer.Option("--allow-failures", help="Exit 0 despite refused inputs.")] = False,
) -> None:
    """Turn a source's raw files into a data set with COCO and YOLO labels."""
    from converters import SOURCES
    from converters.run import convert as run_conversion
    from siimdet.progress import progress_bar

    if bit_depth not in (8, 16):
        raise UserError("convert", "--bit-depth", found=bit_depth, expected="8 or 16")
    with progress_bar(f"convert {source}") as progress:
        summary = run_conversion(
            SOURCES[source],
            raw,
            out,
            image_size=image_size,
            resize=resize.value,
            bit_depth=bit_depth,
            scaling=scaling.value,
            voi=voi,
            patient_pattern=patient_pattern,
            workers=workers,
            cluster=cluster,
            split_by=split_by.value,
            folds=folds,
            seed=seed,
            limit=limit,
            present_only=present_only,
            progress=progress,
        )
    say(
        f"{out}: {summary.converted} images converted, {summary.resumed} kept from before, "
        f"{summary.without_file} labels without a file, {summary.repairs} repairs, {summary.failures} failures"
    )
    if summary.failures:
        hint = "; --present-only passes over labels without a file" if summary.without_file and not present_only else ""
        say(f"reasons: {out / 'failures.csv'}{hint}")
    if summary.failures and not allow_failures:
        raise typer.Exit(3)


def inspect(
    dataset: Annotated[Path, typer.Argument(help="A converted data set.")],
    against: Annotated[list[Path] | None, typer.Option(help="Another data set to find the same images in.")] = None,
    report: Annotated[Path | None, typer.Option(help="HTML page to write.")] = None,
    as_json: JsonOption = False,
) -> None:
    """Count and picture a data set, and find what leaks between its parts or from other data sets."""
    from siimdet.data.audit import audit
    from siimdet.data.manifest import read_dataset
    from siimdet.data.summary import summarise
    from siimdet.progress import progress_bar

    data, others = read_dataset(dataset), [read_dataset(path) for path in against or ()]
    summary = summarise(data)
    with progress_bar("leak audit") as progress:
        leaks = audit(data, others, progress=progress)
    if report is not None:
        from siimdet.report.inspection import write_inspection

        write_inspection(report, data, summary, leaks)
        say(f"report: {report}")
    result = {**summary, "audit": leaks}
    shown = {key: value for key, value in result.items() if key != "distributions"}
    print(json.dumps(result) if as_json else indented(counted(shown)))


def write(
    dataset: Annotated[Path, typer.Argument(help="A converted data set.")],
    format_name: Annotated[FormatName, typer.Option("--format", help="What others read.")],
    out: Annotated[Path, typer.Option(help="Folder to write, with copies of the images.")],
) -> None:
    """Write a data set as COCO, as YOLO or as a Kaggle-style CSV."""
    from siimdet.data.export import export
    from siimdet.data.manifest import read_dataset

    export(read_dataset(dataset), format_name.value, out)
    say(f"{format_name.value}: {out}")


def pseudo_label(
    config: ConfigArgument,
    dataset: DatasetOption,
    boxes: Annotated[Path, typer.Option(help="COCO results of predict or fuse.")],
    study: Annotated[Path, typer.Option(help="CSV of predict, by a study classifier.")],
    out: Annotated[Path, typer.Option(help="The data set to write.")],
    overrides: OverridesArgument = None,
    split: Annotated[SplitName | None, typer.Option(help="Default: the images that --study names.")] = None,
) -> None:
    """Make a data set to train on of predictions on unlabelled images."""
    from siimdet.config_file import load_config
    from siimdet.data.manifest import read_dataset
    from siimdet.submission.pseudo_labels import write_pseudo_labels

    rule = load_config(config, overrides or (), kinds=("pseudo_labels",))
    name = split.value if split else None
    outcomes = write_pseudo_labels(out, read_dataset(dataset), name, boxes=boxes, study=study, rule=rule)
    counts = ", ".join(f"{count} {outcome.replace('_', ' ')}" for outcome, count in outcomes.items())
    say(f"pseudo-labels: {out}, of {sum(outcomes.values())} images {counts}")
