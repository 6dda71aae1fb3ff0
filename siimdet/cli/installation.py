"""The commands that try an installation: the demo, and the doctor."""

import json
from pathlib import Path
from typing import Annotated

import typer

from siimdet.cli.options import JsonOption


def demo(
    out: Annotated[Path, typer.Option(help="Folder to write; an earlier demo there is replaced.")] = Path("demo"),
    seed: Annotated[int, typer.Option(min=0, help="Seed of phantoms and trainings.")] = 0,
) -> None:
    """Run everything on phantoms: data, trainings, submission, score, report."""
    from siimdet.demo import run_demo

    print(run_demo(out, seed=seed))


def doctor(as_json: JsonOption = False) -> None:
    """Say what is installed, what is missing, and what this machine can do."""
    from siimdet.doctor import examine, is_sound, render

    findings = examine()
    print(json.dumps({"ok": is_sound(findings), "findings": findings}) if as_json else render(findings))
    if not is_sound(findings):
        raise typer.Exit(2)
