"""Files that survive a crash, and names that cannot leave their folder."""

import contextlib
import hashlib
import os
import re
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

from siimdet.errors import SourceError

_SAFE_ID = re.compile(r"[A-Za-z0-9._-]{1,200}")


@contextlib.contextmanager
def atomic_write(path: Path | str, mode: str = "w") -> Iterator[IO[Any]]:
    """Open a temporary file beside `path` that takes its name only when the block ends well.

    Until then a reader sees the old file, whatever kills the writer (write, fsync, rename). Text is
    UTF-8 with plain newlines.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, temporary = tempfile.mkstemp(prefix=f".{path.name[:80]}.", dir=path.parent)
    encoding, newline = (None, None) if "b" in mode else ("utf-8", "")
    try:
        with open(handle, mode, encoding=encoding, newline=newline) as stream:
            yield stream
            stream.flush()
            os.fsync(stream.fileno())
        os.chmod(temporary, 0o666 & ~_umask())
        os.replace(temporary, path)
    except BaseException:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(temporary)
        raise


def sha256_file(path: Path | str) -> str:
    """SHA-256 of a file's bytes, hexadecimal."""
    with open(path, "rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def check_id(value: str, *, file: Path | str, field: str) -> str:
    """Return `value` if it can be a file name of ours, or raise SourceError.

    Ids come from tables and DICOM headers: `../` or a separator in one would write outside --out.
    """
    if not _SAFE_ID.fullmatch(value) or set(value) == {"."}:
        raise SourceError(file, field, found=repr(value), expected="an id of A-Z a-z 0-9 . _ - only")
    return value


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
