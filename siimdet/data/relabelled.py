"""A data set of another one's images, with labels of its own."""

import contextlib
import glob
import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from siimdet.core.files import locked_file
from siimdet.core.types import BoxLabels, ImageRecord, LabelSpace
from siimdet.data.dataset import Dataset
from siimdet.data.manifest import write_dataset
from siimdet.data.yolo import label_lines, label_path, write_yolo
from siimdet.errors import DatasetError

LOCK = "siimdet.lock"
"""Held by the process that works in a hidden folder; one without its process is a killed one's."""


def write_relabelled(
    out: Path,
    parent: Dataset,
    records: Sequence[ImageRecord],
    boxes: Mapping[str, BoxLabels],
    *,
    source: str,
    labels: LabelSpace,
    classes: LabelSpace,
    details: Mapping[str, Any],
) -> Dataset:
    """Write a data set of `parent`'s images in `records`, whole or not at all; with the YOLO view at 8 bits.

    What a killed run left beside `out` is removed first, where the file system has locks that tell.
    Raises: DatasetError for an `out` that holds files, or an image that is not there.
    """
    out = out.absolute()
    if out.exists() and (not out.is_dir() or os.listdir(out)):
        raise DatasetError(out, "--out", found="other files", expected="a new folder")
    out.parent.mkdir(parents=True, exist_ok=True)
    _remove_leftovers(out)
    with _hidden_folder(out) as folder:
        root = folder / out.name
        for record in records:
            _link(parent.root / record.path, root / record.path)
        written = write_dataset(
            root,
            records,
            boxes,
            source=source,
            labels=labels,
            classes=classes,
            bit_depth=parent.bit_depth,
            details=details,
        )
        if parent.bit_depth == 8:
            _write_yolo(written)
        # A cut of the power after the renaming must not leave empty label files, which say "no boxes".
        if hasattr(os, "sync"):  # Windows has none
            os.sync()
        os.replace(root, out)
    return replace(written, root=out)


@contextlib.contextmanager
def _hidden_folder(out: Path) -> Iterator[Path]:
    with (
        tempfile.TemporaryDirectory(prefix=f".{out.name}.", dir=out.parent) as folder,
        locked_file(Path(folder) / LOCK) as ours,
    ):
        if ours is False:  # by one that looks for leftovers in this very moment, and will remove the folder
            raise DatasetError(out, "--out", found="another command at work", expected="one at a time")
        yield Path(folder)


def _remove_leftovers(out: Path) -> None:
    for lock in out.parent.glob(f".{glob.escape(out.name)}.*/{LOCK}"):
        try:
            with locked_file(lock) as free:
                pass  # it is closed before it is removed, or NFS would keep it under another name
        except OSError:  # another user's, or gone since
            continue
        if free:
            shutil.rmtree(lock.parent, ignore_errors=True)


def _write_yolo(dataset: Dataset) -> None:
    """The YOLO view of a folder that has not its name yet.

    write_yolo leaves labels be that are right already, and would sync each of the others: 4 ms for an image.
    """
    for record in dataset.records:
        path = label_path(dataset.root, record)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(label_lines(dataset.boxes[record.image_id]).encode())
    write_yolo(dataset)


def _link(source: Path, target: Path) -> None:
    """A second name of the file: no image of a data set is ever written in place."""
    if not source.is_file():
        raise DatasetError(source, "image", found="nothing there", expected="the image of the manifest")
    target.parent.mkdir(parents=True, exist_ok=True)
    try:
        os.link(source.resolve(), target)
    except OSError:  # another file system, or one without such links
        shutil.copyfile(source, target)
