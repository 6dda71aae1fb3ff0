"""The queue: order, room, cancelling, expiry, and what is left behind."""

import errno
import json
import os
import threading
import time
from pathlib import Path

import pytest

from siimdet.errors import UserError
from siimdet.serve.audit import Audit
from siimdet.serve.jobs import Jobs, QueueFull
from siimdet.serve.uploads import receive

ENDS = 30


@pytest.fixture
def queue(runtime, tmp_path, monkeypatch):
    """A queue with other settings than usual, whose folder is below `tmp_path`."""
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    made: list[Jobs] = []

    def queue_(**settings) -> Jobs:
        made.append(Jobs(runtime, **settings))
        return made[-1]

    yield queue_
    for jobs in made:
        jobs.close()


def submit(jobs: Jobs, *files: bytes, detector="yolo"):
    with jobs.receiving() as folder:
        return jobs.submit(folder, [receive(folder, data, "png") for data in files], detector)


def folders(tmp_path: Path) -> list[Path]:
    return [path for path in tmp_path.glob("siimdet-*/*") if path.is_dir()]


def test_studies_wait_their_turn_and_are_cancelled(queue, runtime, png):
    jobs = queue()
    with runtime._lock:
        first, second, third = (submit(jobs, png(seed)) for seed in range(3))
        while first.state != "running":
            time.sleep(0.01)
        assert (jobs.position(second), jobs.position(third), jobs.waiting()) == (0, 1, 2)
        jobs.cancel(second)
        assert (second.state, second.ended.is_set(), jobs.position(third)) == ("cancelled", True, 0)
        jobs.cancel(first)
        assert first.state == "cancelled"
    assert third.ended.wait(ENDS)
    assert (third.state, third.progress, first.found, second.found) == ("done", 1.0, None, None)
    assert 'outcome="cancelled"} 2' in jobs.metrics.text(0)


def test_no_more_than_so_many_wait_and_those_being_sent_count(queue, runtime, png, tmp_path):
    jobs = queue(longest=2)
    with runtime._lock:
        running = submit(jobs, png())
        while running.state != "running":
            time.sleep(0.01)
        submit(jobs, png(1))
        with jobs.receiving():
            with pytest.raises(QueueFull, match="too many studies wait"), jobs.receiving():
                pass
            assert len(folders(tmp_path)) == 3
        assert len(folders(tmp_path)) == 2
        last = submit(jobs, png(2))
    assert last.ended.wait(ENDS)


def test_a_full_disk_takes_no_place(queue, monkeypatch):
    jobs = queue(longest=2)

    def no_room(**_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch:
        patch.setattr("siimdet.serve.jobs.tempfile.mkdtemp", no_room)
        for _ in range(3):
            with pytest.raises(OSError, match="No space"), jobs.receiving("127.0.0.1"):
                pass
    with jobs.receiving("127.0.0.1"):
        pass


def test_results_expire(queue, png, tmp_path):
    jobs = queue(keep_for=0.2)
    job = submit(jobs, png())
    assert job.ended.wait(ENDS)
    assert jobs.get(job.key) in (job, None)
    until = time.monotonic() + 5
    while folders(tmp_path) and time.monotonic() < until:
        time.sleep(0.05)
    assert (folders(tmp_path), jobs.get(job.key)) == ([], None)


def test_the_oldest_results_make_room(queue, png):
    size = len(png(0, 200))
    jobs = queue(keep_bytes=5 * size)  # an upload and its decoded image each
    ended = []
    for seed in range(4):
        ended.append(submit(jobs, png(seed, 200)))
        assert ended[-1].ended.wait(ENDS)
    assert [jobs.get(job.key) for job in ended] == [None, None, ended[2], ended[3]]


def test_the_end_cancels_and_leaves_nothing(queue, runtime, png, tmp_path):
    jobs = queue()
    with runtime._lock:
        running, waiting = submit(jobs, png(1)), submit(jobs, png(2))
        ending = threading.Thread(target=jobs.close)
        ending.start()
        assert waiting.ended.wait(ENDS)
        with pytest.raises(QueueFull, match="the server ends"), jobs.receiving():
            pass
    ending.join(ENDS)
    assert (running.state, waiting.state) == ("cancelled", "cancelled")
    assert list(tmp_path.glob("siimdet-*")) == []


def test_an_inference_is_a_line_of_the_audit_and_names_no_patient(queue, runtime, radiograph, tmp_path):
    jobs = queue(audit=Audit(tmp_path / "audit.jsonl"))
    with jobs.receiving() as folder:
        job = jobs.submit(folder, [receive(folder, radiograph.read_bytes(), "dicom")], "ensemble")
    assert job.ended.wait(ENDS)
    (text,) = (tmp_path / "audit.jsonl").read_text().splitlines()
    line = json.loads(text)
    assert line["inputs"] == [job.uploads[0].digest]
    assert line["models"] == {name: each.digest for name, each in runtime.detectors.items()}
    assert (line["study"], line["detector"], line["outcome"]) == (runtime.study.digest, "ensemble", "done")
    assert line["coupling"] == runtime.coupling_digest
    assert line["thresholds"] == {"fasterrcnn": 0.15, "yolo": 0.15, "ensemble": 0.15}  # as /api/models tells them
    assert set(line) >= {"time", "seconds"}
    assert "Jane" not in text


def test_without_its_line_a_study_is_not_answered(queue, png, tmp_path, caplog):
    jobs = queue(audit=Audit(Path("/dev/full")))
    failed = submit(jobs, png())
    assert failed.ended.wait(ENDS)
    assert (failed.state, failed.found, failed.refused) == ("failed", None, False)
    assert "the audit file cannot be written" in caplog.text
    with pytest.raises(UserError, match=r"--audit: found Is a directory, expected a file to write to"):
        Audit(tmp_path)


def test_an_error_ends_its_study_alone(queue, png, caplog):
    jobs = queue()
    with jobs.receiving() as folder:
        uploads = [receive(folder, png(), "png")]
        uploads[0].image.unlink()
        gone = jobs.submit(folder, uploads, "yolo")
    assert gone.ended.wait(ENDS)
    assert gone.state == "failed"
    assert gone.detail
    later = submit(jobs, png(1))
    assert later.ended.wait(ENDS)
    assert later.state == "done"
