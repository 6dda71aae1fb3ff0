"""Strict reading and plain writing of CSV files: every complaint names the file and the line.

Python's csv module rather than a data frame: it counts lines, refuses ragged rows instead of
filling them, and the cells become Python objects right away (112,120 rows in a fraction of a second).
"""

import csv
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from operator import itemgetter
from pathlib import Path
from typing import Any

from siimdet.core.files import atomic_write
from siimdet.errors import UserError, shown


@dataclass(frozen=True, slots=True)
class Table:
    """A CSV file as text: `rows[i]` has a cell per name of `header` and began on line `lines[i]`."""

    path: Path
    kind: type[UserError]
    header: tuple[str, ...]
    rows: tuple[list[str], ...]
    lines: tuple[int, ...]

    def select(self, *names: str) -> Iterator[tuple[int, Any]]:
        """(line, cells) of every row: a tuple in the order of `names`, or the cell itself for one name."""
        pick = itemgetter(*(self.header.index(name) for name in names))
        return zip(self.lines, map(pick, self.rows), strict=True)

    def error(self, line: int, field: str, *, found: object, expected: object) -> UserError:
        """The complaint about one cell, to be raised."""
        return self.kind(f"{self.path}:{line}", field, found=found, expected=expected)

    def number(self, line: int, field: str, cell: str) -> float:
        """A cell as a float; NaN and infinity pass, for the caller to judge."""
        try:
            # float() takes Python's own 1_000, which no table means.
            return float(cell.replace("_", "?"))
        except ValueError:
            raise self.error(line, field, found=shown(repr(cell)), expected="a number") from None


def read_table(path: Path, columns: Collection[str], *, kind: type[UserError]) -> Table:
    """Read a CSV file that must have `columns`, in any order and among others.

    A byte-order mark, CRLF and blank lines are tolerated; so are empty names at the end of the
    header and empty cells beyond it (NIH's tables have both).
    Raises: `kind` for a missing file or column, a column twice, a ragged row, broken quotes, a text that is not UTF-8.
    """
    try:
        with open(path, encoding="utf-8-sig", newline="") as stream:
            header, rows, lines = _parse(path, csv.reader(stream, strict=True), columns, kind)
    except FileNotFoundError:
        raise kind(path, "file", found="nothing there", expected="a CSV file") from None
    except OSError as error:
        raise kind(path, "file", found=error.strerror, expected="a readable CSV file") from None
    except UnicodeDecodeError as error:
        raise kind(path, "encoding", found=f"byte {error.object[error.start]:#04x}", expected="UTF-8 text") from None
    return Table(path, kind, header, tuple(rows), tuple(lines))


def write_table(path: Path, header: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """Write a CSV file atomically, with plain newlines; None is an empty cell."""
    with atomic_write(path) as stream:
        writer = csv.writer(stream, lineterminator="\n")
        quoting = csv.writer(stream, lineterminator="\n", quoting=csv.QUOTE_ALL)
        for row in (header, *rows):
            # The writer quotes its own line end alone; the reader takes a bare carriage return for one too.
            torn = any(isinstance(cell, str) and "\r" in cell for cell in row)
            (quoting if torn else writer).writerow(row)


def _parse(path: Path, reader: Any, columns: Collection[str], kind: type[UserError]):
    rows: list[list[str]] = []
    lines: list[int] = []
    header: tuple[str, ...] = ()
    line = 1
    try:
        header = _header(path, next(reader, []), columns, kind)
        line = reader.line_num + 1
        for row in reader:
            if row:
                rows.append(row if len(row) == len(header) else _fitted(row, header, f"{path}:{line}", kind))
                lines.append(line)
            line = reader.line_num + 1
    except csv.Error as error:
        raise kind(f"{path}:{line}", "row", found=error, expected="well-formed CSV") from None
    return header, rows, lines


def _header(path: Path, cells: list[str], columns: Collection[str], kind: type[UserError]) -> tuple[str, ...]:
    header = tuple(_stripped([cell.strip() for cell in cells]))
    for name in columns:
        if name not in header:
            found = shown(f"columns {', '.join(header)}") if header else "an empty file"
            raise kind(path, "header", found=found, expected=f"a column {name!r}")
    if twice := {name for name in header if header.count(name) > 1}:
        raise kind(path, "header", found=shown(f"column {min(twice)!r}") + " twice", expected="every column once")
    return header


def _fitted(row: list[str], header: tuple[str, ...], where: str, kind: type[UserError]) -> list[str]:
    if len(row) < len(header) or any(row[len(header) :]):
        expected = shown(f"{len(header)}: {', '.join(header)}")
        raise kind(where, "row", found=f"{len(row)} cells", expected=expected)
    return row[: len(header)]


def _stripped(cells: list[str]) -> list[str]:
    while cells and not cells[-1]:
        cells.pop()
    return cells
