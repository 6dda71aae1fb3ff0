"""Results as plain text, for people: what a command prints without --json."""

from collections.abc import Sequence
from typing import Any

_FIGURES = ("precision", "recall", "specificity", "f1", "auroc", "ap")


def counted(values: dict[str, Any]) -> dict[str, Any]:
    """The values with the lengths of lists in place of the lists."""
    return {
        key: counted(value) if isinstance(value, dict) else len(value) if isinstance(value, list) else value
        for key, value in values.items()
    }


def indented(values: dict[str, Any], level: int = 0) -> str:
    """Nested values as lines of name and value; a dash for None."""
    lines = []
    for key, value in values.items():
        if isinstance(value, dict):
            lines += [f"{'  ' * level}{key}", indented(value, level + 1)]
        else:
            shown = "-" if value is None else f"{value:.6f}" if isinstance(value, float) else value
            lines.append(f"{'  ' * level}{key:<{24 - 2 * level}} {shown}")
    return "\n".join(lines)


def aligned(rows: Sequence[Sequence[object]]) -> str:
    """A table as text, every column as wide as its widest cell: the first to the left, numbers to the right."""
    cells = [[_cell(value) for value in row] for row in rows]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    return "\n".join(_row(row, widths) for row in cells)


def classification_report(figures: dict[str, Any]) -> str:
    """A table of the classes with their means, the counts, and the result matrix of classes that exclude each other."""
    classes, confusion = figures["classes"], figures["confusion"]
    table: list[list[object]] = [["class", *_FIGURES, "positives"]]
    table += [[name, *(mine[key] for key in _FIGURES), mine["positives"]] for name, mine in classes.items()]
    table.append(["mean", *(figures.get(key) for key in _FIGURES), ""])
    flat = {key: value for key, value in figures.items() if key not in (*_FIGURES, "classes", "confusion")}
    parts = [aligned(table), indented(flat)]
    if confusion is not None:
        rows = [[name, *counts] for name, counts in zip(classes, confusion, strict=True)]
        parts.append(aligned([["true / predicted", *classes], *rows]))
    return "\n\n".join(parts)


def _row(cells: Sequence[str], widths: Sequence[int]) -> str:
    first, *others = zip(cells, widths, strict=True)
    return "  ".join([first[0].ljust(first[1]), *(cell.rjust(width) for cell, width in others)]).rstrip()


def _cell(value: object) -> str:
    return "-" if value is None else f"{value:.4f}" if isinstance(value, float) else str(value)
