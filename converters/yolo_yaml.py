"""data.yaml of a YOLO set: its classes, and where the images of its parts are."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from converters.lists import is_plain
from siimdet.core.types import SPLITS, LabelSpace, Split
from siimdet.errors import SourceError

DATA_YAML = "data.yaml"

_NOTHING = ("", "~", "null")


@dataclass(frozen=True, slots=True, eq=False)
class Description:
    """What a data.yaml says; `parts` are folders and list files as written there."""

    path: Path
    root: str
    classes: LabelSpace
    parts: dict[Split, tuple[str, ...]]


def read_description(path: Path) -> Description:
    """Read a data.yaml. Raises: SourceError naming the field for anything but a detection set."""
    content = _read(path)
    if "kpt_shape" in content:  # its rows hold key points, which look like polygons
        raise SourceError(path, "kpt_shape", found="a set of poses", expected="a detection set")
    root = content.get("path", ".")
    if not isinstance(root, str):
        raise SourceError(path, "path", found=type(root).__name__, expected="a folder")
    classes = _read_names(path, content.get("names"), content.get("nc"))
    parts: dict[Split, tuple[str, ...]] = {split: _read_part(path, split, content.get(split, "")) for split in SPLITS}
    return Description(path, "." if root in _NOTHING else root, classes, parts)


def _read(path: Path) -> dict[str, Any]:
    try:
        # The base loader leaves all scalars as they are written: `no` is a class name, not False.
        content = yaml.load(path.read_text(encoding="utf-8-sig"), Loader=yaml.BaseLoader)
    except OSError as error:
        raise SourceError(path, "file", found=error.strerror, expected="a YOLO data set") from None
    except UnicodeDecodeError as error:
        found = f"byte {error.object[error.start]:#04x}"
        raise SourceError(path, "encoding", found=found, expected="UTF-8 text") from None
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise SourceError(path, "content", found=str(error)[:200], expected="YAML") from None
    if not isinstance(content, dict):
        raise SourceError(path, "content", found=type(content).__name__, expected="names, train, val and test")
    return content


def _read_names(path: Path, names: Any, count: Any) -> LabelSpace:
    if isinstance(names, dict):
        names = [names.get(str(number)) for number in range(len(names))]
    if not isinstance(names, list) or not names or not all(isinstance(name, str) for name in names):
        found = "nothing" if names is None else "other entries"
        raise SourceError(path, "names", found=found, expected="a name for every class from 0")
    if twice := [name for name in names if names.count(name) > 1]:
        raise SourceError(path, "names", found=f"{twice[0]} twice", expected="every name once")
    if count is not None and count != str(len(names)):
        found = count if isinstance(count, str) else type(count).__name__
        raise SourceError(path, "nc", found=found, expected=f"{len(names)}, as many as names")
    return LabelSpace("yolo", tuple(names))


def _read_part(path: Path, split: Split, value: Any) -> tuple[str, ...]:
    entries = value if isinstance(value, list) else [] if value in _NOTHING else [value]
    for entry in entries:
        if not isinstance(entry, str) or entry in _NOTHING or not is_plain(entry):
            found = ascii(entry) if isinstance(entry, str) else type(entry).__name__
            raise SourceError(path, split, found=found, expected="a folder or a list file")
    return tuple(entries)
