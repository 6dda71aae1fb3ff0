"""The data set on disk: dataset.json, manifest.csv and annotations.json, written and read strictly.

manifest.csv has a row per image, sorted by image id: image_id, study_id, patient_id, path, width and
height (stored), original_width and original_height, split, fold, the source's own columns, then a
column per label with 1, 0 or nothing for unknown.
"""

import functools
import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from siimdet.core.files import atomic_write, read_versioned_json, sha256_file
from siimdet.core.types import SPLITS, BoxLabels, ImageRecord, ImageSize, LabelSpace
from siimdet.data.coco import read_annotations, write_annotations
from siimdet.data.dataset import ANNOTATIONS, HEADER, MANIFEST, Dataset, by_split, training_split
from siimdet.data.table import Table, read_table, write_table
from siimdet.errors import DatasetError

__all__ = ["FORMAT_VERSION", "Dataset", "by_split", "read_dataset", "read_header", "training_split", "write_dataset"]

FORMAT_VERSION = 1
COLUMNS = (
    *("image_id", "study_id", "patient_id", "path", "width", "height"),
    *("original_width", "original_height", "split", "fold"),
)
_CELLS = {"1": 1.0, "0": 0.0, "": np.nan}
_TEXTS = {1.0: "1", 0.0: "0"}


def write_dataset(
    root: Path,
    records: Sequence[ImageRecord],
    boxes: Mapping[str, BoxLabels],
    *,
    source: str,
    labels: LabelSpace,
    classes: LabelSpace,
    bit_depth: int,
    details: Mapping[str, Any] | None = None,
) -> Dataset:
    """Write the three files of a data set whose images are in `root` already, and return it.

    Each file replaces its old self in one step; dataset.json comes last. `details` go into
    dataset.json as they are: counts, preprocessing, splits, SHA-256 of the label tables.
    """
    ordered = tuple(sorted(records, key=lambda record: record.image_id))
    assert len({record.image_id for record in ordered}) == len(ordered), "an image id twice"
    columns = tuple(dict.fromkeys(name for record in ordered for name in record.source))
    write_annotations(root / ANNOTATIONS, ordered, boxes, classes)
    rows = (_row(record, columns) for record in ordered)
    write_table(root / MANIFEST, (*COLUMNS, *columns, *labels.names), rows)
    header = {
        "format": FORMAT_VERSION,
        "source": source,
        "labels": _space_to_json(labels),
        "classes": _space_to_json(classes),
        "bit_depth": bit_depth,
        **(details or {}),
    }
    with atomic_write(root / HEADER) as stream:
        stream.write(json.dumps(header, indent=2, ensure_ascii=False) + "\n")
    return Dataset(root, source, labels, classes, bit_depth, ordered, boxes, _fingerprint(root), details or {})


def read_dataset(root: Path | str, *, check_files: bool = False) -> Dataset:
    """Read a data set; with `check_files` every image of the manifest must be there too.

    Raises: DatasetError naming file, line, field, found and expected for anything missing or broken.
    """
    root = Path(root)
    header = read_header(root / HEADER)
    labels, classes = (_space_from_json(root / HEADER, header, field) for field in ("labels", "classes"))
    if header.get("bit_depth") not in (8, 16):
        raise DatasetError(root / HEADER, "bit_depth", found=header.get("bit_depth"), expected="8 or 16")
    records = _read_manifest(root / MANIFEST, labels)
    if check_files:
        for record in records:
            if not (root / record.path).is_file():
                raise DatasetError(root / MANIFEST, "path", found=f"no file {record.path}", expected="the image")
    boxes = read_annotations(root / ANNOTATIONS, records, classes)
    details = {key: value for key, value in header.items() if key not in _OWN_KEYS}
    return Dataset(
        root,
        str(header.get("source")),
        labels,
        classes,
        header["bit_depth"],
        records,
        boxes,
        _fingerprint(root),
        details,
    )


_OWN_KEYS = ("format", "source", "labels", "classes", "bit_depth")


def _row(record: ImageRecord, columns: Sequence[str]) -> list[object]:
    return [
        *(record.image_id, record.study_id, record.patient_id, record.path),
        *(record.stored.width, record.stored.height, record.original.width, record.original.height),
        *(record.split, record.fold),
        *(record.source.get(name, "") for name in columns),
        *(_TEXTS.get(value, "") for value in record.labels.tolist()),
    ]


def _read_manifest(path: Path, labels: LabelSpace) -> tuple[ImageRecord, ...]:
    table = read_table(path, (*COLUMNS, *labels.names), kind=DatasetError)
    extra = [name for name in table.header if name not in COLUMNS and name not in labels.names]
    records, seen = [], set()
    # Sizes and rows of labels repeat: each is made once.
    size = functools.cache(lambda width, height: ImageSize(int(width), int(height)))
    known: dict[tuple[str, ...], NDArray[np.float32]] = {}
    for line, cells in table.select(*COLUMNS, *extra, *labels.names):
        image_id, study_id, patient_id, place, *sizes, split, fold = cells[: len(COLUMNS)]
        truth = cells[len(COLUMNS) + len(extra) :]
        if truth not in known:
            known[truth] = _label_row(table, line, labels, truth)
        if image_id in seen or not image_id:
            raise table.error(line, "image_id", found=f"{image_id!r} again", expected="an id of its own")
        if split not in SPLITS:
            raise table.error(line, "split", found=repr(split), expected=" or ".join(SPLITS))
        if fold and not fold.isdecimal():
            raise table.error(line, "fold", found=repr(fold), expected="a number from 0, or nothing")
        try:
            stored, original = size(*sizes[:2]), size(*sizes[2:])
        except ValueError:
            raise table.error(line, "size", found=" ".join(sizes), expected="four whole numbers from 1") from None
        _check_place(table, line, place)
        seen.add(image_id)
        number = int(fold) if fold else None
        source = dict(zip(extra, cells[len(COLUMNS) :], strict=False))
        records.append(
            ImageRecord(image_id, study_id, patient_id, place, stored, original, known[truth], split, number, source)
        )
    return tuple(sorted(records, key=lambda record: record.image_id))


def _label_row(table: Table, line: int, labels: LabelSpace, cells: tuple[str, ...]) -> NDArray[np.float32]:
    for name, cell in zip(labels.names, cells, strict=True):
        if cell not in _CELLS:
            raise table.error(line, name, found=repr(cell), expected="1, 0 or nothing for unknown")
    return np.array([_CELLS[cell] for cell in cells], np.float32)


def _check_place(table: Table, line: int, place: str) -> None:
    # A data set may come from somebody else: its paths must not lead out of its folder.
    if not place.startswith("images/") or ".." in place.split("/") or "\\" in place:
        raise table.error(line, "path", found=repr(place), expected="a path below images/")


def read_header(path: Path) -> dict[str, Any]:
    """dataset.json. Raises: DatasetError if it is missing, broken or of another format."""
    return read_versioned_json(path, FORMAT_VERSION, kind=DatasetError, what="a converted data set")


def _space_to_json(space: LabelSpace) -> dict[str, Any]:
    return {"name": space.name, "names": list(space.names)}


def _space_from_json(path: Path, header: Mapping[str, Any], field: str) -> LabelSpace:
    try:
        space = LabelSpace(header[field]["name"], tuple(header[field]["names"]))
    except (KeyError, TypeError, ValueError):
        space = None
    if space is None or not all(isinstance(name, str) and name for name in space.names):
        raise DatasetError(path, field, found=header.get(field), expected="a name and a list of class names")
    return space


def _fingerprint(root: Path) -> str:
    hashes = sha256_file(root / MANIFEST) + sha256_file(root / ANNOTATIONS)
    return hashlib.sha256(hashes.encode()).hexdigest()
