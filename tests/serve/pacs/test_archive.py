"""The archive over DICOMweb, asked of a real Orthanc."""

import contextlib
import socket

import pydicom
import pytest

from siimdet.errors import ImageError
from siimdet.serve import archive as module
from siimdet.serve.archive import Archive, ArchiveDown, ArchiveRefusal, Instance

pytestmark = pytest.mark.pacs


@pytest.fixture(scope="module", autouse=True)
def direct():
    """Without any proxy between, whatever the environment says."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("NO_PROXY", "127.0.0.1")
        yield


@pytest.fixture(scope="module")
def ours(shared_archive) -> Archive:
    return Archive(shared_archive.url, user="ward", password="right")


def test_studies_come_page_by_page_each_once(shared_archive, ours, film, monkeypatch):
    monkeypatch.setattr(module, "_PAGE", 2)
    shared_archive.store(film("1.1.1", 1, StudyDate="20260102", StudyTime="0304"), film("1.1.1", 2))
    shared_archive.store(*(film(f"1.1.{number}", 1, StudyDate="20250102") for number in (2, 3, 4, 5)))
    shared_archive.store(film("1.1.6", 1, Modality="DX", SOPClassUID="1.2.840.10008.5.1.4.1.1.1.1"))
    found = {study.uid: study for study in ours.studies("CR")}
    assert {f"1.1.{number}" for number in range(1, 6)} <= set(found) and "1.1.6" not in found
    assert found["1.1.1"] == module.ListedStudy("1.1.1", 2, "202601020304")
    assert [study.uid for study in ours.studies("DX")] == ["1.1.6"]
    assert [study.uid for study in ours.studies("CR", "20260101-20260201")] == ["1.1.1"]


def test_an_object_comes_as_it_was_stored(shared_archive, ours, film):
    path = film("1.2.1", 1, BodyPartExamined="CHEST", ViewPosition="PA")
    shared_archive.store(path)
    (found,) = ours.instances("1.2.1")
    assert found == Instance("1.2.1.1", "1.2.1.1.1", "1.2.840.10008.5.1.4.1.1.1", "CR", "CHEST", "PA")
    data = ours.fetch("1.2.1", found, most=1 << 20)
    with open(path, "rb") as stream, pydicom.dcmread(stream) as stored:
        read = pydicom.dcmread(pydicom.filebase.DicomBytesIO(data))
        assert read.PixelData == stored.PixelData
        assert read.file_meta.TransferSyntaxUID == stored.file_meta.TransferSyntaxUID
    with pytest.raises(ImageError, match="found more than 1000 bytes"):
        ours.fetch("1.2.1", found, most=1000)


def test_what_is_not_there_is_a_refusal(ours):
    with pytest.raises(ArchiveRefusal, match="HTTP 404"):
        ours.instances("1.9.9")
    with pytest.raises(ArchiveRefusal, match="HTTP 404"):
        ours.fetch("1.9.9", Instance("1.9.9.1", "1.9.9.1.1", "", "", "", ""), most=1)


def test_what_is_stored_twice_is_stored(shared_archive, ours, film):
    films = [pydicom.dcmread(film("1.3.1", number)) for number in (1, 2)]
    ours.store("1.3.1", films[:1])
    ours.store("1.3.1", films)
    assert len(ours.instances("1.3.1")) == 2


def test_an_object_of_another_study_is_not_stored(ours, film):
    with contextlib.suppress(ArchiveRefusal):  # some answer so, others with 200 and a list of failures
        ours.store("1.4.2", [pydicom.dcmread(film("1.4.1", 1))])
    with pytest.raises(ArchiveRefusal, match="HTTP 404"):
        ours.instances("1.4.2")


def test_nobody_there_wrong_password_and_wrong_address_are_worth_another_try(shared_archive):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        nobody = Archive(f"http://127.0.0.1:{free.getsockname()[1]}/dicom-web")
    with pytest.raises(ArchiveDown, match="ConnectionError"):
        nobody.studies("CR")
    with pytest.raises(ArchiveDown, match="HTTP 401"):
        Archive(shared_archive.url, user="ward", password="wrong").studies("CR")
    elsewhere = shared_archive.url.removesuffix("/dicom-web")
    with pytest.raises(ArchiveDown, match="HTTP 404"):
        Archive(f"{elsewhere}/no", user="ward", password="right").studies("CR")
