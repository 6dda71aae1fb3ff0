"""The commands. Heavy imports stand inside the functions: `siimdet --help` answers at once."""

import json
import logging
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from siimdet.arguments import (
    DeviceChoice,
    FormatName,
    FusionMethod,
    Owner,
    ResizeName,
    ScalingName,
    SourceName,
    SplitBy,
    SplitName,
    spread,
)
from siimdet.errors import UserError
from siimdet.plain_text import aligned, classification_report, counted, indented

if TYPE_CHECKING:
    from siimdet.core.types import ImageRecord
    from siimdet.data.manifest import Dataset

# Typer shows BadParameter alone; its base, from click or from the copy that newer versions carry, is what we catch.
_UsageError: Any = typer.BadParameter.__mro__[1]

app = typer.Typer(
    help="Detection of findings on chest radiographs: from DICOM to a scored submission.",
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)


DatasetOption = Annotated[Path, typer.Option("--dataset", help="A converted data set.")]
WorkersOption = Annotated[int, typer.Option(min=0, help="Processes that load images; 0: in this one.")]
DeviceOption = Annotated[DeviceChoice, typer.Option(help="Where the model runs; auto takes CUDA if it is there.")]
SplitOption = Annotated[SplitName | None, typer.Option(help="Default: test where it is labelled, else val.")]
JsonOption = Annotated[bool, typer.Option("--json", help="Print one JSON object and nothing else.")]


@app.command()
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

    if bit_depth not in (8, 16):
        raise UserError("convert", "--bit-depth", found=bit_depth, expected="8 or 16")
    with _progress(f"convert {source}") as progress:
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
    _say(
        f"{out}: {summary.converted} images converted, {summary.resumed} kept from before, "
        f"{summary.without_file} labels without a file, {summary.repairs} repairs, {summary.failures} failures"
    )
    if summary.failures:
        hint = "; --present-only passes over labels without a file" if summary.without_file and not present_only else ""
        _say(f"reasons: {out / 'failures.csv'}{hint}")
    if summary.failures and not allow_failures:
        raise typer.Exit(3)


@app.command()
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

    data, others = read_dataset(dataset), [read_dataset(path) for path in against or ()]
    summary = summarise(data)
    with _progress("leak audit") as progress:
        leaks = audit(data, others, progress=progress)
    if report is not None:
        from siimdet.report.inspection import write_inspection

        write_inspection(report, data, summary, leaks)
        _say(f"report: {report}")
    result = {**summary, "audit": leaks}
    shown = {key: value for key, value in result.items() if key != "distributions"}
    print(json.dumps(result) if as_json else indented(counted(shown)))


@app.command()
def write(
    dataset: Annotated[Path, typer.Argument(help="A converted data set.")],
    format_name: Annotated[FormatName, typer.Option("--format", help="What others read.")],
    out: Annotated[Path, typer.Option(help="Folder to write, with copies of the images.")],
) -> None:
    """Write a data set as COCO, as YOLO or as a Kaggle-style CSV."""
    from siimdet.data.export import export
    from siimdet.data.manifest import read_dataset

    export(read_dataset(dataset), format_name.value, out)
    _say(f"{format_name.value}: {out}")


def _train(
    kinds: tuple[str, ...],
    config: Path,
    overrides: list[str] | None,
    dataset: Path,
    out: Path,
    resume: bool,
    folds: int | None,
    device: DeviceChoice,
) -> None:
    from siimdet.config_file import load_config
    from siimdet.core.distributed import process_group
    from siimdet.data.manifest import read_dataset
    from siimdet.inference.device import pick_device
    from siimdet.training.train import train, train_folds

    settings = load_config(config, overrides or (), kinds=kinds)
    data, chosen = read_dataset(dataset), pick_device(device.value)
    with process_group():
        if folds is None:
            train(settings, data, out, device=chosen, resume=resume)
        else:
            train_folds(settings, data, out, folds=folds, device=chosen, resume=resume)
    _say(f"run: {out}")


ConfigArgument = Annotated[Path, typer.Argument(help="A YAML file, such as those in configs/.")]
OverridesArgument = Annotated[list[str] | None, typer.Argument(metavar="[KEY=VALUE]...", help="Overrides: a.b=c.")]
RunOption = Annotated[Path, typer.Option("--out", help="The run directory to write.")]
ResumeOption = Annotated[bool, typer.Option("--resume", help="Go on where the run in --out stopped.")]
FoldsOption = Annotated[int | None, typer.Option(min=2, help="Train every fold, and predict out of fold.")]


@app.command("train-backbone")
def train_backbone(
    config: ConfigArgument,
    dataset: DatasetOption,
    out: RunOption,
    overrides: OverridesArgument = None,
    resume: ResumeOption = False,
    folds: FoldsOption = None,
    device: DeviceOption = DeviceChoice.AUTO,
) -> None:
    """Pretrain a body on multi-label findings."""
    _train(("backbone",), config, overrides, dataset, out, resume, folds, device)


@app.command("train-detector")
def train_detector(
    config: ConfigArgument,
    dataset: DatasetOption,
    out: RunOption,
    overrides: OverridesArgument = None,
    resume: ResumeOption = False,
    folds: FoldsOption = None,
    device: DeviceOption = DeviceChoice.AUTO,
) -> None:
    """Train Faster R-CNN or YOLO."""
    _train(("faster_rcnn", "yolo"), config, overrides, dataset, out, resume, folds, device)


@app.command("train-study")
def train_study(
    config: ConfigArgument,
    dataset: DatasetOption,
    out: RunOption,
    overrides: OverridesArgument = None,
    resume: ResumeOption = False,
    folds: FoldsOption = None,
    device: DeviceOption = DeviceChoice.AUTO,
) -> None:
    """Train the study-level classifier: negative, typical, indeterminate, atypical."""
    _train(("study",), config, overrides, dataset, out, resume, folds, device)


@app.command("train-classifier")
def train_classifier(
    config: ConfigArgument,
    dataset: DatasetOption,
    out: RunOption,
    overrides: OverridesArgument = None,
    resume: ResumeOption = False,
    folds: FoldsOption = None,
    device: DeviceOption = DeviceChoice.AUTO,
) -> None:
    """Train a classifier of images in phases, such as those of the reports in configs/recipes/."""
    _train(("classifier",), config, overrides, dataset, out, resume, folds, device)


@app.command()
def predict(
    run: Annotated[Path, typer.Argument(help="A run directory.")],
    dataset: DatasetOption,
    out: Annotated[Path, typer.Option(help="COCO results (.json) of a detector, CSV of a classifier.")],
    split: SplitOption = None,
    by: Annotated[Owner, typer.Option(help="A classifier's rows: images, or patients decided from theirs.")] = (
        Owner.IMAGE
    ),
    workers: WorkersOption = 0,
    device: DeviceOption = DeviceChoice.AUTO,
) -> None:
    """Predict a split of a data set with a run's best model."""
    from siimdet.core.distributed import by_first, process_group
    from siimdet.data.manifest import read_dataset
    from siimdet.inference.device import pick_device
    from siimdet.inference.run import predict_run, run_records, write_predictions

    data = read_dataset(dataset)
    records = run_records(run, data, split.value if split else None)
    with process_group():
        found = predict_run(run, data, records, device=pick_device(device.value), workers=workers)
        by_first(lambda: write_predictions(out, run, data, records, found, by=by.value))
    _say(f"predictions: {out}")


@app.command()
def explain(
    run: Annotated[Path, typer.Argument(help="Run directory of a classifier.")],
    dataset: DatasetOption,
    ids: Annotated[list[str], typer.Option(help="The images to explain, of any split; several are allowed.")],
    out: Annotated[Path, typer.Option(help="Folder to write: a picture per image, and explanations.csv.")],
    class_name: Annotated[
        str | None, typer.Option("--class", help="Explain this class. Default: the most probable of each image.")
    ] = None,
    device: DeviceOption = DeviceChoice.AUTO,
) -> None:
    """Show which places of radiographs speak for a class of a classifier, by Grad-CAM."""
    from siimdet.data.manifest import read_dataset
    from siimdet.inference.device import pick_device
    from siimdet.inference.explain import TABLE, explain_run

    explain_run(run, read_dataset(dataset), ids, out, class_name=class_name, device=pick_device(device.value))
    _say(f"explanations: {out / TABLE}")


@app.command()
def fuse(
    files: Annotated[list[Path], typer.Argument(metavar="FILE...", help="COCO results of several detectors.")],
    dataset: DatasetOption,
    out: Annotated[Path, typer.Option(help="COCO results to write.")],
    method: Annotated[FusionMethod, typer.Option(help="How boxes become one.")] = FusionMethod.WBF,
    iou: Annotated[float, typer.Option(min=0, max=1, help="Boxes that overlap by more are one.")] = 0.55,
    weights: Annotated[list[float] | None, typer.Option(min=0, help="One per file.")] = None,
) -> None:
    """Fuse the boxes of several detectors."""
    from siimdet.data.coco import read_detections, write_detections
    from siimdet.data.manifest import read_dataset
    from siimdet.inference.fusion import fuse as fuse_boxes

    data = read_dataset(dataset)
    models = [read_detections(file, data) for file in files]
    write_detections(out, data, fuse_boxes(models, method=method.value, min_iou=iou, weights=weights))
    _say(f"fused: {out}")


@app.command()
def submit(
    dataset: DatasetOption,
    detector: Annotated[list[Path], typer.Option(help="Run directory of a detector; several are fused.")],
    study: Annotated[Path, typer.Option(help="Run directory of a study classifier.")],
    out: Annotated[Path, typer.Option(help="submission.csv to write.")],
    coupling: Annotated[Path | None, typer.Option(help="How boxes and study level combine.")] = None,
    sample: Annotated[Path | None, typer.Option(help="sample_submission.csv: exactly its rows, in its order.")] = None,
    split: SplitOption = None,
    workers: WorkersOption = 0,
    device: DeviceOption = DeviceChoice.AUTO,
) -> None:
    """Write the competition's submission from detector and study runs."""
    from siimdet.config import Coupling
    from siimdet.config_file import load_config
    from siimdet.core.distributed import by_first, process_group
    from siimdet.data.manifest import read_dataset
    from siimdet.inference.device import pick_device
    from siimdet.submission.file import read_submission, write_submission
    from siimdet.submission.submit import submit as make_submission

    rule = load_config(coupling, kinds=("coupling",)) if coupling else Coupling(kind="coupling")
    data = read_dataset(dataset)
    with process_group():
        made = make_submission(
            data,
            _records(data, split),
            detectors=detector,
            study=study,
            coupling=rule,
            file=str(out),
            device=pick_device(device.value),
            workers=workers,
            ids=read_submission(sample).ids if sample else None,
        )
        by_first(lambda: write_submission(out, made.submission))
    _say(f"submission: {out}, {len(made.submission.ids)} rows")


@app.command()
def evaluate(
    predictions: Annotated[
        Path, typer.Argument(help="A submission.csv, a detector's COCO results (.json), or a classifier's CSV.")
    ],
    dataset: Annotated[Path | None, typer.Option(help="Truth: a converted data set ...")] = None,
    split: SplitOption = None,
    image_level: Annotated[Path | None, typer.Option(help="... or train_image_level.csv")] = None,
    study_level: Annotated[Path | None, typer.Option(help="and train_study_level.csv.")] = None,
    only_submitted: Annotated[bool, typer.Option("--only-submitted", help="Score the submitted ids alone.")] = False,
    check_only: Annotated[bool, typer.Option("--check-only", help="Check the file, do not score it.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Score a submission or a detector's boxes by VOC 2010 AP at IoU > 0.5, or report on a classifier's CSV."""
    if (dataset is None) == (image_level is None) or (image_level is None) != (study_level is None):
        expected = "--dataset, or --image-level and --study-level"
        raise UserError(predictions, "truth", found="none, half of one or two kinds", expected=expected)
    from siimdet.submission.classes_file import holds_classes
    from siimdet.submission.evaluate import evaluate_boxes, evaluate_submission
    from siimdet.submission.evaluate_classes import evaluate_classes

    name = split.value if split else None
    if predictions.suffix == ".json" or holds_classes(predictions):
        if dataset is None:
            expected = "--dataset, which has the images of the file"
            raise UserError(predictions, "truth", found="label tables", expected=expected)
        score = evaluate_boxes if predictions.suffix == ".json" else evaluate_classes
        result = score(predictions, dataset, name, only_submitted=only_submitted, check_only=check_only)
    else:
        tables = None if image_level is None or study_level is None else (image_level, study_level)
        result = evaluate_submission(
            predictions, dataset, name, tables, only_submitted=only_submitted, check_only=check_only
        )
    shown = classification_report if "classes" in result else indented
    print(json.dumps(result) if as_json else shown(result))


@app.command()
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
        _say(f"comparison: {out}")
    print(json.dumps(compared) if as_json else f"{indented(compared['data'])}\n\n{aligned([header, *rows])}")


@app.command()
def demo(
    out: Annotated[Path, typer.Option(help="Folder to write; an earlier demo there is replaced.")] = Path("demo"),
    seed: Annotated[int, typer.Option(min=0, help="Seed of phantoms and trainings.")] = 0,
) -> None:
    """Run everything on phantoms: data, trainings, submission, score, report."""
    from siimdet.demo import run_demo

    print(run_demo(out, seed=seed))


@app.command()
def doctor(as_json: JsonOption = False) -> None:
    """Say what is installed, what is missing, and what this machine can do."""
    from siimdet.doctor import examine, is_sound, render

    findings = examine()
    print(json.dumps({"ok": is_sound(findings), "findings": findings}) if as_json else render(findings))
    if not is_sound(findings):
        raise typer.Exit(2)


def run(arguments: Sequence[str]) -> int:
    """Run a command line and return its exit code; a mistake of the user is one line on stderr."""
    os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stderr)
    try:
        result = app(args=spread(arguments) or ["--help"], prog_name="siimdet", standalone_mode=False)
    except UserError as error:
        return _refuse(error)
    except _UsageError as error:
        where = error.ctx.command_path if error.ctx else "siimdet"
        return _refuse(f"{where}: {error.format_message()} (see {where} --help)")
    except typer.Abort:
        return _refuse("interrupted")
    except BrokenPipeError:  # the reader of our output, such as `head`, is gone
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except OSError as error:
        if error.filename is None:
            raise
        return _refuse(f"{error.filename}: path: found {error.strerror}, expected to read or write there")
    return result if isinstance(result, int) else 0


def _records(dataset: "Dataset", split: SplitName | None) -> "Sequence[ImageRecord]":
    from siimdet.data.dataset import filled_split

    return filled_split(dataset, split.value if split else None)


def _progress(label: str) -> Any:
    from siimdet.progress import progress_bar

    return progress_bar(label)


def _say(text: str) -> None:
    if os.environ.get("RANK", "0") == "0":  # torchrun's other processes would say the same
        print(text, file=sys.stderr)


def _refuse(error: object) -> int:
    _say(f"siimdet: {' '.join(str(error).split())}")
    return 2
