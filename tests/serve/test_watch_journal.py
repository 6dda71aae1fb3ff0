"""The journal of a watched archive."""

import os
import stat
from contextlib import closing

import pytest

from siimdet.errors import UserError
from siimdet.serve.watch_journal import WatchJournal, default_state

HERE, THERE = "http://here/dicom-web", "http://there/dicom-web"


def test_what_has_ended_is_known_to_the_next_start_and_to_no_other_archive(tmp_path):
    with closing(WatchJournal(tmp_path / "new" / "state", HERE)) as journal:
        assert [journal.begin("1"), journal.begin("2"), journal.begin("2"), journal.begin("3")] == [1, 1, 2, 1]
        journal.end("1", "stored")
        journal.put_off("2", "HTTP 500")
        journal.end("3", "refused", "why")
    with closing(WatchJournal(tmp_path / "new" / "state", HERE)) as journal:
        assert journal.ended() == {"1", "3"}
        assert [journal.attempts(study)[0] for study in "24"] == [2, 0]
    with closing(WatchJournal(tmp_path / "new" / "state", THERE)) as journal:
        assert journal.ended() == set()
        assert journal.begin("1") == 1


def test_an_attempt_that_is_taken_back_does_not_count(tmp_path):
    with closing(WatchJournal(tmp_path / "state", HERE)) as journal:
        journal.begin("1")
        journal.begin("1")
        journal.take_back("1")
        assert journal.attempts("1")[0] == 1
        assert journal.begin("1") == 2


def test_the_file_is_its_users_alone(tmp_path):
    with closing(WatchJournal(tmp_path / "state", HERE)):
        assert stat.S_IMODE(os.stat(tmp_path / "state").st_mode) == 0o600


def test_a_file_that_is_none_of_ours_is_one_line(tmp_path):
    (tmp_path / "text").write_text("no database, and long enough to be read as the header of one" * 10)
    for path in (tmp_path, tmp_path / "text"):
        with pytest.raises(UserError, match=r"--pacs-state: found .*, expected a SQLite file to write to"):
            WatchJournal(path, HERE)
    assert (tmp_path / "text").read_text().startswith("no database")


def test_it_lies_where_the_users_states_lie(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    assert default_state() == tmp_path / "siimdet" / "pacs.sqlite"
    monkeypatch.delenv("XDG_STATE_HOME")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert default_state() == tmp_path / ".local" / "state" / "siimdet" / "pacs.sqlite"
