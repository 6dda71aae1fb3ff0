"""From the labels' items to the work: which raw file each image is."""

import os
from collections.abc import Sequence
from pathlib import Path

from converters.item import Task
from converters.raw_files import ImagesByStem
from converters.source import Failure, Item
from siimdet.errors import SourceError


def find_images(
    items: Sequence[Item], raw: Path, *, present_only: bool, limit: int | None
) -> tuple[list[Task], list[Failure], int]:
    """The work, the images that cannot be found, and how many labelled images have no file.

    Raises: SourceError if not one image is there.
    """
    by_stem = ImagesByStem(raw) if any(item.place is None for item in items) else None
    here = {item.image_id: _is_here(item, raw, by_stem) for item in items}
    if not any(here.values()):
        found = f"none of the {len(items)} labelled images"
        raise SourceError(raw, "images", found=found, expected="files named by image id: .dcm, .png, .jpg or .jpeg")
    chosen = [item for item in items if here[item.image_id]] if present_only else items
    tasks, failures = [], []
    for item in chosen[:limit]:
        try:
            place = _place(item, by_stem)
            if not os.path.isfile(raw / place):  # Path.is_file raises for a name that no file can have
                raise SourceError(raw / place, "image file", found="none", expected=place)
        except SourceError as error:
            failures.append(Failure(item.image_id, item.place or "", error.reason))
        else:
            tasks.append(Task(item, raw / place, place))
    return tasks, failures, sum(not found for found in here.values())


def _is_here(item: Item, raw: Path, by_stem: ImagesByStem | None) -> bool:
    if item.place is not None:
        return os.path.isfile(raw / item.place)
    return by_stem is not None and item.image_id in by_stem


def _place(item: Item, by_stem: ImagesByStem | None) -> str:
    if item.place is not None:
        return item.place
    assert by_stem is not None
    return by_stem.place(item.image_id)
