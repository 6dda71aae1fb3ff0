"""New chest radiographs of an archive, looked at by the server's models, and the results stored beside them.

Nothing is stored twice and nothing is lost: the UIDs of results follow from the images and the models, the archive is
asked for them before a study is looked at, and the journal knows every study that has ended.
"""

import logging
import threading
import time
from collections import Counter
from datetime import date, timedelta

from siimdet.errors import UserError
from siimdet.serve.archive import Archive, ArchiveDown, ArchiveRefusal, ListedStudy
from siimdet.serve.chest_images import MODALITIES
from siimdet.serve.guard import Limits
from siimdet.serve.jobs import Jobs, QueueFull
from siimdet.serve.pacs_study import StudyFailed, find_and_store
from siimdet.serve.watch_journal import Ended, WatchJournal

ATTEMPTS = 5
MOST_AT_ONCE = 1000
"""Studies of an archive that are looked at unasked; more may be all that a hospital ever made."""
_LONGEST = 60.0  # seconds between two tries of an archive that is down, unless the interval is longer
_SLOWER = 4  # times as long until each next attempt at a study
_PATIENCE = 10.0  # seconds for a request of the archive to end when the server ends

log = logging.getLogger(__name__)


class Watch:
    """A thread that asks an archive every `interval` seconds, and takes studies that have been quiet for so long.

    `days` is how old a study may be by its date; None: any, but no more than MOST_AT_ONCE.
    """

    def __init__(
        self, archive: Archive, journal: WatchJournal, jobs: Jobs, *, interval: float, days: int | None, limits: Limits
    ) -> None:
        self._archive, self._journal, self._jobs = archive, journal, jobs
        self._interval, self._days, self._limits = interval, days, limits
        self._seen: dict[str, int | None] = {}
        self._downs: Counter[str] = Counter()
        self._said = ""
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="pacs", daemon=True)

    def start(self) -> None:
        """Begin to look."""
        self._thread.start()

    def close(self) -> None:
        """Look no more. A study at hand is left for the next start unless it ends soon."""
        self._stop.set()
        self._thread.join(_PATIENCE)

    def look(self) -> None:
        """One look: what is ready is done, until it is time for another look.

        Raises: ArchiveDown.
        """
        until = time.monotonic() + self._interval
        for study in self._ready():
            if self._stop.is_set() or time.monotonic() > until:
                return
            self._handle(study)

    def _run(self) -> None:
        wait = 0.0
        while not self._stop.wait(wait):
            began = time.monotonic()
            try:
                self.look()
            except ArchiveDown as error:
                self._say(f"pacs: {self._archive.url}: {error}; it is tried again")
                wait = min(max(2 * wait, self._interval), max(_LONGEST, self._interval))
                self._jobs.metrics.pacs_up = False
            except Exception:
                if self._stop.is_set():  # a request outlived the journal
                    return
                # Such as of a full disk under the journal: the server goes on, and so does the watch.
                log.exception("pacs: a look failed")
                wait = max(_LONGEST, self._interval)
            else:
                wait = max(0.0, began + self._interval - time.monotonic())
                self._jobs.metrics.pacs_up = True

    def _ready(self) -> list[str]:
        """The studies to look at now, the newest first."""
        listed = {each.uid: each for modality in MODALITIES for each in self._archive.studies(modality, self._dates())}
        ended = self._journal.ended()
        found = {uid: study for uid, study in listed.items() if uid not in ended}
        if self._days is None and len(found) > MOST_AT_ONCE:
            self._say(f"pacs: {len(found)} studies without results, none of which is looked at without --pacs-days")
            return []
        self._say(f"pacs: {self._archive.url} answers")
        ready = [study for study in found.values() if self._is_quiet(study) and self._is_due(study)]
        self._seen = {uid: study.instances for uid, study in found.items()}
        newest = sorted(ready, key=lambda study: study.when, reverse=True)
        # One that took the archive down, it may be, comes after all others.
        return [study.uid for study in sorted(newest, key=lambda study: self._downs[study.uid])]

    def _dates(self) -> str | None:
        if self._days is None:
            return None
        today, day = date.today(), timedelta(days=1)
        return f"{today - self._days * day:%Y%m%d}-{today + day:%Y%m%d}"

    def _is_quiet(self, study: ListedStudy) -> bool:
        """Whether nothing came to a study since the last look."""
        return study.uid in self._seen and self._seen[study.uid] == study.instances

    def _is_due(self, study: ListedStudy) -> bool:
        attempts, last = self._journal.attempts(study.uid)
        return attempts == 0 or last + self._interval * _SLOWER ** (attempts - 1) <= time.time()

    def _handle(self, study_uid: str) -> None:
        """Do a study, and write down what became of it. Raises: ArchiveDown."""
        attempt, began = self._journal.begin(study_uid), time.monotonic()
        try:
            if attempt > ATTEMPTS:
                raise StudyFailed("the server ended at every attempt")
            stored = find_and_store(study_uid, self._archive, self._jobs, self._limits)
        except ArchiveDown:
            self._downs[study_uid] += 1
            self._journal.take_back(study_uid)
            raise
        except QueueFull:  # the next look finds it again
            self._journal.take_back(study_uid)
        except UserError as error:
            self._journal.end(study_uid, "refused", error.reason)
            # What is found in a header may be a patient's: the journal is for its owner's eyes alone, a log is not.
            self._ended("refused", f"refused for its {error.field}")
        except (ArchiveRefusal, StudyFailed) as error:
            if attempt < ATTEMPTS:
                self._journal.put_off(study_uid, str(error))
                log.info("pacs: a study failed, attempt %d of %d: %s", attempt, ATTEMPTS, error)
            else:
                self._journal.end(study_uid, "failed", str(error))
                self._ended("failed", f"given up after {attempt} attempts: {error}")
        else:
            self._journal.end(study_uid, "stored")
            took = f"{time.monotonic() - began:.1f} s"
            self._ended("stored", f"{stored} objects stored in {took}" if stored else "its results were there")

    def _ended(self, outcome: Ended, words: str) -> None:
        self._jobs.metrics.pacs_ended(outcome)
        log.info("pacs: a study: %s", words)

    def _say(self, words: str) -> None:
        """Log what has changed, and not that it is still so."""
        if words != self._said:
            log.info(words)
        self._said = words
