"""What the watch takes up, puts off and gives up, look by look, on a real Orthanc."""

import contextlib
import logging
import sqlite3
from datetime import date, timedelta

import pydicom
import pytest
from pydicom.config import disable_value_validation

from siimdet.serve import pacs
from siimdet.serve.archive import Archive, ArchiveDown
from siimdet.serve.guard import Limits
from siimdet.serve.jobs import Jobs
from siimdet.serve.pacs import ATTEMPTS, TooMany, Watch
from siimdet.serve.pacs_study import ServerTrouble
from siimdet.serve.watch_journal import WatchJournal

pytestmark = pytest.mark.pacs

RESULTS = ["OT", "PR", "SR"]


class Watched:
    """A watch that looks when it is told to, and its journal."""

    def __init__(self, watch: Watch, state, folder) -> None:
        self.look, self._state, self._folder = watch.look, state, folder

    @property
    def reasons(self) -> set[str]:
        with contextlib.closing(sqlite3.connect(self._state)) as database:
            return {reason for (reason,) in database.execute("SELECT reason FROM studies")}

    @property
    def files(self) -> list:
        """What is kept of studies on this side."""
        return [path for path in self._folder.glob("siimdet-serve-*/*/*")]

    @property
    def states(self) -> dict[str, tuple[str, int]]:
        with contextlib.closing(sqlite3.connect(self._state)) as database:
            rows = database.execute("SELECT study, state, attempts FROM studies ORDER BY changed")
            return {study: (state, attempts) for study, state, attempts in rows}


@pytest.fixture
def watched(archive, runtime, tmp_path, monkeypatch):
    """watched(interval=..., days=..., files=...)."""
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    with contextlib.ExitStack() as stack:
        jobs = stack.enter_context(contextlib.closing(Jobs(runtime)))

        def watched_(*, interval=60.0, days=None, files=16) -> Watched:
            ours = Archive(archive.url, user="ward", password="right")
            journal = stack.enter_context(contextlib.closing(WatchJournal(tmp_path / "state", ours.url)))
            watch = Watch(ours, journal, jobs, interval=interval, days=days, limits=Limits(files=files))
            return Watched(watch, tmp_path / "state", tmp_path)

        yield watched_


def test_a_study_is_taken_once_nothing_more_comes_to_it(archive, watched, film):
    watch = watched()
    archive.store(film("1.1", 1))
    watch.look()
    archive.store(film("1.1", 2))
    watch.look()
    assert watch.states == {}
    watch.look()
    assert watch.states == {"1.1": ("stored", 1)}
    assert watch.files == []
    assert archive.results("1.1") == ["OT", "OT", "PR", "PR", "SR"]
    archive.store(film("1.1", 3))
    watch.look()
    watch.look()
    assert len(archive.results("1.1")) == 5


def test_the_newest_comes_first_and_old_ones_not_at_all_where_days_are_given(archive, watched, film):
    today = date.today()
    days = {f"1.{ago}": f"{today - timedelta(days=ago):%Y%m%d}" for ago in (2, 0, 1, 3, 9)}
    archive.store(*(film(study, 1, StudyDate=day) for study, day in days.items()))
    archive.store(film("1.7", 1))  # without a date
    watch = watched(days=3)
    watch.look()
    watch.look()
    assert list(watch.states) == ["1.0", "1.1", "1.2", "1.3"]
    anything = watched()
    anything.look()
    anything.look()
    assert list(anything.states)[4:] == ["1.9", "1.7"]


def test_a_whole_archive_is_not_taken_unasked(archive, watched, film, monkeypatch):
    monkeypatch.setattr(pacs, "MOST_AT_ONCE", 1)
    archive.store(film("1.1", 1), film("1.2", 1))
    watch = watched()
    for _ in range(3):
        with pytest.raises(TooMany, match="2"):
            watch.look()
    assert watch.states == {}


def test_every_look_does_one_study_at_least_however_long_it_took_to_list_them(archive, watched, film):
    archive.store(*(film(study, 1) for study in ("1.1", "1.2")))
    watch = watched(interval=0)
    for done in ([], ["1.1"], ["1.1", "1.2"]):
        watch.look()
        assert sorted(watch.states) == done


def test_a_refused_study_is_looked_at_again_once_it_has_more(archive, watched, film):
    archive.store(film("1.1", 1, BodyPartExamined="HAND"))
    watch = watched()
    for _ in range(3):
        watch.look()
    assert watch.states == {"1.1": ("refused", 1)}
    archive.store(film("1.1", 2))
    for _ in range(2):
        watch.look()
    assert watch.states == {"1.1": ("stored", 1)}
    assert archive.results("1.1") == RESULTS


def test_what_cannot_be_looked_at_is_refused_and_the_others_go_on(archive, watched, film, caplog):
    caplog.set_level(logging.INFO)
    broken = film("1.1", 1)
    header = pydicom.dcmread(broken)
    header.PixelData = header.PixelData[:100]
    header.save_as(broken)
    archive.store(broken, film("1.2", 1), *(film("1.3", number) for number in (1, 2, 3)))
    with disable_value_validation():
        archive.store(film("1.4", 1, PatientName="Doe^" + "Jane" * 20))
    watch = watched(files=2)
    for _ in range(3):
        watch.look()
    expected = {"1.1": ("refused", 1), "1.2": ("stored", 1), "1.3": ("refused", 1), "1.4": ("refused", 1)}
    assert watch.states == expected
    assert [archive.results(study) for study in sorted(expected)] == [[], RESULTS, [], []]
    assert "Doe" not in caplog.text


@pytest.mark.parametrize(
    ("mode", "reason"),
    [("full", "HTTP 500"), ("lost", "the archive did not keep 3 of 3 objects"), ("gone", "ConnectionError")],
)
def test_a_study_that_the_archive_does_not_take_is_tried_ever_later_and_given_up(
    archive, watched, film, monkeypatch, mode, reason
):
    archive.store(film("1.1", 1), film("1.2", 1))
    archive.relay.mode = mode
    watch = watched(interval=1000)
    for _ in range(4):
        watch.look()
    assert watch.states == {"1.1": ("open", 1), "1.2": ("open", 1)}
    monkeypatch.setattr(pacs, "_SLOWER", 0)
    monkeypatch.setattr(pacs.time, "time", lambda now=pacs.time.time: now() + 1001)
    for _ in range(ATTEMPTS + 2):
        watch.look()
    assert watch.states == {"1.1": ("failed", ATTEMPTS), "1.2": ("failed", ATTEMPTS)}
    assert watch.reasons == {reason}
    assert archive.relay.stores == 2 + 2 * ATTEMPTS


def test_an_archive_that_goes_away_costs_a_study_no_attempt(archive, watched, film):
    archive.store(film("1.1", 1))
    watch = watched()
    watch.look()
    archive.relay.mode = "dying"
    for _ in range(3):
        with pytest.raises(ArchiveDown):
            watch.look()
    assert watch.states == {"1.1": ("open", 0)}
    archive.relay.mode = "open"
    watch.look()
    assert watch.states == {"1.1": ("stored", 1)}


def test_a_server_in_trouble_costs_a_study_no_attempt(archive, watched, film, runtime, monkeypatch):
    archive.store(film("1.1", 1), film("1.2", 1))
    watch = watched()
    watch.look()
    with monkeypatch.context() as patch:
        patch.setattr(type(runtime), "find", lambda *_, **__: 1 / 0)
        for _ in range(ATTEMPTS + 1):
            with pytest.raises(ServerTrouble):
                watch.look()
    assert set(watch.states.values()) == {("open", 0)}
    assert watch.files == []
    watch.look()
    assert watch.states == {"1.1": ("stored", 1), "1.2": ("stored", 1)}


def test_results_that_are_there_are_known_without_the_journal(archive, watched, film, tmp_path):
    archive.store(film("1.1", 1))
    watch = watched()
    watch.look()
    watch.look()
    assert archive.relay.stores == 2
    (tmp_path / "state").unlink()
    anew = watched()
    anew.look()
    anew.look()
    assert anew.states == {"1.1": ("stored", 1)}
    assert archive.relay.stores == 2
