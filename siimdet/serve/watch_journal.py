"""What became of an archive's studies, on disk: no study is looked at twice, whatever ends the server."""

import os
import sqlite3
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from siimdet.errors import UserError

Ended = Literal["stored", "refused", "failed"]

_TABLE = """
CREATE TABLE IF NOT EXISTS studies (
    archive TEXT NOT NULL, study TEXT NOT NULL, state TEXT NOT NULL, instances INTEGER NOT NULL,
    attempts INTEGER NOT NULL, changed REAL NOT NULL, reason TEXT NOT NULL,
    PRIMARY KEY (archive, study))
"""
_STUDY = "archive = ? AND study = ?"
_BEGIN = """
INSERT INTO studies VALUES (?, ?, 'open', ?, 1, ?, '')
ON CONFLICT DO UPDATE SET attempts = CASE state WHEN 'open' THEN attempts + 1 ELSE 1 END, state = 'open',
    instances = excluded.instances, changed = excluded.changed
RETURNING attempts
"""


@dataclass(frozen=True, slots=True)
class Entry:
    """What became of a study so far, when it had so many instances; `changed` is in seconds of the epoch."""

    state: str
    instances: int
    attempts: int
    changed: float

    def holds(self, instances: int) -> bool:
        """Whether it needs no further look: it was refused for what it was, and now it may be another."""
        return self.state in ("stored", "failed") or (self.state == "refused" and self.instances == instances)


class WatchJournal:
    """A row for each study of an archive, whatever the models were, in a SQLite file that other archives may share.

    SQLite, as several programs may look at it while it is written, and a killed writer leaves it whole. States are
    `open`, `stored`, `refused` (for what the study is) and `failed` (too often).
    """

    def __init__(self, path: Path, archive: str) -> None:
        """Open a file, or make it for its user alone. Raises: UserError if that cannot be."""
        self._archive = archive
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            os.close(os.open(path, os.O_RDWR | os.O_CREAT, 0o600))
            self._database = sqlite3.connect(path, timeout=30, isolation_level=None, check_same_thread=False)
            self._database.execute("PRAGMA journal_mode = WAL")
            self._database.execute("PRAGMA synchronous = FULL")
            self._database.execute(_TABLE)
        except (OSError, sqlite3.Error) as error:
            found = getattr(error, "strerror", None) or error
            raise UserError(path, "--pacs-state", found=found, expected="a SQLite file to write to") from None

    def close(self) -> None:
        """Close the file."""
        self._database.close()

    def entries(self) -> dict[str, Entry]:
        """All studies of the archive that were begun, by UID."""
        command = "SELECT study, state, instances, attempts, changed FROM studies WHERE archive = ?"
        return {study: Entry(*row) for study, *row in self._database.execute(command, (self._archive,))}

    def begin(self, study: str, instances: int) -> int:
        """Count an attempt, before it is made: what takes the server down is counted, too. Returns how many now."""
        (attempts,) = self._database.execute(_BEGIN, (self._archive, study, instances, time.time())).fetchone()
        return attempts

    def take_back(self, study: str) -> None:
        """Count the last attempt no more: it was not the study's fault."""
        self._database.execute(f"UPDATE studies SET attempts = attempts - 1 WHERE {_STUDY}", (self._archive, study))

    def put_off(self, study: str, reason: str) -> None:
        """Say why the last attempt failed."""
        self._change(study, "open", reason)

    def end(self, study: str, state: Ended, reason: str = "") -> None:
        """Say what became of a study."""
        self._change(study, state, reason)

    def _change(self, study: str, state: str, reason: str) -> None:
        self._database.execute(
            f"UPDATE studies SET state = ?, reason = ?, changed = ? WHERE {_STUDY}",
            (state, reason, time.time(), self._archive, study),
        )


def default_state() -> Path:
    """Where the journal lies unless another place is asked for: the user's folder of states (XDG)."""
    base = os.environ.get("XDG_STATE_HOME") or "~/.local/state"
    return Path(base).expanduser() / "siimdet" / "pacs.sqlite"
