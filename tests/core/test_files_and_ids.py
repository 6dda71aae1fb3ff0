"""Writes are all or nothing, and no id leads out of its folder."""

import hashlib
import os
import stat
import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from siimdet.core.files import atomic_write, check_id, locked_file, sha256_file
from siimdet.errors import SourceError


class Interrupted(BaseException):
    """As KeyboardInterrupt: no Exception."""


def write_half(path, error: BaseException) -> None:
    with atomic_write(path) as stream:
        stream.write("half of the new")
        stream.flush()
        raise error


@pytest.mark.parametrize("error", [ValueError("full"), Interrupted()])
def test_a_failed_write_leaves_the_old_file_and_nothing_else(tmp_path, error):
    path = tmp_path / "table.csv"
    path.write_text("old")
    with pytest.raises(type(error)):
        write_half(path, error)
    assert path.read_text() == "old"
    assert [p.name for p in tmp_path.iterdir()] == ["table.csv"]


def test_readers_see_the_old_file_until_the_block_ends(tmp_path):
    path = tmp_path / "table.csv"
    path.write_text("old")
    with atomic_write(path) as stream:
        stream.write("new")
        stream.flush()
        assert path.read_text() == "old"
    assert path.read_text() == "new"
    assert [p.name for p in tmp_path.iterdir()] == ["table.csv"]


def test_folders_are_made_and_text_is_plain_utf8(tmp_path):
    path = tmp_path / "a" / "b" / "notes.txt"
    with atomic_write(path) as stream:
        stream.write("Lunge ü\r\n\n")
    assert path.read_bytes() == "Lunge ü\r\n\n".encode()
    with atomic_write(str(path), "wb") as stream:
        stream.write(b"\x00\xff")
    assert path.read_bytes() == b"\x00\xff"


def test_the_file_gets_the_usual_rights_of_new_files(tmp_path):
    before = os.umask(0o027)
    try:
        with atomic_write(tmp_path / "x") as stream:
            stream.write("x")
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "x").stat().st_mode) == 0o640


def test_a_long_name_of_many_bytes_still_has_room_for_the_temporary_one(tmp_path):
    path = tmp_path / ("ü" * 120 + ".png")
    with atomic_write(path, "wb") as stream:
        stream.write(b"x")
    assert path.read_bytes() == b"x"


LOCK_FILE = """
import sys
from pathlib import Path
if sys.argv[2:]:
    sys.modules["fcntl"] = None  # as where there is none
from siimdet.core.files import locked_file
with locked_file(Path(sys.argv[1])) as ours:
    print(ours)
"""


def lock_elsewhere(*arguments: object) -> str:
    """What another process is told of a lock."""
    command = [sys.executable, "-c", LOCK_FILE, *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()


def test_a_locked_file_is_ours_until_the_block_ends_and_stays(tmp_path):
    for _ in range(2):
        with locked_file(tmp_path / "lock") as ours:
            assert ours is True
            assert lock_elsewhere(tmp_path / "lock") == "False"
        assert lock_elsewhere(tmp_path / "lock") == "True"
    assert [path.name for path in tmp_path.iterdir()] == ["lock"]


def test_where_there_are_no_locks_a_lock_says_so(tmp_path):
    with locked_file(tmp_path / "lock"):
        assert lock_elsewhere(tmp_path / "lock", "without") == "None"


def test_sha256_of_known_bytes(tmp_path):
    (tmp_path / "abc").write_bytes(b"abc")
    assert sha256_file(tmp_path / "abc") == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
    assert sha256_file(tmp_path / "abc") == hashlib.sha256(b"abc").hexdigest()


@pytest.mark.parametrize("value", ["a", "00000001_000.png", "1.2.840.10008", "A-b_c", "..a", "a..", "x" * 200])
def test_plain_ids_pass_unchanged(value):
    assert check_id(value, file="t.csv", field="id") == value


@pytest.mark.parametrize(
    "value",
    [
        *("", ".", "..", "...", "../a", "a/b", "a\\b", "/etc/passwd", "C:x", "a b", "a\n", "\na", "a\0", "ü"),
        *("x" * 201, "=1+1", "a;b", "~", "%2e%2e", "\uff0e\uff0e"),
    ],
)
def test_ids_that_could_leave_their_folder_are_refused(value):
    with pytest.raises(
        SourceError, match=r"^t.csv:3: id: found .*, expected an id of A-Z a-z 0-9 . _ - only$"
    ) as caught:
        check_id(value, file="t.csv:3", field="id")
    assert "\n" not in str(caught.value)


@given(value=st.text(max_size=30))
def test_whatever_passes_is_one_name_inside_its_folder(value, tmp_path_factory):
    try:
        check_id(value, file="t.csv", field="id")
    except SourceError:
        return
    folder = tmp_path_factory.getbasetemp()
    assert os.path.dirname(os.path.normpath(folder / value)) == os.path.normpath(folder)
