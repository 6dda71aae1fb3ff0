"""The commands. Heavy imports stand inside the functions: `siimdet --help` answers at once."""

import logging
import os
import sys
from collections.abc import Callable, Sequence
from typing import Any

import typer

from siimdet.arguments import spread
from siimdet.cli.data import convert, inspect, pseudo_label, write
from siimdet.cli.hospital import dicom_results, receive
from siimdet.cli.installation import demo, doctor
from siimdet.cli.messages import refuse
from siimdet.cli.predictions import explain, fuse, predict, submit
from siimdet.cli.score import compare, evaluate
from siimdet.cli.serving import serve
from siimdet.cli.train import train_backbone, train_classifier, train_detector, train_study
from siimdet.cli.tune import tune
from siimdet.errors import UserError

__all__ = ["COMMANDS", "app", "run", "spread"]

COMMANDS: dict[str, Callable[..., None]] = {
    "convert": convert,
    "inspect": inspect,
    "write": write,
    "train-backbone": train_backbone,
    "train-detector": train_detector,
    "train-study": train_study,
    "train-classifier": train_classifier,
    "predict": predict,
    "explain": explain,
    "fuse": fuse,
    "pseudo-label": pseudo_label,
    "tune": tune,
    "submit": submit,
    "evaluate": evaluate,
    "compare": compare,
    "dicom-results": dicom_results,
    "receive": receive,
    "serve": serve,
    "demo": demo,
    "doctor": doctor,
}
"""In the order of `siimdet --help`."""

# Typer shows BadParameter alone; its base, from click or from the copy that newer versions carry, is what we catch.
_UsageError: Any = typer.BadParameter.__mro__[1]

app = typer.Typer(
    help="Detection of findings on chest radiographs: from DICOM to a scored submission.",
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)
for _name, _command in COMMANDS.items():
    app.command(_name)(_command)


def run(arguments: Sequence[str]) -> int:
    """Run a command line and return its exit code; a mistake of the user is one line on stderr."""
    os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stderr)
    try:
        result = app(args=spread(arguments) or ["--help"], prog_name="siimdet", standalone_mode=False)
    except UserError as error:
        return refuse(error)
    except _UsageError as error:
        where = error.ctx.command_path if error.ctx else "siimdet"
        return refuse(f"{where}: {error.format_message()} (see {where} --help)")
    except typer.Abort:
        return refuse("interrupted")
    except BrokenPipeError:  # the reader of our output, such as `head`, is gone
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except OSError as error:
        if error.filename is None:
            raise
        return refuse(f"{error.filename}: path: found {error.strerror}, expected to read or write there")
    return result if isinstance(result, int) else 0
