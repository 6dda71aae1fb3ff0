"""A classifier's predictions as `predict` writes them: a CSV of a row per image, or per patient.

image_id, then a column per class, then `opacity` of a model that tells it. Or patient_id, then slices,
CLASS_slices ..., a column per class, decision.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from siimdet.core.types import LabelSpace, Probabilities
from siimdet.data.table import Table, read_table
from siimdet.errors import SubmissionError, shown
from siimdet.inference.aggregate import patient_header

IMAGE, PATIENT = "image_id", "patient_id"
OPACITY = "opacity"


@dataclass(frozen=True, slots=True, eq=False)
class ClassesFile:
    """What stands in the file, in its order.

    Shapes: opacity f64[N] in [0, 1], decisions i64[N] class ids; None where the file has no such column. Every row
    began on its line of `lines`.
    """

    by: str
    """image_id or patient_id: what the keys are."""
    probabilities: Probabilities
    opacity: NDArray[np.float64] | None
    decisions: NDArray[np.int64] | None
    lines: tuple[int, ...]


def holds_classes(path: Path) -> bool:
    """Whether the file's header begins as a classifier's does. False for a file that is not there."""
    if not path.is_file():
        return False
    with open(path, "rb") as stream:
        first = stream.readline(1000).decode("utf-8-sig", errors="replace").partition(",")[0]
    return first.strip().strip('"') in (IMAGE, PATIENT)


def read_classes(path: Path, space: LabelSpace) -> ClassesFile:
    """Read a classifier's CSV for the classes of `space`.

    Raises: SubmissionError naming the line for other columns, an id twice, a probability that is no number or
    outside [0, 1], an unknown decision.
    """
    table = read_table(path, space.names, kind=SubmissionError)
    by = table.header[0]
    patients = by == PATIENT
    _check_header(table, space, patients)
    keys = _keys(table, by)
    values = np.array([_numbers(table, name) for name in space.names]).T.reshape(-1, len(space))
    has_opacity = OPACITY in table.header and OPACITY not in space.names and not patients
    return ClassesFile(
        by=by,
        probabilities=Probabilities(keys, values, space),
        opacity=np.array(_numbers(table, OPACITY)) if has_opacity else None,
        decisions=_decisions(table, space) if patients else None,
        lines=table.lines,
    )


def check_keys(path: Path, found: ClassesFile, expected: Collection[str], *, complete: bool) -> None:
    """Raise SubmissionError unless the file's ids are those expected; `complete=False` lets ids lack."""
    wanted, keys = set(expected), found.probabilities.keys
    if unknown := [(line, key) for line, key in zip(found.lines, keys, strict=True) if key not in wanted]:
        line, key = unknown[0]
        said = f"{key!r} ({len(unknown)} unknown ids)"
        raise SubmissionError(f"{path}:{line}", found.by, found=said, expected="only ids of the split")
    if complete and (lacking := sorted(wanted - set(keys))):
        said = f"no row for {lacking[0]!r} ({len(lacking)} ids lack)"
        raise SubmissionError(path, found.by, found=said, expected=f"all {len(wanted)} ids of the split")


def _check_header(table: Table, space: LabelSpace, patients: bool) -> None:
    plain = (IMAGE, *space.names)
    allowed: Sequence[tuple[str, ...]] = (plain, (*plain, OPACITY))
    if patients:
        allowed = (patient_header(space),)
    if table.header not in allowed:
        found = shown(f"columns {', '.join(table.header)}")
        raise table.error(1, "header", found=found, expected=", ".join(allowed[0]))


def _keys(table: Table, by: str) -> tuple[str, ...]:
    seen: set[str] = set()
    for line, key in table.select(by):
        if key in seen:
            raise table.error(line, by, found=f"{key!r} a second time", expected="every id once")
        seen.add(key)
    return tuple(key for _, key in table.select(by))


def _numbers(table: Table, name: str) -> list[float]:
    numbers = []
    for line, cell in table.select(name):
        number = table.number(line, name, cell)
        if not 0 <= number <= 1:
            raise table.error(line, name, found=cell, expected="a probability in [0, 1]")
        numbers.append(number)
    return numbers


def _decisions(table: Table, space: LabelSpace) -> NDArray[np.int64]:
    ids = []
    for line, cell in table.select("decision"):
        if cell not in space.names:
            raise table.error(line, "decision", found=repr(cell), expected=f"one of {', '.join(space.names)}")
        ids.append(space.index(cell))
    return np.array(ids, np.int64)
