"""metrics.jsonl: one line of JSON per epoch."""

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from siimdet.core.files import atomic_write
from siimdet.errors import RunError

JOURNAL = "metrics.jsonl"


def append_epoch(run: Path, entry: Mapping[str, Any]) -> None:
    """Add an epoch's line and have it on disk before returning."""
    with open(run / JOURNAL, "a", encoding="utf-8") as stream:
        stream.write(json.dumps(entry) + "\n")
        stream.flush()
        os.fsync(stream.fileno())


def read_journal(run: Path) -> list[dict[str, Any]]:
    """Every epoch's entry; a last line that a crash cut short is left out.

    Raises: RunError for a broken line anywhere else.
    """
    path = run / JOURNAL
    if not path.is_file():
        return []
    lines = path.read_text(encoding="utf-8").splitlines()
    entries = []
    for number, line in enumerate(lines, start=1):
        try:
            entries.append(json.loads(line))
        except ValueError as error:
            if number < len(lines):
                raise RunError(f"{path}:{number}", "line", found=error, expected="JSON") from None
    return entries


def rewind_journal(run: Path, entries: int) -> None:
    """Keep the first `entries` epochs: a resumed training writes the others again."""
    kept = read_journal(run)[:entries]
    with atomic_write(run / JOURNAL) as stream:
        stream.writelines(json.dumps(entry) + "\n" for entry in kept)
