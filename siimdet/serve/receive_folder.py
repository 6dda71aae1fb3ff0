"""The folder of received files: each takes its name whole and on the disk, or not at all."""

import contextlib
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

from siimdet.errors import UserError

_INCOMING = ".incoming."


def prepare(out: Path) -> None:
    """Make the folder, without what a killed service left in it. Raises: UserError if it cannot be written."""
    try:
        out.mkdir(parents=True, exist_ok=True)
        for left in out.glob(f"{_INCOMING}*"):
            left.unlink()
        tempfile.TemporaryFile(dir=out).close()
    except OSError as error:
        raise UserError(out, "--out", found=error.strerror, expected="a folder to write to") from None


@contextlib.contextmanager
def written(out: Path, data: bytes) -> Iterator[Path]:
    """Bytes in a file of the folder, on the disk, which is deleted unless the block moves it. Raises: OSError."""
    handle, name = tempfile.mkstemp(prefix=_INCOMING, dir=out)
    try:
        with open(handle, "wb") as stream:
            stream.write(data)
            stream.flush()
            os.fsync(stream.fileno())
        yield Path(name)
    finally:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(name)


def keep(out: Path, path: Path, place: PurePosixPath) -> None:
    """Give a written file its place, three levels below the folder. Raises: OSError.

    The same again stays as it is, and is not converted again; what was corrected takes the place.
    """
    kept = out / place
    if kept.is_file() and kept.read_bytes() == path.read_bytes():
        return
    kept.parent.mkdir(parents=True, exist_ok=True)
    os.replace(path, kept)
    # Who is told that it is stored may delete it: the names must outlast a power cut, too.
    for folder in (kept.parent, kept.parent.parent, out):
        _sync(folder)


def _sync(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
