"""The commands that train: four names over one core."""

from pathlib import Path
from typing import Annotated

import typer

from siimdet.arguments import DeviceChoice
from siimdet.cli.messages import say
from siimdet.cli.options import ConfigArgument, DatasetOption, DeviceOption, OverridesArgument

RunOption = Annotated[Path, typer.Option("--out", help="The run directory to write.")]
ResumeOption = Annotated[bool, typer.Option("--resume", help="Go on where the run in --out stopped.")]
FoldsOption = Annotated[int | None, typer.Option(min=2, help="Train every fold, and predict out of fold.")]


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


def train_detector(
    config: ConfigArgument,
    dataset: DatasetOption,
    out: RunOption,
    overrides: OverridesArgument = None,
    resume: ResumeOption = False,
    folds: FoldsOption = None,
    device: DeviceOption = DeviceChoice.AUTO,
) -> None:
    """Train Faster R-CNN, RetinaNet, FCOS or YOLO."""
    _train(("faster_rcnn", "retinanet", "fcos", "yolo"), config, overrides, dataset, out, resume, folds, device)


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
    say(f"run: {out}")
