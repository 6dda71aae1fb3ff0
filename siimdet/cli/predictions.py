"""The commands that predict: with runs, from predictions, and how they come about."""

from pathlib import Path
from typing import Annotated

import typer

from siimdet.arguments import ConfType, DeviceChoice, FusionMethod, Owner
from siimdet.cli.messages import say
from siimdet.cli.options import (
    BlankBorderOption,
    DatasetOption,
    DeviceOption,
    FlipOption,
    ScalesOption,
    SplitOption,
    WorkersOption,
)
from siimdet.errors import UserError


def predict(
    run: Annotated[Path, typer.Argument(help="A run directory.")],
    dataset: DatasetOption,
    out: Annotated[Path, typer.Option(help="COCO results (.json) of a detector, CSV of a classifier.")],
    split: SplitOption = None,
    by: Annotated[Owner, typer.Option(help="A classifier's rows: images, or patients decided from theirs.")] = (
        Owner.IMAGE
    ),
    flip: FlipOption = False,
    scales: ScalesOption = None,
    blank_border: BlankBorderOption = None,
    workers: WorkersOption = 0,
    device: DeviceOption = DeviceChoice.AUTO,
) -> None:
    """Predict a split of a data set with a run's best model."""
    from siimdet.core.distributed import by_first, process_group
    from siimdet.data.manifest import read_dataset
    from siimdet.inference.device import pick_device
    from siimdet.inference.run import patient_rule, predict_run, run_records, write_predictions
    from siimdet.inference.tta import Versions

    versions = Versions(flip, tuple(scales or (1.0,)))
    data = read_dataset(dataset)
    records = run_records(run, data, split.value if split else None)
    if by is Owner.PATIENT:
        patient_rule(run)  # a run that has none is refused before it predicts
    with process_group():
        chosen = pick_device(device.value)
        found = predict_run(
            run, data, records, device=chosen, workers=workers, versions=versions, blank_share=blank_border
        )
        by_first(lambda: write_predictions(out, run, data, records, found, by=by.value))
    say(f"predictions: {out}")


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
    say(f"explanations: {out / TABLE}")


def fuse(
    files: Annotated[list[Path], typer.Argument(metavar="FILE...", help="COCO results of several detectors.")],
    dataset: DatasetOption,
    out: Annotated[Path, typer.Option(help="COCO results to write.")],
    method: Annotated[FusionMethod, typer.Option(help="How boxes become one.")] = FusionMethod.WBF,
    iou: Annotated[
        float | None, typer.Option(min=0, max=1, help="Boxes that overlap by more are one; not soft-nms. Default: .55.")
    ] = None,
    weights: Annotated[list[float] | None, typer.Option(min=0, help="One per file.")] = None,
    conf_type: Annotated[ConfType | None, typer.Option(help="wbf: how scores become one. Default: avg.")] = None,
    skip_below: Annotated[
        float | None, typer.Option(min=0, max=1, help="wbf: leave out boxes of a lower score. Default: none.")
    ] = None,
) -> None:
    """Fuse the boxes of several detectors."""
    from siimdet.data.coco import read_detections, write_detections
    from siimdet.data.manifest import read_dataset
    from siimdet.inference.fusion import fuse as fuse_boxes

    data = read_dataset(dataset)
    models = [read_detections(file, data) for file in files]
    fused = fuse_boxes(
        models,
        method=method.value,
        min_iou=iou,
        weights=weights,
        conf_type=conf_type.value if conf_type else None,
        skip_below=skip_below,
    )
    write_detections(out, data, fused)
    say(f"fused: {out}")


def submit(
    dataset: DatasetOption,
    study: Annotated[Path, typer.Option(help="Run directory of a study classifier, or with --boxes its CSV.")],
    out: Annotated[Path, typer.Option(help="submission.csv to write.")],
    detector: Annotated[list[Path] | None, typer.Option(help="Run directory of a detector; several are fused.")] = None,
    boxes: Annotated[list[Path] | None, typer.Option(help="Instead of runs: COCO results of detectors.")] = None,
    coupling: Annotated[Path | None, typer.Option(help="How boxes and study level combine.")] = None,
    sample: Annotated[Path | None, typer.Option(help="sample_submission.csv: exactly its rows, in its order.")] = None,
    split: SplitOption = None,
    keep: Annotated[Path | None, typer.Option(help="Folder for the runs' predictions, to give as --boxes.")] = None,
    flip: FlipOption = False,
    scales: ScalesOption = None,
    blank_border: BlankBorderOption = None,
    workers: WorkersOption = 0,
    device: DeviceOption = DeviceChoice.AUTO,
) -> None:
    """Write the competition's submission, from detector and study runs or from their predictions."""
    of_runs = {"--keep": keep, "--flip": flip, "--scales": scales, "--blank-border": blank_border, "--workers": workers}
    _check_kinds(out, detector, boxes, {**of_runs, "--device": device is not DeviceChoice.AUTO})
    from siimdet.config import Coupling
    from siimdet.config_file import load_config
    from siimdet.data.manifest import read_dataset
    from siimdet.submission.file import read_submission, write_submission

    rule = load_config(coupling, kinds=("coupling",)) if coupling else Coupling(kind="coupling")
    data = read_dataset(dataset)
    name = split.value if split else None
    given = {"study": study, "coupling": rule, "file": str(out), "sample": read_submission(sample) if sample else None}
    if boxes is not None:
        from siimdet.submission.assemble import assemble_files

        made = assemble_files(data, name, boxes=boxes, **given)
        write_submission(out, made.submission)
    else:
        from siimdet.core.distributed import by_first, process_group
        from siimdet.data.dataset import filled_split
        from siimdet.inference.device import pick_device
        from siimdet.inference.tta import Versions
        from siimdet.submission.submit import keep_predictions
        from siimdet.submission.submit import submit as make_submission

        given |= {"detectors": detector, "workers": workers, "blank_share": blank_border}
        given["versions"] = Versions(flip, tuple(scales or (1.0,)))
        with process_group():
            made = make_submission(data, filled_split(data, name), device=pick_device(device.value), **given)
            if keep is not None:
                by_first(lambda: keep_predictions(keep, data, made))
            by_first(lambda: write_submission(out, made.submission))
    say(f"submission: {out}, {len(made.submission.ids)} rows")


def _check_kinds(out: Path, runs: list[Path] | None, files: list[Path] | None, of_runs: dict[str, object]) -> None:
    """Predictions come from runs or from files, and files are taken as they are."""
    if (runs is None) == (files is None):
        found = "neither" if files is None else "both"
        raise UserError(out, "predictions", found=found, expected="--detector RUN... or --boxes FILE...")
    if files is not None and (given := next((option for option, value in of_runs.items() if value), None)):
        raise UserError(out, given, found="--boxes", expected="--detector, whose predictions are made")
