"""The files below a raw folder: all of them by path, or the images by stem."""

import os
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import NoReturn

from converters.image import COPIES, OTHERS
from converters.journal import JOURNAL
from converters.lists import is_plain
from siimdet.data.dataset import HEADER, MANIFEST
from siimdet.errors import SourceError

DICOM_SUFFIXES = (".dcm", ".dicom", ".ima")
SUFFIXES = (*DICOM_SUFFIXES, *COPIES, *OTHERS)
"""What an image may be stored as, the preferred first."""


def walk(raw: Path) -> Iterator[str]:
    """Paths of all files below `raw`, with slashes, sorted within their folder.

    Left out are hidden files (the `._*` of macOS among them), its __MACOSX folders, and folders that
    hold a data set of ours: outputs are no inputs. Links to folders are followed, none twice.
    Raises: SourceError for a folder that cannot be read.
    """
    seen = {raw.resolve()}
    for folder, folders, names in os.walk(raw, followlinks=True, onerror=_refuse_folder):
        if Path(folder) != raw and (JOURNAL in names or {HEADER, MANIFEST} <= set(names)):
            folders.clear()
            continue
        kept = []
        for name in sorted(folders):
            place = Path(folder, name).resolve()
            if name[0] != "." and name != "__MACOSX" and place not in seen:
                seen.add(place)
                kept.append(name)
        folders[:] = kept
        below = Path(folder).relative_to(raw)
        for name in sorted(names):
            if name[0] != ".":
                yield (below / name).as_posix()


def walk_images(raw: Path) -> list[str]:
    """Paths of all files below `raw` that are images by their suffix, those that we do not read included.

    Raises: SourceError for a name that no table could hold.
    """
    return [plain_place(raw, place) for place in walk(raw) if os.path.splitext(place)[1].lower() in SUFFIXES]


def plain_place(raw: Path, place: str) -> str:
    """A path of `walk`, if tables can hold it. Raises: SourceError for bytes that are no text, and line ends."""
    if not is_plain(place):
        raise SourceError(raw, "file name", found=ascii(place), expected="UTF-8 without control characters")
    return place


class ImagesByStem:
    """The image files below a raw folder, found by their name without suffix, at any depth."""

    def __init__(self, raw: Path) -> None:
        """Walk `raw` once."""
        self._raw = raw
        self._found: dict[str, list[str]] = defaultdict(list)
        for place in walk_images(raw):
            self._found[Path(place).stem].append(place)

    def __contains__(self, stem: str) -> bool:
        return stem in self._found

    def place(self, stem: str) -> str:
        """The path of a stem's file: a DICOM file before a copy.

        Raises: SourceError if there is none, or several of the preferred kind.
        """
        ranked: dict[int, list[str]] = defaultdict(list)
        for place in self._found.get(stem, ()):
            ranked[SUFFIXES.index(os.path.splitext(place)[1].lower())].append(place)
        if not ranked:
            expected = f"{stem} with one of {', '.join((DICOM_SUFFIXES[0], *COPIES))}"
            raise SourceError(self._raw, "image file", found="none", expected=expected)
        best = ranked[min(ranked)]
        if len(best) > 1:
            raise SourceError(
                self._raw, "image file", found=" and ".join(sorted(best)), expected="one file of that name"
            )
        return best[0]


def _refuse_folder(error: OSError) -> NoReturn:
    raise SourceError(error.filename, "folder", found=error.strerror, expected="a readable folder")
