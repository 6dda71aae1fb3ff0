"""`siimdet receive`: objects that are not what they say, and names that would leave the folder."""

import io
import sys

import pydicom
import pytest
from pydicom.config import disable_value_validation
from pydicom.uid import ExplicitVRLittleEndian
from pynetdicom.dimse_primitives import C_STORE
from pynetdicom.dsutils import encode
from pynetdicom.sop_class import Comprehensive3DSRStorage, ComputedRadiographyImageStorage, CTImageStorage

from siimdet.serve import receive

CR = ComputedRadiographyImageStorage


@pytest.mark.parametrize(
    ("keyword", "value"),
    [
        ("StudyInstanceUID", "../../1"),
        ("StudyInstanceUID", ".."),
        ("SeriesInstanceUID", "/etc"),
        ("StudyInstanceUID", ""),
        ("StudyInstanceUID", ".incoming.1"),
        ("StudyInstanceUID", "1.2."),
        ("SeriesInstanceUID", "1.2a"),
        ("SeriesInstanceUID", "1." * 40 + "1"),
    ],
)
def test_an_object_whose_uids_are_no_names_is_refused(shared, film, keyword, value):
    before = shared.files
    sent = film("1.4")
    with disable_value_validation():
        setattr(sent, keyword, value)
        assert shared.send(sent) == [receive.UNREADABLE]
    assert shared.files == before
    assert f"receive: MODALITY: an object is refused for its {keyword}" in shared.log


def encoded(sent: pydicom.Dataset) -> bytes:
    data = encode(sent, is_implicit_vr=False, is_little_endian=True)
    assert data is not None
    return data


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


@pytest.mark.parametrize(
    ("keyword", "value"), [("SOPInstanceUID", "1.5.1.2"), ("SOPClassUID", CTImageStorage), ("SOPClassUID", None)]
)
def test_an_object_that_is_not_the_commands_is_refused(shared, film, keyword, value):
    before, sent = shared.files, film("1.5")
    setattr(sent, keyword, value)
    association = shared.associate(syntaxes=[ExplicitVRLittleEndian])
    assert send_bytes(association, encoded(sent), CR, "1.5.1.1") == receive.MISMATCH
    association.release()
    assert shared.files == before
    assert f"an object is refused for its {keyword}, which is not the command's" in shared.log


def test_a_report_under_a_radiographs_context_is_refused(shared, film):
    before, sent = shared.files, film("1.6")
    sent.SOPClassUID = Comprehensive3DSRStorage
    association = shared.associate(syntaxes=[ExplicitVRLittleEndian])
    assert send_bytes(association, encoded(sent), Comprehensive3DSRStorage, sent.SOPInstanceUID) == receive.FOREIGN
    association.release()
    assert shared.files == before


def test_bytes_that_are_no_data_set_are_refused_and_the_next_is_taken(shared, film):
    sent = film("1.6")
    association = shared.associate(syntaxes=[ExplicitVRLittleEndian])
    assert send_bytes(association, b"\xff" * 999, CR, sent.SOPInstanceUID) == receive.UNREADABLE
    assert association.send_c_store(sent).Status == receive.STORED
    association.release()


def test_a_full_disk_is_said_and_leaves_nothing(service, film):
    limited = service(run=("prlimit", "--fsize=4096", sys.executable, "-m", "siimdet"))
    assert limited.send(film("1.9")) == [receive.FULL]
    assert limited.files == []
    assert "receive: MODALITY: an object is refused for the folder: File too large" in limited.log
