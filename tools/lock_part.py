"""The part of the lock that some extras need: `python tools/lock_part.py serve pacs yolo > part.lock`.

The container installs that part alone. A package belongs to it if siimdet, one of the extras or another package of the
part asks for it: the lock says of each package what does (`via`), and `pyproject.toml` which of siimdet's own
requirements are an extra's. No index is asked, so no version and no hash can differ from the lock's.
"""

import re
import sys
import tomllib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
_ENTRY = re.compile(r"(?m)^(?=[A-Za-z0-9])")
_NAME = re.compile(r"[A-Za-z0-9._-]+")
_VIA = re.compile(r"(?m)^ +#(?: via)? +(\S+)")


def names(requirements: Iterable[str]) -> set[str]:
    """Normalised names of requirements such as `dask[distributed]>=2024.12`."""
    found = (_NAME.match(requirement.strip()) for requirement in requirements)
    return {re.sub(r"[-_.]+", "-", name[0]).lower() for name in found if name}


def asked_for(project: Mapping[str, Any], extras: Iterable[str]) -> set[str]:
    """Names of what the `project` table asks for, alone and by extras. Raises: KeyError for an unknown extra."""
    optional = project["optional-dependencies"]
    return names([*project["dependencies"], *(each for extra in extras for each in optional[extra])])


def part_of(lock: str, wanted: set[str]) -> str:
    """The entries of a lock's text that are wanted, and all that they ask for in turn.

    Raises: ValueError for a wanted package that the lock lacks.
    """
    # A name has several entries where its version hangs on Python's.
    entries = [(found[0], entry) for entry in _ENTRY.split(lock) if (found := _NAME.match(entry))]
    if missing := wanted - {name for name, _ in entries}:
        raise ValueError(f"the lock lacks {', '.join(sorted(missing))}: run `make lock`")
    parents = [(name, set(_VIA.findall(entry))) for name, entry in entries]
    while more := {name for name, above in parents if above & wanted} - wanted:
        wanted = wanted | more
    return "".join(entry for name, entry in entries if name in wanted)


def main() -> None:
    """Write the part to standard output."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    lock = (ROOT / "requirements.lock").read_text(encoding="utf-8")
    sys.stdout.write(part_of(lock, asked_for(project, sys.argv[1:])))


if __name__ == "__main__":
    main()
