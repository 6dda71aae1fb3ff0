"""Any YOLO detection set: data.yaml, images, and a text file of boxes per image.

`train`, `val` and `test` of data.yaml each name a folder, a list file of paths, or several of them;
the labels of .../images/a.png are .../labels/a.txt. A line is `class cx cy w h` in fractions of the
image, or a polygon, whose box is taken. An image without a file of labels has no boxes.
Source: https://docs.ultralytics.com/datasets/detect/
"""

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

import numpy as np
from numpy.typing import NDArray

from converters.labels import present
from converters.lists import is_plain, read_lines
from converters.names import image_ids, renamings
from converters.parts import official_part
from converters.raw_files import DICOM_SUFFIXES, SUFFIXES, walk_images
from converters.source import Item, Source, Tables
from converters.yolo_yaml import DATA_YAML, Description, read_description
from siimdet.core.boxes import cxcywhn_to_xyxy
from siimdet.core.types import SPLITS, ImageSize, Split
from siimdet.errors import ImageError, SourceError
from siimdet.imaging.png import read_size

_Box = tuple[int, list[float]]

# Twelve digits of a fraction are less than this of any image: a border stays a border.
_DECIMALS = 6


def read_tables(raw: Path) -> Tables:
    """Classes in the order of data.yaml; image = study = patient.

    The parts that it names are official; a training part without validation is divided.
    """
    described = read_description(raw / DATA_YAML)
    parts: dict[str, Split] = {}
    for split in SPLITS:
        for place in _places(raw, described, split):
            if parts.setdefault(place, split) != split:
                found = f"{place}, an image of {parts[place]}"
                raise SourceError(described.path, split, found=found, expected="one part")
    if not parts:
        raise SourceError(described.path, "train, val, test", found="no image", expected="folders or lists of images")
    if not any(os.path.isfile(_label_path(raw, place)) for place in parts):
        expected = f"files such as {_label_path(raw, min(parts))}"
        raise SourceError(described.path, "labels", found="none for any image", expected=expected)
    ids = image_ids(parts)
    items = [_item(raw, place, ids[place], part, described) for place, part in parts.items()]
    items.sort(key=lambda item: item.image_id)
    return Tables(tuple(items), (described.path,), described.classes, described.classes)


def _item(raw: Path, place: str, image_id: str, part: Split, described: Description) -> Item:
    boxes = _read_boxes(_label_path(raw, place), len(described.classes))
    class_ids = np.array([class_id for class_id, _ in boxes], np.int64)
    return Item(
        image_id=image_id,
        study_id=image_id,
        labels=present(described.classes, class_ids),
        xyxy=_in_pixels(raw / place, [box for _, box in boxes]),
        class_ids=class_ids,
        patient_id=image_id,
        place=place,
        official=official_part(part, [split for split, entries in described.parts.items() if entries]),
        columns={"file": place},
        repairs=renamings(place, image_id),
    )


def _in_pixels(path: Path, boxes: list[list[float]]) -> NDArray[np.float64]:
    size = ImageSize(1, 1)
    # An image that cannot be read is a failure of its own, when its turn comes.
    with contextlib.suppress(ImageError):
        size = read_size(path) if boxes else size
    with np.errstate(invalid="ignore"):  # infinity is judged later
        return np.round(cxcywhn_to_xyxy(boxes, size), _DECIMALS)


def _read_boxes(path: Path, classes: int) -> list[_Box]:
    if not os.path.lexists(path):
        return []
    boxes = []
    for line, text in read_lines(path):
        try:
            number, *values = (float(cell.replace("_", "?")) for cell in text.split())
        except ValueError:
            number, values = -1, []
        if len(values) != 4 and (len(values) < 6 or len(values) % 2):
            raise SourceError(f"{path}:{line}", "row", found=repr(text[:80]), expected="class cx cy w h")
        if number not in range(classes):
            raise SourceError(f"{path}:{line}", "class", found=f"{number:g}", expected=f"0 to {classes - 1}")
        boxes.append((int(number), values if len(values) == 4 else _around(values)))
    return boxes


def _around(polygon: list[float]) -> list[float]:
    """The box of x1 y1 x2 y2 ... as centre and extent."""
    points = np.array(polygon).reshape(-1, 2)
    low, high = points.min(axis=0), points.max(axis=0)
    return [*((low + high) / 2).tolist(), *(high - low).tolist()]


def _places(raw: Path, described: Description, split: Split) -> Iterator[str]:
    """Paths of a part's images below `raw`."""
    for entry in described.parts[split]:
        target = _target(raw, described, entry, split)
        if target.is_dir():
            for name in walk_images(target):
                yield _below(raw, target / name, described.path, split)
        else:
            for line, text in read_lines(target):
                # Lists say ./images/a.png from where they lie, or images/a.png from the top.
                places = (target.parent / text.strip(), raw / text.strip())
                image = next(filter(os.path.isfile, places), places[0])
                yield _below(raw, image, f"{target}:{line}", split)


def _target(raw: Path, described: Description, entry: str, split: Split) -> Path:
    bare = entry
    while bare.startswith("../"):  # exports of annotation services say ../train/images and mean one beside the file
        bare = bare.removeprefix("../")
    for candidate in (raw / described.root / entry, raw / entry, raw / bare):
        if os.path.exists(candidate) and _is_inside(_relative(raw, candidate)):
            return candidate
    raise SourceError(described.path, split, found=f"{entry}, not below {raw}", expected="a folder or a list file")


def _below(raw: Path, image: Path, where: Path | str, split: Split) -> str:
    place = _relative(raw, image)
    suffix = place.suffix.lower()
    if not _is_inside(place) or suffix not in SUFFIXES or suffix in DICOM_SUFFIXES or not is_plain(str(place)):
        raise SourceError(where, split, found=ascii(str(image)), expected=f"a PNG or JPEG image below {raw}")
    return str(place)


def _relative(raw: Path, path: Path) -> PurePosixPath:
    return PurePosixPath(os.path.relpath(path, raw))


def _is_inside(place: PurePosixPath) -> bool:
    return ".." not in place.parts


def _label_path(raw: Path, place: str) -> Path:
    head, found, tail = f"/{place}".rpartition("/images/")
    label = f"{head}/labels/{tail}" if found else place
    return raw / PurePosixPath(label.lstrip("/")).with_suffix(".txt")


YOLO = Source(name="yolo", read=read_tables, knows_patients=False)
"""The set's own classes."""
