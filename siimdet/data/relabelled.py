"""A data set of another one's images, with labels of its own."""

import os
import shutil
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from siimdet.core.types import BoxLabels, ImageRecord, LabelSpace
from siimdet.data.dataset import Dataset
from siimdet.data.manifest import write_dataset
from siimdet.data.yolo import write_yolo
from siimdet.errors import DatasetError


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

    Raises: DatasetError for an `out` that holds files, or an image that is not there.
    """
    out = out.absolute()
    if out.exists() and (not out.is_dir() or os.listdir(out)):
        raise DatasetError(out, "--out", found="other files", expected="a new folder")
    out.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f".{out.name}.", dir=out.parent) as folder:
        root = Path(folder) / out.name
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
            write_yolo(written)
        os.replace(root, out)
    return replace(written, root=out)


def _link(source: Path, target: Path) -> None:
    """A second name of the file: no image of a data set is ever written in place."""
    if not source.is_file():
        raise DatasetError(source, "image", found="nothing there", expected="the image of the manifest")
    target.parent.mkdir(parents=True, exist_ok=True)
    try:
        os.link(source.resolve(), target)
    except OSError:  # another file system, or one without such links
        shutil.copyfile(source, target)
