"""List files: text with an image per line. Each complaint names the file, and the line where there is one."""

from pathlib import Path, PurePosixPath

from siimdet.errors import SourceError


def read_lines(path: Path) -> list[tuple[int, str]]:
    """(line, text) of every line that is not blank, blanks at its ends kept.

    A byte-order mark and any kind of line end are tolerated.
    Raises: SourceError for a file that cannot be read or is not UTF-8.
    """
    try:
        # Not splitlines, which also breaks at characters that names may hold.
        lines = path.read_text(encoding="utf-8-sig").split("\n")
    except OSError as error:
        raise SourceError(path, "file", found=error.strerror, expected="a text file") from None
    except UnicodeDecodeError as error:
        found = f"byte {error.object[error.start]:#04x}"
        raise SourceError(path, "encoding", found=found, expected="UTF-8 text") from None
    return [(line, text) for line, text in enumerate(lines, start=1) if text.strip()]


def check_below(where: str | Path, field: str, name: str) -> str:
    """Return a listed name if it stays below its folder; what a list says must not lead to other files.

    Raises: SourceError for an absolute path, for `..`, and for what no manifest can hold.
    """
    if PurePosixPath(name).is_absolute() or ".." in name.split("/") or not is_plain(name):
        raise SourceError(where, field, found=ascii(name[:100]), expected="a path below the raw folder")
    return name


def is_plain(name: str) -> bool:
    """Whether a name can be written to tables: UTF-8 without control characters."""
    return all(char >= " " and char != "\x7f" and not "\ud800" <= char <= "\udfff" for char in name)
