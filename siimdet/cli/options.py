"""Options that several commands have."""

from pathlib import Path
from typing import Annotated

import typer

from siimdet.arguments import DeviceChoice, SplitName

DatasetOption = Annotated[Path, typer.Option("--dataset", help="A converted data set.")]
WorkersOption = Annotated[int, typer.Option(min=0, help="Processes that load images; 0: in this one.")]
DeviceOption = Annotated[DeviceChoice, typer.Option(help="Where the model runs; auto takes CUDA if it is there.")]
SplitOption = Annotated[SplitName | None, typer.Option(help="Default: test where it is labelled, else val.")]
JsonOption = Annotated[bool, typer.Option("--json", help="Print one JSON object and nothing else.")]
ConfigArgument = Annotated[Path, typer.Argument(help="A YAML file, such as those in configs/.")]
OverridesArgument = Annotated[list[str] | None, typer.Argument(metavar="[KEY=VALUE]...", help="Overrides: a.b=c.")]
FlipOption = Annotated[bool, typer.Option("--flip", help="Also the mirror image of every image.")]
ScalesOption = Annotated[
    list[float] | None,
    typer.Option(help="Sides of a detector's input, as shares of its own; several are allowed, their boxes fused."),
]


def _checked_share(share: float | None) -> float | None:
    if share is not None:
        from siimdet.data.border import check_share

        check_share(share)
    return share


BlankBorderOption = Annotated[
    float | None,
    typer.Option(
        metavar="SHARE", callback=_checked_share, help="Set this share of each side of the images to black first."
    ),
]
