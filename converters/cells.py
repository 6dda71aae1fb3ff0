"""Cells of label tables: ids, 0/1 flags and boxes, each complaint with file and line."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from siimdet.core.boxes import xywh_to_xyxy
from siimdet.core.files import check_id
from siimdet.data.table import Table, read_table
from siimdet.errors import SourceError

_NO_BOXES = np.zeros((0, 4))


def read_labels(path: Path, *columns: str) -> Table:
    """A label table with at least these columns."""
    return read_table(path, columns, kind=SourceError)


def id_cell(table: Table, line: int, field: str, cell: str, *, suffix: str = "") -> str:
    """An id that can be a file name, without the suffix that it must end in."""
    if not cell.endswith(suffix):
        raise table.error(line, field, found=repr(cell), expected=f"an id that ends in {suffix!r}")
    return check_id(cell.removesuffix(suffix), file=f"{table.path}:{line}", field=field)


def flag_cell(table: Table, line: int, field: str, cell: str) -> int:
    """A 0 or 1."""
    if cell not in ("0", "1"):
        raise table.error(line, field, found=repr(cell), expected="0 or 1")
    return int(cell)


def box_cells(table: Table, line: int, fields: tuple[str, ...], cells: Sequence[str]) -> list[float]:
    """Four numbers: x, y, width, height."""
    return [table.number(line, field, cell) for field, cell in zip(fields, cells, strict=True)]


def box_array(xywh: list[list[float]]) -> NDArray[np.float64]:
    """Published boxes (x, y, width, height) as f64[N, 4] xyxy; NaN and infinity are judged later."""
    if not xywh:
        return _NO_BOXES
    with np.errstate(invalid="ignore"):
        return xywh_to_xyxy(xywh)
