"""Image ids from file names: what people call their files, as far as an id can hold it."""

import hashlib
import re
from collections import Counter
from collections.abc import Callable, Collection
from functools import partial
from itertools import count
from pathlib import PurePosixPath

from converters.repair import Repair
from siimdet.core.files import MAX_ID

_UNSAFE = re.compile(r"[^A-Za-z0-9._-]")
_DIGITS = 8


def image_ids(places: Collection[str], *, suffixes: Collection[str] | None = None) -> dict[str, str]:
    """Image id of every path below the raw folder; ids differ by more than case.

    The name without its suffix; where two files share it, the whole path without the suffix; where they
    share that too, with some digits of the path's SHA-256. What an id cannot hold becomes `_`. `suffixes`:
    the ones to leave off, in lower case; None for any. Depends on the set of paths only.
    """
    stems = {place: _without_suffix(place, suffixes) for place in places}
    chosen = {place: mended(PurePosixPath(stem).name) for place, stem in stems.items()}
    chosen = _lengthen(chosen, lambda place: mended(stems[place].replace("/", "-")))
    for salt in count():
        # A file may be called what another one's digits come to.
        if len({_folded(name) for name in chosen.values()}) == len(chosen):
            break
        chosen = _lengthen(chosen, partial(_hashed, salt))
    return chosen


def renamings(place: str, image_id: str, *, suffixes: Collection[str] | None = None) -> tuple[Repair, ...]:
    """The repair to report where an id is not the file's name."""
    return mendings(image_id, "image_id", PurePosixPath(_without_suffix(place, suffixes)).name, image_id)


def mendings(image_id: str, field: str, before: str, after: str) -> tuple[Repair, ...]:
    """The repair to report where an id is not what the source has."""
    return () if before == after else (Repair(image_id, field, before, after),)


def mended(text: str) -> str:
    """A text as an id: what that cannot hold becomes `_`, and what is too long is cut, with a hash.

    A dot in front becomes `_` too: it would hide the image's file.
    """
    name = _UNSAFE.sub("_", text)
    if not name or name[0] == ".":
        name = f"_{name[1:]}"
    return name if len(name) <= MAX_ID else f"{name[: MAX_ID - _DIGITS - 1]}-{_digest(text)}"


def _lengthen(chosen: dict[str, str], longer: Callable[[str], str]) -> dict[str, str]:
    counts = Counter(_folded(name) for name in chosen.values())
    return {place: longer(place) if counts[_folded(name)] > 1 else name for place, name in chosen.items()}


def _folded(name: str) -> str:
    # Windows and macOS take a.png and A.png for one file.
    return name.lower()


def _hashed(salt: int, place: str) -> str:
    name = mended(PurePosixPath(place).name)
    return f"{name[: MAX_ID - _DIGITS - 1]}-{_digest(f'{salt}:{place}' if salt else place)}"


def _without_suffix(place: str, suffixes: Collection[str] | None) -> str:
    path = PurePosixPath(place)
    taken = suffixes is None or path.suffix.lower() in suffixes
    return str(path.with_suffix("")) if taken and path.suffix else place


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8", "surrogateescape")).hexdigest()[:_DIGITS]
