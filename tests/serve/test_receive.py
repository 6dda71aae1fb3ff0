"""`siimdet receive`: a real process, to which pynetdicom and dcmtk send."""

import contextlib
import io
import os
import re
import select
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pydicom
import pytest
from pydicom.config import disable_value_validation
from pydicom.uid import ExplicitVRLittleEndian
from pynetdicom import AE
from pynetdicom.dimse_primitives import C_STORE
from pynetdicom.dsutils import encode
from pynetdicom.sop_class import (
    Comprehensive3DSRStorage,
    ComputedRadiographyImageStorage,
    CTImageStorage,
    DigitalXRayImageStorageForPresentation,
    Verification,
)

from siimdet.cli import run
from siimdet.data.manifest import read_dataset
from siimdet.imaging.decode import SYNTAXES
from siimdet.imaging.dicom import read_radiograph, write_radiograph
from siimdet.serve import receive

CR, DX = ComputedRadiographyImageStorage, DigitalXRayImageStorageForPresentation
PATIENT = "Doe^Jane"
PYTHON = (sys.executable, "-m", "siimdet")
SMALL = (
    *(sys.executable, "-c"),
    "from siimdet.__main__ import main; from siimdet.serve import receive; receive.MAX_FILE_BYTES = 100_000; main()",
)
"""With a limit that is reached sooner."""


class Service:
    """A running `siimdet receive`."""

    def __init__(self, out: Path, log: Path, *options: str, run: Sequence[str] = PYTHON) -> None:
        self.out, self._log = out, log
        command = [*run, "receive", "--out", str(out), "--port", "0", *options]
        with open(log, "wb") as stream:
            self.process = subprocess.Popen(command, stderr=stream)
        until = time.monotonic() + 60
        while "siimdet receives" not in self.log:
            assert self.process.poll() is None and time.monotonic() < until, self.log
            select.select([], [], [], 0.02)
        self.port = int(re.search(r"receives as \w+ on 127.0.0.1:(\d+)", self.log)[1])

    @property
    def log(self) -> str:
        return self._log.read_text()

    @property
    def files(self) -> list[str]:
        return sorted(path.relative_to(self.out).as_posix() for path in self.out.rglob("*") if path.is_file())

    def stop(self) -> int:
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(timeout=30)


@pytest.fixture(scope="module")
def shared(tmp_path_factory):
    """A service that many tests send to."""
    folder = tmp_path_factory.mktemp("receive")
    service = Service(folder / "out", folder / "log")
    yield service
    assert service.stop() == 0
    assert PATIENT not in service.log and "Traceback" not in service.log


@pytest.fixture
def service(tmp_path):
    """Starts services of its own."""
    started = []

    def service_(*options: str, run: Sequence[str] = PYTHON) -> Service:
        started.append(Service(tmp_path / "out", tmp_path / "log", *options, run=run))
        return started[-1]

    yield service_
    for each in started:
        if each.process.poll() is None:
            each.stop()


@pytest.fixture(scope="module")
def film(tmp_path_factory):
    """A radiograph, read: film("1.2", seed=...)."""

    def film_(study: str, seed: int = 0, syntax: str = "explicit") -> pydicom.Dataset:
        path = tmp_path_factory.mktemp("film") / "a.dcm"
        pixels = np.random.default_rng(seed).integers(0, 4096, (60, 50), dtype=np.uint16)
        ids = {"study_uid": study, "series_uid": f"{study}.1", "sop_uid": f"{study}.1.1"}
        write_radiograph(path, pixels, patient_id=PATIENT, bits_stored=12, syntax=syntax, **ids)
        return pydicom.dcmread(path)

    return film_


def associate(service, *classes, syntaxes=None, title="MODALITY", **extra):
    entity = AE(title)
    for sop_class in classes or (CR,):
        entity.add_requested_context(sop_class, syntaxes)
    return entity.associate("127.0.0.1", service.port, **extra)


def send(service, *objects, **options) -> list[int]:
    """Statuses."""
    classes = sorted({each.SOPClassUID for each in objects})
    syntaxes = sorted({each.file_meta.TransferSyntaxUID for each in objects})
    association = associate(service, *classes, syntaxes=syntaxes, **options)
    assert association.is_established
    try:
        return [association.send_c_store(each).Status for each in objects]
    finally:
        association.release()


@pytest.mark.parametrize("syntax", ["explicit", "implicit", "rle", "jpeg-lossless"])
def test_what_is_sent_lies_at_its_place_as_it_was_sent(shared, film, syntax):
    study = f"1.2.{['explicit', 'implicit', 'rle', 'jpeg-lossless'].index(syntax)}"
    sent = film(study, syntax=syntax)
    assert send(shared, sent) == [receive.STORED]
    path = shared.out / study / f"{study}.1" / f"{study}.1.1.dcm"
    found = pydicom.dcmread(path)
    assert found == sent
    assert found.file_meta.TransferSyntaxUID == sent.file_meta.TransferSyntaxUID
    assert found.file_meta.MediaStorageSOPInstanceUID == sent.SOPInstanceUID
    assert read_radiograph(path).pixels.shape == (60, 50)


def test_it_takes_what_we_decode_and_nothing_but_radiographs(shared):
    association = associate(shared, CR, DX, Verification, CTImageStorage, Comprehensive3DSRStorage)
    assert association.send_c_echo().Status == 0
    assert {str(each.abstract_syntax) for each in association.rejected_contexts} == {
        CTImageStorage,
        Comprehensive3DSRStorage,
    }
    association.release()
    for syntax in SYNTAXES:
        association = associate(shared, syntaxes=[syntax])
        assert association.is_established, syntax
        association.release()
    assert not associate(shared, syntaxes=["1.2.840.10008.1.2.4.100"]).is_established  # MPEG-2


def test_the_same_again_is_not_written_and_a_corrected_one_takes_the_place(shared, film):
    assert send(shared, film("1.3")) == [receive.STORED]
    path = shared.out / "1.3" / "1.3.1" / "1.3.1.1.dcm"
    before = path.stat()
    assert send(shared, film("1.3")) == [receive.STORED]
    assert path.stat() == before
    assert send(shared, film("1.3", seed=1)) == [receive.STORED]
    assert pydicom.dcmread(path) == film("1.3", seed=1)


@pytest.mark.parametrize(
    ("keyword", "value"),
    [
        ("StudyInstanceUID", "../../1"),
        ("StudyInstanceUID", ".."),
        ("SeriesInstanceUID", "/etc"),
        ("StudyInstanceUID", ""),
        ("SeriesInstanceUID", "1." * 40 + "1"),
    ],
)
def test_an_object_whose_uids_are_no_names_is_refused(shared, film, keyword, value):
    before = shared.files
    sent = film("1.4")
    with disable_value_validation():
        setattr(sent, keyword, value)
        assert send(shared, sent) == [receive.UNREADABLE]
    assert shared.files == before
    assert f"receive: MODALITY: an object is refused for its {keyword}" in shared.log


def send_bytes(association, data: bytes, sop_class: str, uid: str) -> int:
    """Sends any bytes as a data set, and gives the status."""
    request = C_STORE()
    request.MessageID, request.Priority = 7, 2
    request.AffectedSOPClassUID, request.AffectedSOPInstanceUID = sop_class, uid
    request.DataSet = io.BytesIO(data)
    association._reactor_checkpoint.clear()
    association.dimse.send_msg(request, association.accepted_contexts[0].context_id)
    _, response = association.dimse.get_msg(block=True)
    association._reactor_checkpoint.set()
    return response.Status


def test_an_object_that_is_not_the_commands_is_refused(shared, film):
    before = shared.files
    association = associate(shared, syntaxes=[ExplicitVRLittleEndian])
    data = encode(film("1.5"), is_implicit_vr=False, is_little_endian=True)
    assert send_bytes(association, data, CR, "1.5.1.2") == receive.MISMATCH
    association.release()
    assert shared.files == before


def test_bytes_that_are_no_data_set_are_refused_and_the_next_is_taken(shared, film):
    sent = film("1.6")
    association = associate(shared, syntaxes=[ExplicitVRLittleEndian])
    assert send_bytes(association, b"\xff" * 999, CR, sent.SOPInstanceUID) == receive.UNREADABLE
    assert association.send_c_store(sent).Status == receive.STORED
    association.release()


def test_two_send_at_once_and_each_is_counted(shared, film):
    with ThreadPoolExecutor(2) as pool:
        objects = {title: [film(f"1.7.{place}.{n}", n) for n in range(5)] for place, title in enumerate("AB")}
        found = [pool.submit(send, shared, *each, title=title) for title, each in objects.items()]
        assert [each.result() for each in found] == [[receive.STORED] * 5] * 2
    wait_for(lambda: all(f"receive: {title}: 5 stored" in shared.log for title in "AB"))


def wait_for(holds) -> None:
    until = time.monotonic() + 20
    while not holds():
        assert time.monotonic() < until, "nothing happened"
        time.sleep(0.02)


def test_who_sends_without_end_is_cut_off(service, film):
    running = service(run=SMALL)
    sent = film("1.8")
    assert send(running, *[sent] * 20) == [receive.STORED] * 20  # 6 kB each: together they may
    sent.PixelData = bytes(50_000_000)
    association = associate(running, syntaxes=[ExplicitVRLittleEndian])
    with contextlib.closing(association.dul.socket.socket):  # the library leaves it open to the one who is cut off
        assert "Status" not in association.send_c_store(sent)
        wait_for(lambda: association.is_aborted)
    assert running.files == ["1.8/1.8.1/1.8.1.1.dcm"]
    assert "an object is refused for having more than 100000 bytes" in running.log


def test_a_full_disk_is_said_and_leaves_nothing(tmp_path, film):
    limited = Service(tmp_path / "out", tmp_path / "log", run=("prlimit", "--fsize=4096", *PYTHON))
    assert send(limited, film("1.9")) == [receive.FULL]
    assert limited.files == []
    assert limited.stop() == 0
    assert "receive: MODALITY: an object is refused for the folder: File too large" in limited.log


def test_told_to_end_it_lets_open_associations_end_and_takes_no_more(service, film):
    running = service()
    association = associate(running, syntaxes=[ExplicitVRLittleEndian])
    running.process.send_signal(signal.SIGTERM)
    wait_for(lambda: not is_listening(running.port))
    assert association.send_c_store(film("1.10")).Status == receive.STORED
    association.release()
    assert running.process.wait(20) == 0
    assert running.files == ["1.10/1.10.1/1.10.1.1.dcm"]


def is_listening(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def test_only_those_that_may_send_do(service, film):
    running = service("--calling", "CT1", "XRAY", "--ae-title", "WARD")
    assert send(running, film("1.11"), title="XRAY", ae_title="ANY") == [receive.STORED]
    assert associate(running, title="OTHER").is_rejected
    assert "siimdet receives as WARD on" in running.log


def test_what_was_received_is_converted(shared, film, tmp_path):
    send(shared, film("1.12"), film("1.13"))
    assert run(["convert", "dicom", "--raw", str(shared.out), "--out", str(tmp_path / "data")]) == 0
    studies = {record.study_id for record in read_dataset(tmp_path / "data").records}
    assert {"1.12", "1.13"} <= studies


def test_what_a_killed_one_left_is_cleared_up(service, tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / ".incoming.abc").write_text("half a file")
    assert service().files == []


@pytest.mark.pacs
def test_dcmtk_sends_to_it(shared, film, tmp_path):
    if shutil.which("storescu") is None:
        if "SIIMDET_REQUIRE_PACS" in os.environ:
            pytest.fail("SIIMDET_REQUIRE_PACS is set, but there is no storescu on the path")
        pytest.skip("no storescu: it comes with dcmtk")
    film("1.14").save_as(tmp_path / "a.dcm")
    place = ("127.0.0.1", str(shared.port))
    assert subprocess.run(["echoscu", *place], check=False).returncode == 0
    assert subprocess.run(["storescu", "--aetitle", "DCMTK", *place, tmp_path / "a.dcm"], check=False).returncode == 0
    assert pydicom.dcmread(shared.out / "1.14" / "1.14.1" / "1.14.1.1.dcm") == film("1.14")


def line_of(capfd, *options: object) -> str:
    assert run(["receive", *map(str, options)]) == 2
    out, err = capfd.readouterr()
    assert (out, err.count("\n")) == ("", 1)
    return err


def test_mistakes_at_the_start_are_one_line(capfd, tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        expected = f"siimdet: receive: 127.0.0.1:{port}: found Address already in use, expected a free address\n"
        assert line_of(capfd, "--out", tmp_path, "--port", port) == expected
    here = ("--out", tmp_path, "--port", 0)
    assert "0.0.0.0 without --calling, expected the titles that may send" in line_of(capfd, *here, "--host", "0.0.0.0")
    assert "expected a free address" in line_of(capfd, *here, "--host", "no.such.host.invalid", "--calling", "A")
    assert "--ae-title, --calling: found A\\B" in line_of(capfd, *here, "--ae-title", "A\\B")
    assert "--ae-title, --calling: found SIIMDET, " in line_of(capfd, *here, "--calling", "A" * 17)
    assert "file: --out: found File exists" in line_of(capfd, "--out", tmp_path / "file")
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    assert "expected the extra `pacs`" in line_of(capfd, *here)
