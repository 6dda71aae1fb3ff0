"""The folder of a server's files."""

import os
import signal
import subprocess
import sys

import pytest

from siimdet.serve.scratch import private_folder

KEEP = """
import sys
from siimdet.serve.scratch import private_folder
with private_folder() as folder:
    (folder / "image").write_text("a patient's")
    print(folder, flush=True)
    sys.stdin.read()
"""


@pytest.fixture
def temporary(tmp_path, monkeypatch):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    return tmp_path


def test_it_is_private_and_goes_with_its_files_whatever_happens(temporary):
    with pytest.raises(ZeroDivisionError), private_folder() as folder:
        assert folder.parent == temporary
        assert folder.stat().st_mode & 0o777 == 0o700
        (folder / "study").mkdir()
        (folder / "study" / "image").write_text("")
        raise ZeroDivisionError
    assert list(temporary.iterdir()) == []


def test_of_a_killed_server_it_goes_with_the_next_start_and_of_a_living_one_it_stays(temporary):
    with subprocess.Popen(
        [sys.executable, "-c", KEEP], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as other:
        left = other.stdout.readline().strip()
        with private_folder() as ours:
            assert sorted(temporary.iterdir()) == sorted([ours, temporary / os.path.basename(left)])
        other.send_signal(signal.SIGKILL)
        other.wait()
    assert os.path.exists(f"{left}/image")
    with private_folder() as ours:
        assert list(temporary.iterdir()) == [ours]


def test_what_only_looks_like_one_stays(temporary):
    (temporary / "elsewhere").mkdir()
    (temporary / "siimdet-serve-link").symlink_to(temporary / "elsewhere")
    (temporary / "siimdet-serve-file").write_text("")
    with private_folder():
        pass
    assert {path.name for path in temporary.iterdir()} == {"elsewhere", "siimdet-serve-link", "siimdet-serve-file"}
