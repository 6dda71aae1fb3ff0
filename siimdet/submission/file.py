"""Read and write submission.csv.

Header `id,PredictionString`; a row per study and per image; each prediction is six tokens with one
blank between: class, confidence, xmin, ymin, xmax, ymax. An empty cell is a row without predictions.
"""

import codecs
import csv
from io import StringIO
from pathlib import Path

import numpy as np
import polars as pl
from numpy.typing import NDArray

from siimdet.core.files import atomic_write
from siimdet.errors import SubmissionError
from siimdet.submission.table import CLASSES, Submission, row_field

COLUMNS = ("id", "PredictionString")
"""The header, exactly."""

_TOKENS = ("class", "confidence", "xmin", "ymin", "xmax", "ymax")


def read_submission(path: Path | str) -> Submission:
    """Read a submission; a byte-order mark, CRLF, quotes and blanks around a cell are let pass.

    Raises: SubmissionError with the line for anything the file should not hold; see Submission for
    the values.
    """
    path = Path(path)
    ids, cells = _read_rows(path)
    filled = np.array([row for row, cell in enumerate(cells) if cell], np.int64)
    # Each token ends with one blank; the blank after every sixth becomes a newline, and the text a table.
    text = np.frombuffer(bytearray(b" ".join([*filter(None, cells), b""])), np.uint8)
    blanks = np.flatnonzero(text == ord(" "))
    ends = np.cumsum([len(cells[row]) + 1 for row in filled], dtype=np.int64)
    tokens = np.diff(np.searchsorted(blanks, ends), prepend=0)
    odd = np.flatnonzero(tokens % len(_TOKENS))
    if len(odd):
        row, found = int(filled[odd[0]]), f"{tokens[odd[0]]} tokens"
        raise SubmissionError(path, row_field(row, ids[row]), found=found, expected=f"{' '.join(_TOKENS)}, repeated")
    rows = np.repeat(filled, tokens // len(_TOKENS))
    text[blanks[len(_TOKENS) - 1 :: len(_TOKENS)]] = ord("\n")
    table = _parse(text.tobytes())
    _refuse_unparsed(path, table, text, rows, ids)
    return Submission(
        file=str(path),
        ids=tuple(ids),
        rows=rows,
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


def _read_rows(path: Path) -> tuple[list[str], list[bytes]]:
    """Ids and cells of every row below the header, blanks around them removed."""
    if not path.is_file():
        raise SubmissionError(path, "file", found="no such file", expected="a submission CSV")
    data = path.read_bytes().removeprefix(codecs.BOM_UTF8)
    header, *lines = _split_lines(path, data) or [b""]
    if header.strip() != ",".join(COLUMNS).encode():
        raise SubmissionError(path, "line 1", found=header.decode(), expected=",".join(COLUMNS))
    ids, cells = [], []
    for row, line in enumerate(lines):
        row_id, comma, cell = line.partition(b",")
        ids.append(row_id.strip().decode())
        cells.append(cell.strip())
        if not comma:
            raise SubmissionError(path, row_field(row, ids[row]), found="one cell", expected="id,PredictionString")
    return ids, cells


def _split_lines(path: Path, data: bytes) -> list[bytes]:
    try:
        text = data.decode()
        if '"' not in text:
            # Quotes are rare, and csv.reader takes longer over 27 MB than everything else here together.
            return data.rstrip().splitlines()
        rows = csv.reader(StringIO(text, newline=""), strict=True)
        return [",".join(" ".join(cell.split()) for cell in row).encode() for row in rows]
    except (UnicodeDecodeError, csv.Error) as error:
        raise SubmissionError(path, "file", found=error, expected="a UTF-8 CSV table") from error


def _parse(text: bytes) -> pl.DataFrame:
    """A column per token, from a prediction per line; null for what does not parse."""
    schema = dict.fromkeys(_TOKENS, pl.Float64) | {"class": pl.String}
    if text:
        table = pl.read_csv(text, has_header=False, separator=" ", quote_char=None, schema=schema, ignore_errors=True)
    else:
        table = pl.DataFrame(schema=schema)
    # An Enum in the schema raises for an unknown class instead of giving null.
    return table.with_columns(pl.col("class").cast(pl.Enum(CLASSES.names), strict=False))


def _refuse_unparsed(
    path: Path, table: pl.DataFrame, text: NDArray[np.uint8], rows: NDArray[np.int64], ids: list[str]
) -> None:
    for k, name in enumerate(_TOKENS):
        if table[name].null_count():
            first = int(table[name].is_null().arg_max() or 0)
            token = text.tobytes().split(b"\n")[first].split(b" ")[k].decode()
            expected = f"a number for {name}" if k else f"one of {', '.join(CLASSES.names)}"
            row = int(rows[first])
            raise SubmissionError(path, row_field(row, ids[row]), found=repr(token), expected=expected)
