"""Class folders of any names: CLASS/image, or train/CLASS/image beside val/ and test/, at any depth below."""

from collections.abc import Sequence
from pathlib import Path, PurePosixPath

from converters.labels import NO_SPACE, one_hot
from converters.names import image_ids, renamings
from converters.parts import official_part
from converters.raw_files import walk_images
from converters.source import Item, Source, Tables
from siimdet.core.types import LabelSpace, Split
from siimdet.errors import SourceError

PART_FOLDERS: dict[str, Split] = {
    **dict.fromkeys(("train", "training"), "train"),
    **dict.fromkeys(("val", "valid", "validation"), "val"),
    **dict.fromkeys(("test", "testing"), "test"),
}
"""Names of folders, in lower case, that are parts and no classes."""
IMAGES, MASKS = "images", "masks"
"""CLASS/masks/ beside CLASS/images/ holds no radiographs (COVID-19 Radiography Database)."""

_Folders = tuple[str, ...]


def read_tables(raw: Path) -> Tables:
    """Classes are the folders' names, sorted; image = study = patient.

    Folders of parts are official splits; a training part without validation is divided. Folders that
    hold nothing but such parts or classes may lie around them. Images directly in test/ have unknown
    labels. A folder without images is no class.
    """
    places = _without_masks(walk_images(raw))
    if not places:
        raise SourceError(raw, "images", found="none", expected="CLASS/image, or train/CLASS/image")
    depth, has_parts = _find_level(raw, [PurePosixPath(place).parts[:-1] for place in places])
    rows = {place: _part_and_class(raw, place, depth, has_parts) for place in places}
    space = LabelSpace("folders", tuple(sorted({label for _, label in rows.values() if label is not None})))
    _check_case(raw, space)
    given: set[Split | None] = {part for part, _ in rows.values()}
    ids = image_ids(places)
    items = [
        Item(
            image_id=ids[place],
            study_id=ids[place],
            labels=one_hot(space, label),
            patient_id=ids[place],
            place=place,
            official=official_part(part, given),
            columns={"file": place},
            repairs=renamings(place, ids[place]),
        )
        for place, (part, label) in rows.items()
    ]
    return Tables(tuple(sorted(items, key=lambda item: item.image_id)), (), space, NO_SPACE)


def _without_masks(places: Sequence[str]) -> list[str]:
    folders = {PurePosixPath(place).parent for place in places}
    masks = {folder for folder in folders if folder.name == MASKS and folder.with_name(IMAGES) in folders}
    return [place for place in places if PurePosixPath(place).parent not in masks]


def _find_level(raw: Path, folders: Sequence[_Folders]) -> tuple[int, bool]:
    """How many folders lie above the parts or, where there are none, above the classes; are there parts?"""
    shallow = min(map(len, folders))
    for depth in range(shallow):
        names = {parts[depth] for parts in folders}
        parts = {name for name in names if _is_part(name)}
        if parts and parts != names:
            found = f"{', '.join(sorted(parts))} beside {', '.join(sorted(names - parts)[:3])}"
            raise SourceError(raw, "folders", found=found, expected="parts alone or classes alone")
        below = {each[depth + 1 : depth + 2] for each in folders}
        if parts or len(names) > 1 or below <= {(), (IMAGES,)}:
            return depth, bool(parts)
    return shallow, False


def _part_and_class(raw: Path, place: str, depth: int, has_parts: bool) -> tuple[Split | None, str | None]:
    folders = PurePosixPath(place).parts[:-1]
    part = PART_FOLDERS[folders[depth].lower()] if has_parts else None
    below = folders[depth + 1 :] if has_parts else folders[depth:]
    if not below and part != "test":
        raise SourceError(raw / place, "folder", found="an image outside any class", expected="CLASS/image")
    if wrong := [name for name in below if _is_part(name)]:
        raise SourceError(raw / place, "folder", found=f"{wrong[0]} below a class", expected="PART/CLASS/image")
    return part, below[0] if below else None


def _is_part(folder: str) -> bool:
    return folder.lower() in PART_FOLDERS


def _check_case(raw: Path, space: LabelSpace) -> None:
    known: dict[str, str] = {}
    for name in space.names:
        if (twin := known.setdefault(name.casefold(), name)) != name:
            raise SourceError(
                raw, "classes", found=f"{twin} and {name}", expected="names that differ by more than case"
            )


FOLDERS = Source(name="folders", read=read_tables, knows_patients=False)
"""As many classes as there are folders; one holds."""
