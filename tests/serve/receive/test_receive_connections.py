"""`siimdet receive`: senders that promise too much, fall silent, leave, or are too many."""

import contextlib
import io
import signal
import socket
import struct
import sys
import time

import pytest
from pydicom.uid import ExplicitVRLittleEndian
from pynetdicom.association import Association
from pynetdicom.dimse_messages import C_STORE_RQ
from pynetdicom.dimse_primitives import C_STORE
from pynetdicom.dsutils import encode
from pynetdicom.pdu import A_ASSOCIATE_RQ, P_DATA_TF

from siimdet.serve import receive

REQUEST, DATA = 1, 4
"""Types of PDUs."""


def test_who_sends_without_end_is_cut_off(service, film):
    running = service(MAX_FILE_BYTES=100_000)
    sent = film("1.8")
    assert running.send(*[sent] * 20) == [receive.STORED] * 20  # 6 kB each: together they may
    sent.PixelData = bytes(50_000_000)
    association = running.associate(syntaxes=[ExplicitVRLittleEndian])
    with contextlib.closing(association.dul.socket.socket):  # the library leaves it open to the one who is cut off
        assert "Status" not in association.send_c_store(sent)
        running.wait_for(lambda: association.is_aborted)
    assert running.files == ["1.8/1.8.1/1.8.1.1.dcm"]
    assert "an object is refused for having more than 100000 bytes" in running.log


def test_told_to_end_it_lets_open_associations_end_and_takes_no_more(service, film):
    running = service()
    association = running.associate(syntaxes=[ExplicitVRLittleEndian])
    running.process.send_signal(signal.SIGTERM)
    running.wait_for(lambda: not is_listening(running.port))
    assert association.send_c_store(film("1.10")).Status == receive.STORED
    association.release()
    assert running.process.wait(20) == 0
    assert running.files == ["1.10/1.10.1/1.10.1.1.dcm"]


def is_listening(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def begin(connection: socket.socket, kind: int, length: int, data: bytes = b"") -> None:
    """Send the head of a PDU, which promises a length, and some of its data."""
    connection.sendall(struct.pack(">BBL", kind, 0, length) + data)


def is_closed(connection: socket.socket) -> bool:
    """Whether the other side has ended it, within the connection's own time."""
    try:
        return connection.recv(100) == b""
    except ConnectionError:
        return True


@pytest.mark.parametrize("kind", [REQUEST, DATA])
def test_a_pdu_that_promises_too_much_is_not_waited_for(shared, kind):
    before = shared.memory()
    with shared.connect() as connection:
        begin(connection, kind, 0xFFFFFFF0)
        with contextlib.suppress(ConnectionError):
            for _ in range(64):
                connection.sendall(bytes(1 << 20))
        assert is_closed(connection)
    assert shared.memory() < before + 16
    shared.associate().release()


def test_who_stops_within_a_pdu_is_cut_off(service, film):
    running = service(_SECONDS=1.0)
    association = running.associate(syntaxes=[ExplicitVRLittleEndian])
    with running.connect() as silent, contextlib.closing(association.dul.socket.socket) as stopped:
        begin(silent, REQUEST, 500, b"half")
        begin(stopped, DATA, 500, b"half")
        assert is_closed(silent)
        running.wait_for(lambda: association.is_aborted)
    assert running.send(film("1.2")) == [receive.STORED]


def test_who_sends_a_pdu_byte_by_byte_is_cut_off(service):
    running = service(_SECONDS=1.0)
    with running.connect() as slow, contextlib.suppress(ConnectionError):
        begin(slow, REQUEST, 500)
        until = time.monotonic() + 20
        while time.monotonic() < until:
            slow.sendall(b"a")
            time.sleep(0.1)
        pytest.fail("it waits")


def pdus(association: Association, request: C_STORE) -> list[bytes]:
    message = C_STORE_RQ()
    message.primitive_to_message(request)
    parts = []
    for part in message.encode_msg(association.accepted_contexts[0].context_id, 16382):
        pdu = P_DATA_TF()
        pdu.from_primitive(part)
        parts.append(pdu.encode())
    return parts


def test_who_leaves_within_an_object_leaves_nothing(shared, film):
    before = shared.files
    sent = film("1.3")
    request = C_STORE()
    request.MessageID, request.Priority = 7, 2
    request.AffectedSOPClassUID, request.AffectedSOPInstanceUID = sent.SOPClassUID, sent.SOPInstanceUID
    request.DataSet = io.BytesIO(bytes(100_000))
    association = shared.associate(syntaxes=[ExplicitVRLittleEndian])
    with contextlib.closing(association.dul.socket.socket) as connection:
        for pdu in pdus(association, request)[:-1]:
            connection.sendall(pdu)
    shared.wait_for(lambda: not association.is_alive())
    assert shared.send(sent) == [receive.STORED]
    assert shared.files == sorted([*before, "1.3/1.3.1/1.3.1.1.dcm"])


def test_who_leaves_before_the_answer_has_a_line(service, film):
    slow = (
        "import time; from siimdet.__main__ import main; from siimdet.serve import receive; "
        "read = receive.read_received; receive.read_received = lambda path: time.sleep(1) or read(path); main()"
    )
    running = service(run=(sys.executable, "-c", slow))
    sent = film("1.5")
    request = C_STORE()
    request.MessageID, request.Priority = 7, 2
    request.AffectedSOPClassUID, request.AffectedSOPInstanceUID = sent.SOPClassUID, sent.SOPInstanceUID
    request.DataSet = io.BytesIO(encode(sent, is_implicit_vr=False, is_little_endian=True))
    association = running.associate(syntaxes=[ExplicitVRLittleEndian])
    with contextlib.closing(association.dul.socket.socket) as connection:
        for pdu in pdus(association, request):
            connection.sendall(pdu)
    running.wait_for(lambda: running.said == ["MODALITY: 1 stored"])
    assert running.files == ["1.5/1.5.1/1.5.1.1.dcm"]


def test_a_title_makes_no_line_of_its_own_in_the_log(service):
    running = service("--calling", "XRAY")
    first = running.associate(title="A: 9 stored")
    request = A_ASSOCIATE_RQ()
    request.from_primitive(first.requestor.primitive)
    with running.connect() as connection:
        connection.sendall(request.encode().replace(b"A: 9 stored", b"A\nreceive:B"))
        while not is_closed(connection):
            pass
    running.associate(title="LAST")
    refused = [f"{title}: refused, not among --calling" for title in ("A: 9 stored", "LAST")]
    running.wait_for(lambda: sorted(running.said) == refused)


def test_connections_without_an_association_take_no_place(shared, film):
    shared.wait_for(lambda: shared.threads <= 3)
    for _ in range(receive._ASSOCIATIONS * 2):
        shared.connect().close()
    shared.wait_for(lambda: shared.threads <= 3)
    with contextlib.ExitStack() as stack:
        for _ in range(receive._ASSOCIATIONS * 2):
            stack.enter_context(shared.connect())
        assert shared.send(film("1.4")) == [receive.STORED]


def test_more_associations_than_are_allowed_are_told_to_come_again(service):
    running = service(_ASSOCIATIONS=2)
    first, second = running.associate(), running.associate()
    assert first.is_established and second.is_established
    third = running.associate()
    assert third.is_rejected
    assert (third.acceptor.primitive.result_source, third.acceptor.primitive.diagnostic) == (3, 2)
    running.wait_for(lambda: running.said == ["MODALITY: refused, 2 associations are open"])
    first.release()
    running.wait_for(lambda: (again := running.associate()).is_established and (again.release() or True))
    second.release()


def test_connections_are_counted_and_silent_ones_end(service):
    running = service(_CONNECTIONS=5, _REQUEST_SECONDS=6.0)
    with contextlib.ExitStack() as stack:
        connections = [stack.enter_context(running.connect()) for _ in range(8)]
        before = time.monotonic()
        assert is_closed(connections[-1])
        assert time.monotonic() - before < 4
        assert is_closed(connections[0])
    running.wait_for(lambda: running.threads <= 3)
    running.associate().release()


def test_told_to_end_it_does_not_wait_for_the_silent(service):
    running = service(_PATIENCE=0.5)
    association = running.associate()
    with (
        running.connect(),
        running.connect() as begun,
        contextlib.closing(association.dul.socket.socket) as stopped,
    ):
        begin(begun, REQUEST, 500, b"half")
        begin(stopped, DATA, 500, b"half")
        time.sleep(0.3)
        running.process.send_signal(signal.SIGTERM)
        assert running.process.wait(8) == 0
