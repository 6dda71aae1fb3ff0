"""The audit file: a line of JSON per inference, and nothing of a patient in it."""

import json
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from siimdet.errors import UserError


class Audit:
    """Lines at the end of a file, which is opened for each of them: it may be moved away while the server runs."""

    def __init__(self, path: Path) -> None:
        """Take a file. Raises: UserError if nothing can be written to it."""
        self._path = path
        try:
            with open(path, "a"):
                pass
        except OSError as error:
            raise UserError(path, "--audit", found=error.strerror, expected="a file to write to") from None

    def write(self, facts: Mapping[str, Any]) -> None:
        """Add a line, the time first. Raises: OSError, such as of a full disk."""
        line = {"time": datetime.now(UTC).isoformat(timespec="milliseconds"), **facts}
        with open(self._path, "a", encoding="utf-8") as stream:
            stream.write(json.dumps(line) + "\n")
