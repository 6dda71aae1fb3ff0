"""What a conversion has done so far, so that a second run redoes only what is missing or changed."""

import hashlib
import json
from dataclasses import asdict
from pathlib import Path

import siimdet
from converters.item import Done, Settings, Task, image_place
from converters.repair import Repair
from siimdet.core.files import atomic_write

JOURNAL = ".conversion.jsonl"


def task_digest(settings: Settings, task: Task) -> str:
    """SHA-256 over everything that an image's outcome depends on: raw file, labels, settings, version.

    The raw file counts by its place, size and time of change; its bytes are not read.
    """
    item, stat = task.item, task.path.stat()
    facts = (
        *(siimdet.__version__, task.place, stat.st_size, stat.st_mtime_ns),
        *(settings.native, settings.image_size, settings.resize, settings.grey, item.copy_original),
        *(item.image_id, item.study_id, item.patient_id, item.xyxy.tolist(), item.class_ids.tolist(), item.repairs),
    )
    return hashlib.sha256(repr(facts).encode()).hexdigest()


class Journal:
    """One JSON line per converted image, appended as it is finished."""

    def __init__(self, out: Path) -> None:
        """Read what an earlier run left in `out`."""
        self._out = out
        self._lines: dict[str, str] = {}
        self._known: dict[str, tuple[str, Done]] = {}
        path = out / JOURNAL
        text = path.read_text(encoding="ascii", errors="replace") if path.exists() else ""
        for line in text.splitlines():
            self._recall(line)
        if not text.endswith("\n"):
            # A last line torn by a kill would swallow the next one.
            self._rewrite(self._lines)

    def finished(self, task: Task, digest: str) -> Done | None:
        """The outcome of an earlier run, if it still holds and its image is there."""
        known, done = self._known.get(task.item.image_id, ("", None))
        if done is None or known != digest:
            return None
        path = self._out / image_place(done.image_id)
        return done if path.is_file() and path.stat().st_size == done.file_bytes else None

    def add(self, digest: str, done: Done) -> None:
        """Record an image that is written; the line is with the operating system on return."""
        self._lines[done.image_id] = line = json.dumps({"digest": digest, **asdict(done)})
        with open(self._out / JOURNAL, "a", encoding="ascii") as stream:
            stream.write(line + "\n")

    def settle(self, image_ids: set[str]) -> None:
        """Keep the lines of these images, sorted: the same file whatever the order of the work."""
        self._rewrite({image_id: line for image_id, line in self._lines.items() if image_id in image_ids})

    def _recall(self, line: str) -> None:
        try:
            content = json.loads(line)
            digest = content.pop("digest")
            content["repairs"] = [Repair(*repair) for repair in content["repairs"]]
            content |= {key: tuple(content[key]) for key in ("stored", "original")}
            done = Done(**content)
        except (ValueError, TypeError, KeyError, AttributeError):
            # Torn by a kill, or of another version: that image is converted again.
            return
        self._lines[done.image_id] = line
        self._known[done.image_id] = (digest, done)

    def _rewrite(self, lines: dict[str, str]) -> None:
        with atomic_write(self._out / JOURNAL) as stream:
            stream.writelines(lines[image_id] + "\n" for image_id in sorted(lines))
