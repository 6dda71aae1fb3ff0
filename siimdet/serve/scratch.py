"""A server's folder for patients' files: private, deleted at the end, and after a kill by the next server."""

import contextlib
import os
import shutil
import stat
import tempfile
from collections.abc import Iterator
from pathlib import Path

from siimdet.core.files import locked_file

_PREFIX, _UNLOCKED = "siimdet-serve-", ".siimdet-serve-"
_LOCK = ".lock"


@contextlib.contextmanager
def private_folder() -> Iterator[Path]:
    """A new folder of the temporary directory that only its user can read, deleted at the end.

    Those that this user's servers left when they were killed are deleted first.
    """
    for left in Path(tempfile.gettempdir()).glob(f"{_PREFIX}*"):
        _delete_unless_in_use(left)
    made = Path(tempfile.mkdtemp(prefix=_UNLOCKED))
    # The lock goes with the file through the change of name, and with the process however that ends.
    with locked_file(made / _LOCK):
        folder = made.rename(made.with_name(made.name.removeprefix(".")))
        try:
            yield folder
        finally:
            shutil.rmtree(folder, ignore_errors=True)


def _delete_unless_in_use(folder: Path) -> None:
    with contextlib.suppress(OSError):  # another start deletes it, or it is of another user
        found = folder.lstat()
        if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.geteuid():
            return
        with locked_file(folder / _LOCK) as ours:
            if ours:
                shutil.rmtree(folder, ignore_errors=True)
