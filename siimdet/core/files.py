"""Files that survive a crash, and names that cannot leave their folder."""

import contextlib
import errno
import hashlib
import json
import os
import re
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

from siimdet.errors import SourceError, UserError

try:
    import fcntl
except ImportError:  # Windows has none
    fcntl = None

MAX_ID = 200
"""Characters of an id, at most."""
_SAFE_ID = re.compile(rf"[A-Za-z0-9._-]{{1,{MAX_ID}}}")


@contextlib.contextmanager
def atomic_write(path: Path | str, mode: str = "w") -> Iterator[IO[Any]]:
    """Open a temporary file beside `path` that takes its name only when the block ends well.

    Until then a reader sees the old file, whatever kills the writer (write, fsync, rename). Text is
    UTF-8 with plain newlines. Raises: UserError if nothing can be written there.
    """
    path = Path(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.is_dir():
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
        handle, temporary = tempfile.mkstemp(prefix=f".{path.name[:80]}.", dir=path.parent)
    except OSError as error:
        raise UserError(path, "file", found=error.strerror, expected="a place to write to") from error
    encoding, newline = (None, None) if "b" in mode else ("utf-8", "")
    try:
        with open(handle, mode, encoding=encoding, newline=newline) as stream:
            yield stream
            stream.flush()
            os.fsync(stream.fileno())
        os.chmod(temporary, 0o666 & ~_umask())
        os.replace(temporary, path)
    except BaseException as error:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(temporary)
        if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise UserError(path, "file", found=error.strerror, expected="room to write it") from error
        raise


@contextlib.contextmanager
def locked(folder: Path) -> Iterator[bool]:
    """Keep a folder for this process until the block ends; yields False if another process has it.

    The lock is advisory, and ends with the process however that ends. Where the system has no such
    locks it is always free; NFS has none of folders (`locked_file`).
    """
    if fcntl is None:  # where a folder cannot be opened either
        yield True
        return
    with _lock(os.open(folder, os.O_RDONLY)) as ours:
        yield ours is not False


@contextlib.contextmanager
def locked_file(path: Path) -> Iterator[bool | None]:
    """Keep a file, made if it is not there, for this process until the block ends, among the machines of NFS too.

    Yields False if another process has it, and None where there are no such locks. The lock is advisory, and
    ends with the process however that ends; the file stays.
    Raises: OSError if the file cannot be opened to write.
    """
    # NFS makes the lock one of bytes (flock(2)), which asks for a handle that can write: of folders there is none.
    with _lock(os.open(path, os.O_RDWR | os.O_CREAT, 0o666)) as ours:
        yield ours


@contextlib.contextmanager
def _lock(handle: int) -> Iterator[bool | None]:
    """Lock an open file, and close it in the end: whether it is ours, None for no locks."""
    ours = None
    try:
        if fcntl is not None:
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
                ours = True
            except OSError as error:  # any other one: some network file systems know no locks
                ours = False if error.errno in (errno.EWOULDBLOCK, errno.EACCES) else None
        yield ours
    finally:
        os.close(handle)


def read_json(path: Path, *, kind: type[UserError], what: str) -> Any:
    """Content of a JSON file. Raises: `kind`, which expected `what`, if it cannot be read or is no JSON."""
    try:
        return json.loads(path.read_bytes())
    except OSError as error:
        raise kind(path, "file", found=error.strerror, expected=what) from None
    except (ValueError, RecursionError) as error:
        raise kind(path, "content", found=error, expected="JSON") from None


def read_versioned_json(path: Path, version: int, *, kind: type[UserError], what: str) -> dict[str, Any]:
    """read_json of an object whose `format` must be `version`."""
    content = read_json(path, kind=kind, what=what)
    found = content.get("format") if isinstance(content, dict) else None
    if found != version:
        raise kind(path, "format", found=found, expected=f"{version}, the format of this version")
    return content


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
