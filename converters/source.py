"""What a source module gives the engine: its labels as items, and what is true of all of them."""

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from converters.image import Grey, RawImage, load_image
from converters.repair import Repair
from siimdet.core.types import ImageSize, LabelSpace
from siimdet.data.splits import Official


class Failure(NamedTuple):
    """One input that was refused: a row of failures.csv."""

    image_id: str
    path: str
    reason: str


@dataclass(frozen=True, slots=True, eq=False)
class Item:
    """What a source's tables and folders say of one image.

    Shapes: xyxy f64[N, 4] in original pixels, as published; class_ids i64[N]; labels f32[K].
    """

    image_id: str
    study_id: str | None
    """None where only the DICOM header tells."""
    labels: NDArray[np.float32]
    xyxy: NDArray[np.float64] = field(default_factory=lambda: np.zeros((0, 4)))
    class_ids: NDArray[np.int64] = field(default_factory=lambda: np.zeros(0, np.int64))
    patient_id: str | None = None
    """None where only the DICOM header tells."""
    place: str | None = None
    """The image's path below the raw folder; None: the one file whose stem is the image id."""
    copy_original: ImageSize | None = None
    """Original size of a file that is a reduced PNG or JPEG copy, where a table gives it."""
    official: Official | None = None
    columns: dict[str, str] = field(default_factory=dict)
    """Source columns of the manifest."""
    repairs: tuple[Repair, ...] = ()
    """What was mended in reading the tables."""


@dataclass(frozen=True, slots=True, eq=False)
class Tables:
    """All that a source publishes beside the pixels, read and checked.

    `items` are sorted by image id; `files` are the label files that they come from.
    """

    items: tuple[Item, ...]
    files: tuple[Path, ...]
    labels: LabelSpace
    classes: LabelSpace


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class Source:
    """A source: `read` turns a raw folder into tables, or raises SourceError naming file, line and field."""

    name: str
    read: Callable[[Path], Tables]
    native: ImageSize | None = None
    """The size in whose pixels all boxes are published; None: each file's own size, or its table's."""
    knows_patients: bool = True
    """False where an image is a patient of its own unless its name tells more (--patient-pattern)."""
    load: Callable[[Path, Grey], RawImage] = load_image
    """Reads one raw file; runs in worker processes, so it must be a module's function."""
