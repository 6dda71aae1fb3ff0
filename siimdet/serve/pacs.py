"""New chest radiographs of an archive, looked at by the server's models, and the results stored beside them.

Nothing is stored twice and nothing is lost: the UIDs of results follow from the images and the models, the archive is
asked for them before a study is looked at, and the journal knows every study that has ended.
"""

import logging
import threading
import time
import traceback
from collections import Counter
from datetime import date, timedelta

from siimdet.errors import UserError
from siimdet.serve.archive import Archive, ArchiveBusy, ArchiveDown, ArchiveRefusal, ListedStudy
from siimdet.serve.chest_images import MODALITIES
from siimdet.serve.guard import Limits
from siimdet.serve.jobs import Jobs, QueueFull
from siimdet.serve.pacs_study import ServerTrouble, StudyFailed, find_and_store
from siimdet.serve.watch_journal import Ended, Entry, WatchJournal

ATTEMPTS = 5
MOST_AT_ONCE = 1000
"""Studies of an archive that are looked at unasked; more may be all that a hospital ever made."""
_LONGEST = 60.0  # seconds between two looks where one ended badly, unless the interval is longer
_SLOWER = 4  # times as long until each next attempt at a study
_PATIENCE = 5.0  # seconds for a request of the archive to end when the server ends

log = logging.getLogger(__name__)


class TooMany(Exception):
    """More studies than are looked at unasked: how many is the message."""


class Watch:
    """A thread that asks an archive every `interval` seconds, and takes studies that have been quiet for so long.

    `days` is how old a study may be by its date; None: any, but no more than MOST_AT_ONCE.
    """

    def __init__(
        self, archive: Archive, journal: WatchJournal, jobs: Jobs, *, interval: float, days: int | None, limits: Limits
    ) -> None:
        self._archive, self._journal, self._jobs = archive, journal, jobs
        self._interval, self._days, self._limits = interval, days, limits
        self._seen: dict[str, int] = {}
        self._troubles: Counter[str] = Counter()
        self._said = ""
        self._at: str | None = None
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="pacs", daemon=True)

    def start(self) -> None:
        """Begin to look."""
        self._thread.start()

    def stop(self) -> None:
        """Begin no other study."""
        self._stop.set()

    def close(self) -> None:
        """Look no more. A study whose request does not end soon is left for the next start."""
        self.stop()
        self._thread.join(_PATIENCE)
        if self._thread.is_alive() and (study := self._at) is not None:
            self._journal.take_back(study)

    def look(self) -> None:
        """One look: what is ready is done, until it is time for another look, but one study at least.

        Raises: ArchiveDown; ServerTrouble; TooMany.
        """
        ready = self._ready()
        until = time.monotonic() + self._interval
        for study in ready:
            if self._stop.is_set():
                return
            try:
                self._handle(study)
            except QueueFull:  # the next look finds it again
                return
            if time.monotonic() > until:
                return

    def _run(self) -> None:
        wait = 0.0
        while not self._stop.wait(wait):
            began, trouble = time.monotonic(), None
            words = f"{self._archive.url} answers"
            try:
                self.look()
            except TooMany as error:
                words = f"{error} studies without results, none of which is looked at without --pacs-days"
            except ArchiveDown as error:
                trouble = f"{self._archive.url}: {error}"
            except ServerTrouble as error:
                trouble = str(error)
            except Exception as error:
                if self._stop.is_set():  # a request outlived the journal
                    return
                # Such as of a full disk: the server goes on, and so does the watch. What it says may name patients.
                trouble = "".join((*traceback.format_tb(error.__traceback__), type(error).__name__))
            self._jobs.metrics.pacs_up = trouble is None
            self._say(f"pacs: {trouble}; it is tried again" if trouble else f"pacs: {words}")
            if trouble:
                wait = min(max(2 * wait, self._interval), max(_LONGEST, self._interval))
            else:
                wait = max(0.0, began + self._interval - time.monotonic())

    def _ready(self) -> list[ListedStudy]:
        """The studies to look at now, the newest first."""
        listed = {each.uid: each for modality in MODALITIES for each in self._archive.studies(modality, self._dates())}
        entries = self._journal.entries()
        counts = {uid: self._count(study, entries.get(uid)) for uid, study in listed.items()}
        found = {uid: count for uid, count in counts.items() if uid not in entries or not entries[uid].holds(count)}
        if self._days is None and len(found) > MOST_AT_ONCE:
            raise TooMany(len(found))
        # Quiet is what nothing came to since the last look.
        ready = [uid for uid, count in found.items() if self._seen.get(uid) == count and self._is_due(entries.get(uid))]
        self._seen = found
        self._troubles = Counter({uid: self._troubles[uid] for uid in found})
        ready.sort(key=lambda uid: listed[uid].when, reverse=True)
        # One that brings trouble comes after all others.
        ready.sort(key=lambda uid: self._troubles[uid])
        return [ListedStudy(uid, found[uid], listed[uid].when) for uid in ready]

    def _count(self, study: ListedStudy, entry: Entry | None) -> int:
        """How many instances a study has, asked for where the search does not tell and it matters."""
        if study.instances is not None:
            return study.instances
        if entry is not None and entry.state != "open":
            return entry.instances
        try:
            return len(self._archive.instances(study.uid))
        except ArchiveRefusal:
            return 0

    def _dates(self) -> str | None:
        if self._days is None:
            return None
        today, day = date.today(), timedelta(days=1)
        return f"{today - self._days * day:%Y%m%d}-{today + day:%Y%m%d}"

    def _is_due(self, entry: Entry | None) -> bool:
        if entry is None or entry.state != "open" or entry.attempts == 0:
            return True
        return entry.changed + self._interval * _SLOWER ** (entry.attempts - 1) <= time.time()

    def _handle(self, study: ListedStudy) -> None:
        """Do a study, and write down what became of it.

        Raises, and counts no attempt: ArchiveDown, ServerTrouble and QueueFull, which are not the study's fault.
        """
        self._at = study.uid
        attempt, began = self._journal.begin(study.uid, study.instances or 0), time.monotonic()
        try:
            if attempt > ATTEMPTS:
                raise StudyFailed("the server ended at every attempt")
            stored = find_and_store(study.uid, self._archive, self._jobs, self._limits)
        except UserError as error:
            self._journal.end(study.uid, "refused", error.reason)
            # What is found in a header may be a patient's: the journal is for its owner's eyes alone, a log is not.
            self._ended("refused", f"refused for its {error.field}")
        except (ArchiveRefusal, StudyFailed) as error:
            self._failed(study.uid, attempt, str(error))
        except ArchiveDown as error:
            if isinstance(error, ArchiveBusy) or not self._archive.answers():
                self._not_its_fault(study.uid)
                raise
            self._failed(study.uid, attempt, str(error))
        except QueueFull:
            self._journal.take_back(study.uid)
            raise
        except Exception:
            self._not_its_fault(study.uid)
            raise
        else:
            self._journal.end(study.uid, "stored")
            took = f"{time.monotonic() - began:.1f} s"
            self._ended("stored", f"{stored} objects stored in {took}" if stored else "its results were there")
        finally:
            self._at = None

    def _not_its_fault(self, study_uid: str) -> None:
        self._troubles[study_uid] += 1
        self._journal.take_back(study_uid)

    def _failed(self, study_uid: str, attempt: int, reason: str) -> None:
        if attempt < ATTEMPTS:
            self._journal.put_off(study_uid, reason)
            log.info("pacs: a study failed, attempt %d of %d: %s", attempt, ATTEMPTS, reason)
        else:
            self._journal.end(study_uid, "failed", reason)
            self._ended("failed", f"given up after {ATTEMPTS} attempts: {reason}")

    def _ended(self, outcome: Ended, words: str) -> None:
        self._jobs.metrics.pacs_ended(outcome)
        log.info("pacs: a study: %s", words)

    def _say(self, words: str) -> None:
        """Log what has changed, and not that it is still so."""
        if words != self._said:
            log.info(words)
        self._said = words
