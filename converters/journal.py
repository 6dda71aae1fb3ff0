"""What a conversion has done so far, so that a second run redoes only what is missing or changed."""

import hashlib
import json
from collections.abc import Collection
from dataclasses import asdict
from pathlib import Path

import siimdet
from converters.item import Done, Settings, Task, image_place, label_place
from converters.repair import Repair
from siimdet.core.files import atomic_write

JOURNAL = ".conversion.jsonl"


def task_digest(settings: Settings, task: Task) -> str:
    """SHA-256 over everything that an image's outcome depends on: raw file, boxes, settings, version.

    The raw file counts by its place, size and time of change; its bytes are not read. Labels, patients
    and parts do not count: they are put together anew by every run.
    """
    item, stat = task.item, task.path.stat()
    facts = (
        *(siimdet.__version__, task.place, stat.st_size, stat.st_mtime_ns),
        *(settings.native, settings.image_size, settings.resize, settings.grey, item.copy_original),
        *(item.image_id, item.xyxy.tolist()),
    )
    return hashlib.sha256(repr(facts).encode()).hexdigest()


class Journal:
    """A first line with the source, then one JSON line per converted image, appended as it is finished."""

    def __init__(self, out: Path, source: str) -> None:
        """Read what an earlier run left in `out`."""
        self._out, self._source = out, source
        self._lines: dict[str, str] = {}
        self._known: dict[str, tuple[str, Done]] = {}
        path = out / JOURNAL
        text = path.read_text(encoding="ascii", errors="replace") if path.exists() else ""
        for line in text.splitlines():
            self._recall(line)
        if not text.endswith("\n"):
            # There is none yet, or a kill tore its last line, which would swallow the next one.
            self._rewrite()

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

    def settle(self, image_ids: Collection[str]) -> None:
        """Forget all but these images and remove their files; sort the lines, whatever the order of the work."""
        for image_id in self._lines.keys() - set(image_ids):
            (self._out / image_place(image_id)).unlink(missing_ok=True)
            (self._out / label_place(image_id)).unlink(missing_ok=True)
            del self._lines[image_id]
        self._rewrite()

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

    def _rewrite(self) -> None:
        with atomic_write(self._out / JOURNAL) as stream:
            stream.write(json.dumps({"source": self._source}) + "\n")
            stream.writelines(self._lines[image_id] + "\n" for image_id in sorted(self._lines))


def read_source(path: Path) -> str | None:
    """The source that a journal's first line names."""
    with open(path, encoding="ascii", errors="replace") as stream:
        try:
            return str(json.loads(stream.readline())["source"])
        except (ValueError, TypeError, KeyError):
            return None
