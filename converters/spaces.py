"""Names of classes that a data set can hold."""

from pathlib import Path

from converters.image import COLUMNS as FILE_COLUMNS
from converters.lists import is_plain
from converters.source import Tables
from siimdet.data.manifest import COLUMNS
from siimdet.errors import SourceError


def check_spaces(raw: Path, tables: Tables) -> None:
    """Every label is a column of manifest.csv, beside those that each data set has and the source's own.

    Raises: SourceError for a name that is taken or that a table's header would not give back.
    """
    taken = {*COLUMNS, *FILE_COLUMNS, *(name for item in tables.items for name in item.columns)}
    for name in (*tables.labels.names, *tables.classes.names):
        if not name or name != name.strip() or not is_plain(name):
            raise SourceError(
                raw, "class", found=ascii(name), expected="a name without blanks at its ends, on one line"
            )
    for name in tables.labels.names:
        if name in taken:
            raise SourceError(raw, "class", found=f"{name!r}, a column of manifest.csv", expected="another name")
