"""The journal of a watched archive."""

import os
import stat
from contextlib import closing

import pytest

from siimdet.errors import UserError
from siimdet.serve.watch_journal import Entry, WatchJournal, default_state

HERE, THERE = "http://here/dicom-web", "http://there/dicom-web"


def test_what_has_ended_is_known_to_the_next_start_and_to_no_other_archive(tmp_path):
    with closing(WatchJournal(tmp_path / "new" / "state", HERE)) as journal:
        begun = [journal.begin("1", 2), journal.begin("2", 1), journal.begin("2", 1), journal.begin("3", 4)]
        assert begun == [1, 1, 2, 1]
        journal.end("1", "stored")
        journal.put_off("2", "HTTP 500")
        journal.end("3", "refused", "why")
    with closing(WatchJournal(tmp_path / "new" / "state", HERE)) as journal:
        found = {study: (each.state, each.instances, each.attempts) for study, each in journal.entries().items()}
        assert found == {"1": ("stored", 2, 1), "2": ("open", 1, 2), "3": ("refused", 4, 1)}
    with closing(WatchJournal(tmp_path / "new" / "state", THERE)) as journal:
        assert journal.entries() == {}
        assert journal.begin("1", 1) == 1


@pytest.mark.parametrize(
    ("state", "instances", "holds"),
    [
        ("stored", 2, True),
        ("stored", 9, True),
        ("failed", 9, True),
        ("refused", 2, True),
        ("refused", 3, False),
        ("open", 2, False),
    ],
)
def test_what_was_refused_is_looked_at_again_once_it_has_other_images(state, instances, holds):
    assert Entry(state, 2, 1, 0.0).holds(instances) == holds


def test_attempts_count_from_one_after_a_refusal_and_not_where_they_are_taken_back(tmp_path):
    with closing(WatchJournal(tmp_path / "state", HERE)) as journal:
        journal.begin("1", 1)
        journal.begin("1", 1)
        journal.take_back("1")
        assert journal.begin("1", 1) == 2
        journal.end("1", "refused", "why")
        assert journal.begin("1", 2) == 1
        assert journal.entries()["1"].state == "open"


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
