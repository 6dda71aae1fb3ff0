"""Read and write submission.csv.

Header `id,PredictionString`; a row per study and per image; each prediction is six tokens with one
blank between: class, confidence, xmin, ymin, xmax, ymax. An empty cell is a row without predictions.
"""

import codecs
import contextlib
import csv
from collections.abc import Iterator
from itertools import chain
from pathlib import Path
from typing import BinaryIO

import numpy as np
import polars as pl
from numpy.typing import NDArray

from siimdet.core.files import atomic_write
from siimdet.errors import SubmissionError, shown
from siimdet.submission.table import CLASSES, Submission, row_field

COLUMNS = ("id", "PredictionString")
"""The header, exactly."""

_TOKENS = ("class", "confidence", "xmin", "ymin", "xmax", "ymax")
_SCHEMA = dict.fromkeys(_TOKENS, pl.Float64) | {"class": pl.String}
_ENUM = pl.Enum(CLASSES.names)
_BLOCK_BYTES = 1 << 22
"""Text that is parsed at once: beside the columns, memory holds a few copies of so much, whatever the file's size.

Only a file without any newline, whose lines end in carriage returns, is one block.
"""


def read_submission(path: Path | str) -> Submission:
    """Read a submission; a byte-order mark, CRLF or CR, quotes and blanks around a cell are let pass.

    Raises: SubmissionError with the line for anything the file should not hold; see Submission for
    the values.
    """
    path = Path(path)
    ids: list[str] = []
    rows: list[NDArray[np.int64]] = [np.zeros(0, np.int64)]
    tables = [pl.DataFrame(schema=_SCHEMA | {"class": _ENUM})]
    if not path.is_file():
        found = "a directory" if path.is_dir() else "no such file"
        raise SubmissionError(path, "file", found=found, expected="a submission CSV")
    with open(path, "rb") as stream:
        for lines in _blocks(path, stream):
            first = len(ids)
            owners, table = _parse_cells(path, _split_cells(path, lines, ids), ids, first)
            rows.append(owners)
            tables.append(table)
    table = pl.concat(tables)
    return Submission(
        file=str(path),
        ids=tuple(ids),
        rows=np.concatenate(rows),
        class_ids=table["class"].to_physical().to_numpy(),
        scores=table["confidence"].to_numpy(),
        xyxy=table.select(_TOKENS[2:]).to_numpy(),
    )


def write_submission(path: Path | str, submission: Submission) -> None:
    """Write rows and predictions in their given order, atomically.

    The same values give the same bytes, and every number reads back as it was: the shortest decimal
    that does so, integers without a fraction.
    """
    names = np.array(CLASSES.names)[submission.class_ids].tolist()
    numbers = np.column_stack([submission.scores, submission.xyxy]).tolist()
    cells: list[list[str]] = [[] for _ in submission.ids]
    for row, name, values in zip(submission.rows.tolist(), names, numbers, strict=True):
        cells[row].append(" ".join([name, *(repr(value).removesuffix(".0") for value in values)]))
    with atomic_write(path) as stream:
        writer = csv.writer(stream, lineterminator="\n")
        writer.writerow(COLUMNS)
        writer.writerows((row_id, " ".join(cell)) for row_id, cell in zip(submission.ids, cells, strict=True))


def _check_header(path: Path, line: bytes) -> None:
    header = line.removeprefix(codecs.BOM_UTF8).strip()
    if b'"' in header:
        with contextlib.suppress(UnicodeDecodeError, csv.Error):
            header = _unquoted(header)
    if header != ",".join(COLUMNS).encode():
        found = shown(header.decode(errors="replace"))
        raise SubmissionError(path, "line 1", found=found, expected=",".join(COLUMNS))


def _blocks(path: Path, stream: BinaryIO) -> Iterator[list[bytes]]:
    """Lines below the header, some megabytes of them at a time, without the blank ones at the end of the file."""
    blocks = _lines(stream)
    first = next(blocks, [b""])
    _check_header(path, first.pop(0))
    row, blank = 0, False
    for lines in chain([first], blocks):
        filled = len(lines)
        while filled and not lines[filled - 1].strip():
            filled -= 1
        if filled and blank:
            raise _one_cell(path, row, "")
        if filled:
            yield lines[:filled]
        row, blank = row + filled, blank or filled < len(lines)


def _lines(stream: BinaryIO) -> Iterator[list[bytes]]:
    """Lines without their ends, whole ones of some megabytes at a time."""
    while text := stream.read(_BLOCK_BYTES) + stream.readline():
        if b"\r" in text:
            text = text.replace(b"\r\n", b"\n").replace(b"\r", b"\n")
        yield text.removesuffix(b"\n").split(b"\n")


def _split_cells(path: Path, lines: list[bytes], ids: list[str]) -> list[bytes]:
    """The second cell of every line, blanks around it removed; the first one goes to `ids`."""
    cells = []
    for line in lines:
        try:
            row_id, comma, cell = (_unquoted(line) if b'"' in line else line).partition(b",")
            ids.append(row_id.strip().decode())
        except (UnicodeDecodeError, csv.Error) as error:
            raise SubmissionError(path, f"line {len(ids) + 2}", found=error, expected="a UTF-8 CSV table") from None
        if not comma:
            raise _one_cell(path, len(ids) - 1, ids[-1])
        cells.append(cell.strip())
    return cells


def _unquoted(line: bytes) -> bytes:
    (cells,) = csv.reader([line.decode().strip()], strict=True)
    return ",".join(cells).encode()


def _one_cell(path: Path, row: int, row_id: str) -> SubmissionError:
    return SubmissionError(path, row_field(row, row_id), found="one cell", expected=",".join(COLUMNS))


def _parse_cells(path: Path, cells: list[bytes], ids: list[str], first: int) -> tuple[NDArray[np.int64], pl.DataFrame]:
    """Row numbers i64[N], and a column per token of each prediction; cells[k] is that of row `first` + k."""
    filled = np.array([row for row, cell in enumerate(cells) if cell], np.int64)
    # Each token ends with one blank; the blank after every sixth becomes a newline, and the text a table.
    text = bytearray(b" ").join([*filter(None, cells), b""])
    view = np.frombuffer(text, np.uint8)
    blanks = np.flatnonzero(view == ord(" "))
    ends = np.cumsum([len(cells[row]) + 1 for row in filled], dtype=np.int64)
    tokens = np.diff(np.searchsorted(blanks, ends), prepend=0)
    odd = np.flatnonzero(tokens % len(_TOKENS))
    if len(odd):
        row, found = int(filled[odd[0]]) + first, f"{tokens[odd[0]]} tokens"
        raise SubmissionError(path, row_field(row, ids[row]), found=found, expected=f"{' '.join(_TOKENS)}, repeated")
    rows = np.repeat(filled + first, tokens // len(_TOKENS))
    view[blanks[len(_TOKENS) - 1 :: len(_TOKENS)]] = ord("\n")
    lines = bytes(text)
    table = _parse(lines)
    _refuse_unparsed(path, table, lines, rows, ids)
    return rows, table


def _parse(text: bytes) -> pl.DataFrame:
    """A column per token, from a prediction per line; null for what does not parse."""
    table = pl.DataFrame(schema=_SCHEMA)
    if text:
        options = {"has_header": False, "separator": " ", "quote_char": None, "ignore_errors": True}
        # Lossy: a byte that is not UTF-8 would otherwise be an error without its place.
        table = pl.read_csv(text, schema=_SCHEMA, encoding="utf8-lossy", **options)
    # An Enum in the schema raises for an unknown class instead of giving null.
    return table.with_columns(pl.col("class").cast(_ENUM, strict=False))


def _refuse_unparsed(path: Path, table: pl.DataFrame, text: bytes, rows: NDArray[np.int64], ids: list[str]) -> None:
    for k, name in enumerate(_TOKENS):
        if table[name].null_count():
            first = int(table[name].is_null().arg_max() or 0)
            token = text.split(b"\n")[first].split(b" ")[k].decode(errors="replace")
            expected = f"a number for {name}" if k else f"one of {', '.join(CLASSES.names)}"
            row = int(rows[first])
            raise SubmissionError(path, row_field(row, ids[row]), found=repr(token), expected=expected)
