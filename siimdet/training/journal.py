"""metrics.jsonl: one line of JSON per epoch, and the curves drawn from it."""

import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from siimdet.core.files import atomic_write
from siimdet.errors import RunError

JOURNAL = "metrics.jsonl"


def append_epoch(run: Path, entry: Mapping[str, Any]) -> None:
    """Add an epoch's line and have it on disk before returning."""
    with open(run / JOURNAL, "a", encoding="utf-8") as stream:
        stream.write(json.dumps(entry) + "\n")
        stream.flush()
        os.fsync(stream.fileno())


def read_journal(run: Path) -> list[dict[str, Any]]:
    """Every epoch's entry; a last line that a crash cut short is left out.

    Raises: RunError for a broken line anywhere else.
    """
    path = run / JOURNAL
    if not path.is_file():
        return []
    lines = path.read_text(encoding="utf-8").splitlines()
    entries = []
    for number, line in enumerate(lines, start=1):
        try:
            entries.append(json.loads(line))
        except ValueError as error:
            if number < len(lines):
                raise RunError(f"{path}:{number}", "line", found=error, expected="JSON") from None
    return entries


def rewind_journal(run: Path, epochs: int) -> None:
    """Keep the entries of the first `epochs` epochs: a resumed training writes the others again."""
    entries = [entry for entry in read_journal(run) if entry["epoch"] < epochs]
    with atomic_write(run / JOURNAL) as stream:
        stream.writelines(json.dumps(entry) + "\n" for entry in entries)


def draw_curves(run: Path, groups: Mapping[str, Sequence[str]]) -> None:
    """Draw plots/NAME.png for each group NAME of journal fields, a line per field over the epochs."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    entries = read_journal(run)
    for name, fields in groups.items():
        figure = Figure(figsize=(6, 4), layout="constrained")
        FigureCanvasAgg(figure)
        axes = figure.add_subplot(xlabel="epoch", ylabel=name)
        for field in fields:
            points = [(e["epoch"] + 1, e[field]) for e in entries if e.get(field) is not None]
            if points:
                axes.plot(*zip(*points, strict=True), marker="o", markersize=3, label=field)
        if axes.lines:
            axes.legend()
        axes.grid(alpha=0.3)
        with atomic_write(run / "plots" / f"{name}.png", "wb") as stream:
            figure.savefig(stream, format="png", dpi=110)
