"""The folder that a conversion writes: whose it is, for one run at a time, without what killed runs left."""

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

from converters.journal import JOURNAL, read_source
from siimdet.core.files import locked
from siimdet.data.dataset import HEADER
from siimdet.data.manifest import read_header
from siimdet.errors import SourceError


@contextlib.contextmanager
def claimed(source: str, raw: Path, out: Path) -> Iterator[None]:
    """Hold the folder of a source's data set for the time of the block; it is made if it is not there.

    Raises: SourceError for a folder that holds the raw files, another source's data set or files of
    somebody else, or that another run is writing.
    """
    if raw.resolve().is_relative_to(out.resolve()) or (out / "images").resolve() == raw.resolve():
        raise SourceError(out, "--out", found="a folder that holds the raw files", expected="another folder")
    if out.exists() and (owner := _owner(out, source)) != source:
        found = f"a data set of {owner}" if owner else "other files"
        raise SourceError(out, "--out", found=found, expected=f"a new folder, or a data set of {source}")
    out.mkdir(parents=True, exist_ok=True)
    with locked(out) as free:
        if not free:
            raise SourceError(out, "--out", found="another conversion at work", expected="one at a time")
        _sweep(out)
        yield
        _sweep(out)  # of workers that died; a run that fails leaves it to the next one


def _owner(out: Path, newcomer: str) -> str | None:
    """The source whose data set a folder is, the newcomer's if it is empty; None if it is of no source."""
    if not out.is_dir():
        raise SourceError(out, "--out", found="a file", expected="a folder")
    if (out / HEADER).is_file():
        return str(read_header(out / HEADER).get("source"))
    if (out / JOURNAL).is_file():
        return read_source(out / JOURNAL)
    # A kill in the first moment leaves nothing but the journal's temporary file.
    others = [name for name in os.listdir(out) if not name.startswith(f".{JOURNAL}.")]
    return None if others else newcomer


def _sweep(out: Path) -> None:
    """Remove the temporary files of processes that were killed; only atomic_write makes such names here."""
    names = ("manifest.csv", "annotations.json", "data.yaml", "*.txt", "failures.csv", "repairs.csv", HEADER, JOURNAL)
    for folder, patterns in ((out, names), (out / "images", ("*",)), (out / "labels", ("*",))):
        for pattern in patterns:
            for path in folder.glob(f".{pattern}.????????"):
                path.unlink()
