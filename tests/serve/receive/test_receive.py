"""`siimdet receive`: what pynetdicom and dcmtk send to a real process lies at its place."""

import os
import shutil
import socket
import subprocess
from concurrent.futures import ThreadPoolExecutor

import pydicom
import pytest
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
from siimdet.imaging.dicom import read_radiograph
from siimdet.serve import receive

CR, DX = ComputedRadiographyImageStorage, DigitalXRayImageStorageForPresentation
MPEG2 = "1.2.840.10008.1.2.4.100"


@pytest.mark.parametrize("syntax", ["explicit", "implicit", "rle", "jpeg-lossless"])
def test_what_is_sent_lies_at_its_place_as_it_was_sent(shared, film, syntax):
    study = f"1.2.{['explicit', 'implicit', 'rle', 'jpeg-lossless'].index(syntax)}"
    sent = film(study, syntax=syntax)
    assert shared.send(sent) == [receive.STORED]
    path = shared.out / study / f"{study}.1" / f"{study}.1.1.dcm"
    found = pydicom.dcmread(path)
    assert found == sent
    assert found.file_meta.TransferSyntaxUID == sent.file_meta.TransferSyntaxUID
    assert found.file_meta.MediaStorageSOPInstanceUID == sent.SOPInstanceUID
    assert read_radiograph(path).pixels.shape == (60, 50)


def test_it_takes_what_we_decode_and_nothing_but_radiographs(shared):
    association = shared.associate(CR, DX, Verification, CTImageStorage, Comprehensive3DSRStorage)
    assert association.send_c_echo().Status == 0
    assert {str(each.abstract_syntax) for each in association.rejected_contexts} == {
        CTImageStorage,
        Comprehensive3DSRStorage,
    }
    association.release()
    for syntax in SYNTAXES:
        association = shared.associate(syntaxes=[syntax])
        assert association.is_established, syntax
        association.release()
    assert not shared.associate(syntaxes=[MPEG2]).is_established


def test_the_same_again_is_not_written_and_a_corrected_one_takes_the_place(shared, film):
    assert shared.send(film("1.3")) == [receive.STORED]
    path = shared.out / "1.3" / "1.3.1" / "1.3.1.1.dcm"
    before = path.stat()
    assert shared.send(film("1.3")) == [receive.STORED]
    assert (path.stat().st_ino, path.stat().st_mtime_ns) == (before.st_ino, before.st_mtime_ns)
    assert shared.send(film("1.3", seed=1)) == [receive.STORED]
    assert pydicom.dcmread(path) == film("1.3", seed=1)


def test_two_send_at_once_and_each_is_counted(shared, film):
    with ThreadPoolExecutor(2) as pool:
        objects = {title: [film(f"1.7.{place}.{n}", n) for n in range(5)] for place, title in enumerate("AB")}
        found = [pool.submit(shared.send, *each, title=title) for title, each in objects.items()]
        assert [each.result() for each in found] == [[receive.STORED] * 5] * 2
    shared.wait_for(lambda: all(f"receive: {title}: 5 stored" in shared.log for title in "AB"))


def test_only_those_that_may_send_do(service, film):
    running = service("--calling", "CT1", "XRAY", "--ae-title", "WARD")
    assert running.send(film("1.11"), title="XRAY", ae_title="ANY") == [receive.STORED]
    assert running.associate(title="OTHER").is_rejected
    assert "siimdet receives as WARD on" in running.log
    running.wait_for(lambda: sorted(running.said) == ["OTHER: refused, not among --calling", "XRAY: 1 stored"])


def test_who_stores_nothing_is_in_the_log_and_a_port_check_is_not(service):
    running = service()
    running.connect().close()
    association = running.associate(Verification, title="ECHO")
    assert association.send_c_echo().Status == 0
    association.release()
    running.wait_for(lambda: running.said == ["ECHO: nothing stored"])
    running.associate(CR, CTImageStorage, "1.2.3.4", title="CT1").release()
    expected = "CT1: nothing stored; not taken: CT Image Storage, a private class"
    running.wait_for(lambda: running.said[1:] == [expected])
    assert not running.associate(CR, syntaxes=[MPEG2], title="FILM").is_established
    expected = "FILM: nothing stored; not taken: Computed Radiography Image Storage (transfer syntax)"
    running.wait_for(lambda: running.said[2:] == [expected])
    assert not running.associate(
        *[f"1.2.840.10008.5.1.4.1.1.{number}" for number in (2, 4, 20, 128, 130)]
    ).is_established
    running.wait_for(lambda: running.said[3:] and running.said[3].endswith("Nuclear Medicine Image Storage, 2 more"))
    assert len(running.said) == 4


def test_what_was_received_is_converted(shared, film, tmp_path):
    shared.send(film("1.12"), film("1.13"))
    assert run(["convert", "dicom", "--raw", str(shared.out), "--out", str(tmp_path / "data")]) == 0
    studies = {record.study_id for record in read_dataset(tmp_path / "data").records}
    assert {"1.12", "1.13"} <= studies


def test_what_a_killed_one_left_is_cleared_up(service, tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / ".incoming.abc").write_text("half a file")
    assert service().files == []


@pytest.mark.pacs
def test_dcmtk_sends_to_it(shared, service, film, tmp_path):
    # Not storescu: pynetdicom brings a program of that name too, first on the path of an activated environment.
    if shutil.which("dcmsend") is None:
        if "SIIMDET_REQUIRE_PACS" in os.environ:
            pytest.fail("SIIMDET_REQUIRE_PACS is set, but there is no dcmsend on the path")
        pytest.skip("no dcmsend: it comes with dcmtk")
    film("1.14").save_as(tmp_path / "a.dcm")
    ct = film("1.15")
    ct.SOPClassUID = ct.file_meta.MediaStorageSOPClassUID = CTImageStorage
    ct.save_as(tmp_path / "ct.dcm")

    def dcmsend(name: str, title: str, port: int) -> int:
        command = ["dcmsend", "--aetitle", title, "127.0.0.1", str(port), tmp_path / name]
        return subprocess.run(command, check=False).returncode

    assert dcmsend("a.dcm", "DCMTK", shared.port) == 0
    shared.wait_for(lambda: "DCMTK: 1 stored" in shared.said)
    assert pydicom.dcmread(shared.out / "1.14" / "1.14.1" / "1.14.1.1.dcm") == film("1.14")
    dcmsend("ct.dcm", "SCANNER", shared.port)
    shared.wait_for(lambda: "SCANNER: nothing stored; not taken: CT Image Storage" in shared.said)
    strict = service("--calling", "XRAY1")
    dcmsend("a.dcm", "BAD", strict.port)
    strict.wait_for(lambda: strict.said == ["BAD: refused, not among --calling"])


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
