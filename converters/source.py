"""What a source module gives the engine: its label tables as items, and what is true of all of them."""

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from converters.image import RawImage, load_image
from siimdet.core.types import ImageSize, LabelSpace
from siimdet.data.splits import Official


class Repair(NamedTuple):
    """One value that was mended: a row of repairs.csv."""

    image_id: str
    field: str
    before: str
    after: str


class Failure(NamedTuple):
    """One input that was refused: a row of failures.csv."""

    image_id: str
    path: str
    reason: str


@dataclass(frozen=True, slots=True, eq=False)
class Item:
    """What the label tables say of one image.

    Shapes: xyxy f64[N, 4] in original pixels, as published; class_ids i64[N]; labels f32[K].
    """

    image_id: str
    study_id: str
    labels: NDArray[np.float32]
    xyxy: NDArray[np.float64]
    class_ids: NDArray[np.int64]
    patient_id: str | None = None
    """None where only the DICOM header tells."""
    copy_original: ImageSize | None = None
    """Original size of a file that is a reduced PNG or JPEG copy, where a table gives it."""
    official: Official | None = None
    columns: dict[str, str] = field(default_factory=dict)
    """Source columns of the manifest."""
    repairs: tuple[Repair, ...] = ()
    """What was mended in reading the tables."""


@dataclass(frozen=True, slots=True, eq=False)
class Tables:
    """All label tables of a source, read and checked: items sorted by image id, and the files they come from."""

    items: tuple[Item, ...]
    files: tuple[Path, ...]


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class Source:
    """A source: `read` turns a raw folder into tables, or raises SourceError naming file, line and field."""

    name: str
    labels: LabelSpace
    classes: LabelSpace
    read: Callable[[Path], Tables]
    native: ImageSize | None = None
    """The size in whose pixels all boxes are published; None: each file's own size, or its table's."""
    load: Callable[[Path, int], RawImage] = load_image
    """Reads one raw file at a bit depth; runs in worker processes, so it must be a module's function."""
