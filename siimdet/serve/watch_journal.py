"""What became of an archive's studies, on disk: no study is looked at twice, whatever ends the server."""

import os
import sqlite3
import time
from pathlib import Path
from typing import Literal

from siimdet.errors import UserError

Ended = Literal["stored", "refused", "failed"]

_TABLE = """
CREATE TABLE IF NOT EXISTS studies (
    archive TEXT NOT NULL, study TEXT NOT NULL,
    state TEXT NOT NULL, attempts INTEGER NOT NULL, changed REAL NOT NULL, reason TEXT NOT NULL,
    PRIMARY KEY (archive, study))
"""
_STUDY = "archive = ? AND study = ?"


class WatchJournal:
    """A row for each study of an archive, whatever the models were, in a SQLite file that other archives may share.

    SQLite, as several programs may look at it while it is written, and a killed writer leaves it whole. States are
    `open`, `stored`, `refused` (for what the study is) and `failed` (too often). `changed` is in seconds of the epoch.
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

    def ended(self) -> set[str]:
        """The studies that need no further look."""
        command = "SELECT study FROM studies WHERE archive = ? AND state <> 'open'"
        rows = self._database.execute(command, (self._archive,))
        return {study for (study,) in rows}

    def attempts(self, study: str) -> tuple[int, float]:
        """How often a study was begun that has not ended, and when last."""
        command = f"SELECT attempts, changed FROM studies WHERE {_STUDY}"
        return self._database.execute(command, (self._archive, study)).fetchone() or (0, 0.0)

    def begin(self, study: str) -> int:
        """Count an attempt, before it is made: what takes the server down is counted, too. Returns how many now."""
        (attempts,) = self._database.execute(
            "INSERT INTO studies VALUES (?, ?, 'open', 1, ?, '') "
            "ON CONFLICT DO UPDATE SET attempts = attempts + 1, changed = excluded.changed RETURNING attempts",
            (self._archive, study, time.time()),
        ).fetchone()
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
