"""A storage service (C-STORE SCP) that keeps the radiographs it is sent as files. The only pynetdicom import.

Source: PS3.4 annexes A (verification) and B (storage, its statuses), PS3.7 9.1.1, PS3.8.
"""

import contextlib
import functools
import logging
import socket
import threading
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from pathlib import Path
from queue import Queue
from typing import Any, cast
from weakref import WeakSet

from pynetdicom import AE, evt
from pynetdicom.association import Association
from pynetdicom.dimse_messages import C_STORE_RQ
from pynetdicom.dimse_primitives import C_STORE
from pynetdicom.pdu_primitives import A_ASSOCIATE
from pynetdicom.transport import AssociationSocket

from siimdet.errors import UserError
from siimdet.imaging.decode import SYNTAXES
from siimdet.imaging.limits import MAX_FILE_BYTES
from siimdet.serve import receive_folder
from siimdet.serve.chest_images import CLASSES
from siimdet.serve.dicom_received import read_received

STORED, FAILURE, FOREIGN, FULL, MISMATCH, UNREADABLE = 0x0000, 0x0110, 0x0122, 0xA700, 0xA900, 0xC000
_VERIFICATION = "1.2.840.10008.1.1"
_ASSOCIATIONS = 10
_CONNECTIONS = 100  # with and without an association; two threads each
_PDU_BYTES = 1 << 20  # data come in 16 KiB, as we ask for; a request lists every class and syntax of its sender
_SECONDS = 60.0  # that a sender may be silent, and that a PDU may take
_REQUEST_SECONDS = 10.0  # from a connection to the request of an association
_PATIENCE = 10.0  # seconds for open associations to end once the service does
_GOODBYE = 1.0  # seconds for a sender to hear that it is cut off
_NAMED = 3  # SOP classes on a line of the log; some senders ask for all there are
_NO_SYNTAX = 0x04  # of a presentation context: its SOP class is taken, none of its transfer syntaxes

log = logging.getLogger(__name__)
# It logs what it cannot decode, and every association by address.
logging.getLogger("pynetdicom").setLevel(logging.CRITICAL)


class Receiver:
    """Listens from its making on; `out` gets STUDY/SERIES/INSTANCE.dcm by UID.

    `callers` are the titles of the entities that may send, empty: all.
    """

    def __init__(self, out: Path, host: str, port: int, *, title: str, callers: Sequence[str] = ()) -> None:
        """Raises: UserError for an address that is taken or not ours, a title that DICOM does not allow, and a folder
        that cannot be written."""
        self._out = out
        self._kept: defaultdict[Association, Counter[str]] = defaultdict(Counter)
        self._bytes: Counter[Association] = Counter()
        self._storing: set[Association] = set()
        self._gone: WeakSet[Association] = WeakSet()
        self._lock = threading.Lock()  # of the three: a sender may leave while its object is stored
        receive_folder.prepare(out)
        self._entity = _entity(title, callers)
        handlers = [
            (evt.EVT_CONN_OPEN, self._opened),
            (evt.EVT_REQUESTED, self._requested),
            (evt.EVT_REJECTED, self._rejected),
            (evt.EVT_PDU_RECV, self._count),
            (evt.EVT_DIMSE_RECV, self._complete),
            (evt.EVT_C_STORE, self._store),
            (evt.EVT_CONN_CLOSE, self._closed),
        ]
        try:
            server = self._entity.start_server((host, port), block=False, evt_handlers=handlers)
        except OSError as error:
            found = error.strerror or error
            raise UserError("receive", f"{host}:{port}", found=found, expected="a free address") from None
        assert server is not None and server.socket is not None, "it does not block, and listens"
        self._server = server
        self.port: int = server.socket.getsockname()[1]

    def close(self) -> None:
        """Take no new association, and give the open ones some seconds to end."""
        self._server.shutdown()
        _wait(_PATIENCE, lambda: not self._at_work())
        for association in self._at_work():
            association.abort(block=False)
        _wait(_GOODBYE, lambda: not self._at_work())
        # The process would wait for their threads, which are no daemons.
        for association in self._entity.active_associations:
            _hang_up(association)

    def _at_work(self) -> list[Association]:
        """The open associations, without connections that never asked for one."""
        return [each for each in self._entity.active_associations if each.is_established]

    def _opened(self, event: evt.Event) -> None:
        connection = _connection(event.assoc)
        if connection.socket is None:
            return
        # The library sets one for the socket that listens alone: a sender that stops within a PDU, or reads no answer,
        # would keep its thread for ever.
        connection.socket.settimeout(_SECONDS)
        connection.recv = functools.partial(_read, connection.socket)
        if len(self._entity.active_associations) >= _CONNECTIONS:
            connection.close()

    def _requested(self, event: evt.Event) -> None:
        """The library's own limit counts connections that never ask for an association, such as a port check's."""
        if len(self._at_work()) >= _ASSOCIATIONS:
            event.assoc.acse.send_reject(0x02, 0x03, 0x02)  # for now, by the service, local limit exceeded
            request = cast(A_ASSOCIATE, event.assoc.requestor.primitive)
            event.assoc.requestor.ae_title = request.calling_ae_title  # the library would set it later
            _say(event, f"refused, {_ASSOCIATIONS} associations are open")
            event.assoc.kill()

    def _rejected(self, event: evt.Event) -> None:
        """The library's own refusal, for which it has one reason here."""
        _say(event, "refused, not among --calling")

    def _count(self, event: evt.Event) -> None:
        """A sender of more than a file may have is cut off: it is all kept in memory until it is whole."""
        self._bytes[event.assoc] += getattr(event.pdu, "pdu_length", 0)
        if self._bytes[event.assoc] > MAX_FILE_BYTES:
            self._bytes[event.assoc] = -MAX_FILE_BYTES  # while it ends
            self._refuse(event, f"having more than {MAX_FILE_BYTES} bytes")
            event.assoc.abort(block=False)  # this thread is the one that sends it

    def _complete(self, event: evt.Event) -> None:
        self._bytes[event.assoc] = 0
        if isinstance(event.message, C_STORE_RQ):
            self._kept.setdefault(event.assoc, Counter())  # its sender may leave before it is counted

    def _store(self, event: evt.Event) -> int:
        with self._lock:
            self._storing.add(event.assoc)
        try:
            return self._stored(event)
        finally:
            with self._lock:
                self._storing.discard(event.assoc)
                if event.assoc in self._gone:
                    self._tell(event)

    def _stored(self, event: evt.Event) -> int:
        if cast(C_STORE, event.request).AffectedSOPClassUID != event.context.abstract_syntax:
            self._refuse(event, "its SOPClassUID, which was not negotiated")
            return FOREIGN
        try:
            with receive_folder.written(self._out, event.encoded_dataset()) as path:
                return self._keep(event, path)
        except UserError as error:
            # What is found in a header may be a patient's.
            self._refuse(event, f"its {error.field}")
            return UNREADABLE
        except OSError as error:
            self._refuse(event, f"the folder: {error.strerror}")
            return FULL
        except Exception:
            # The library would answer, and keep to itself what went wrong.
            log.exception("receive: an object failed")
            return FAILURE

    def _keep(self, event: evt.Event, path: Path) -> int:
        """Give a file its place. Raises: UserError for a header that gives it none; OSError."""
        found, command = read_received(path), cast(C_STORE, event.request)
        for keyword, ours, theirs in (
            ("SOPClassUID", found.sop_class, command.AffectedSOPClassUID),
            ("SOPInstanceUID", found.sop_instance, command.AffectedSOPInstanceUID),
        ):
            if ours != theirs:
                self._refuse(event, f"its {keyword}, which is not the command's")
                return MISMATCH
        receive_folder.keep(self._out, path, found.place)
        self._kept[event.assoc]["stored"] += 1
        return STORED

    def _refuse(self, event: evt.Event, reason: str) -> None:
        self._kept[event.assoc]["refused"] += 1
        _say(event, f"an object is refused for {reason}")

    def _closed(self, event: evt.Event) -> None:
        if event.assoc.requestor.primitive is None:
            # Its thread would wait for a request until the time for one is over.
            answers: Queue[Any] = event.assoc.dul.to_user_queue
            answers.put(None)
        self._bytes.pop(event.assoc, None)
        with self._lock:
            self._gone.add(event.assoc)
            if event.assoc not in self._storing:
                self._tell(event)

    def _tell(self, event: evt.Event) -> None:
        """The line of an association that has ended."""
        kept, answer = self._kept.pop(event.assoc, None), event.assoc.acceptor.primitive
        if kept:
            _say(event, ", ".join(f"{count} {outcome}" for outcome, count in sorted(kept.items(), reverse=True)))
        elif kept is None and answer is not None and answer.result == 0:
            _say(event, f"nothing stored{_not_taken(event.assoc)}")


def _entity(title: str, callers: Sequence[str]) -> AE:
    try:
        entity = AE(title)
        entity.require_calling_aet = list(callers)
    except (ValueError, TypeError):
        found = ", ".join((title, *callers))
        expected = "titles of 1 to 16 ASCII characters without backslash"
        raise UserError("receive", "--ae-title, --calling", found=found, expected=expected) from None
    entity.require_called_aet = False
    entity.acse_timeout = _REQUEST_SECONDS
    entity.dimse_timeout = entity.network_timeout = _SECONDS
    entity.maximum_associations = _CONNECTIONS
    entity.add_supported_context(_VERIFICATION)
    for sop_class in CLASSES:
        entity.add_supported_context(sop_class, sorted(SYNTAXES))
    return entity


def _say(event: evt.Event, words: str) -> None:
    """A line of the log on a sender, by its title: the library takes none with control characters."""
    log.info("receive: %s: %s", event.assoc.requestor.ae_title, words)


def _not_taken(association: Association) -> str:
    """What was asked for in vain: the first SOP classes by name, as the end of a line; empty for nothing."""
    taken = {each.abstract_syntax for each in association.accepted_contexts}
    names: dict[str, None] = {}
    for each in association.rejected_contexts:
        if (uid := each.abstract_syntax) is not None and uid not in taken:
            name = "a private class" if uid.name == uid else uid.name  # one that is not DICOM's may hold anything
            names[f"{name} (transfer syntax)" if each.result == _NO_SYNTAX else name] = None
    more = [f"{len(names) - _NAMED} more"] if len(names) > _NAMED else []
    return f"; not taken: {', '.join([*list(names)[:_NAMED], *more])}" if names else ""


def _connection(association: Association) -> AssociationSocket:
    connection = association.dul.socket
    assert connection is not None, "a server's association is made of its connection"
    return connection


def _read(connection: socket.socket, nr_bytes: int) -> bytearray:
    """So many bytes of a PDU, fewer if the sender has left. Raises: OSError for one too long, or too slow.

    The library would take what its length promises into memory, up to 4 GiB, before anybody has asked for anything.
    """
    if nr_bytes > _PDU_BYTES:
        raise OSError(f"a PDU of {nr_bytes} bytes")
    data, until = bytearray(), time.monotonic() + _SECONDS
    while len(data) < nr_bytes:
        part = connection.recv(nr_bytes - len(data))
        if not part:
            break
        data += part
        if time.monotonic() > until:
            raise TimeoutError("a PDU takes too long")
    return data


def _hang_up(association: Association) -> None:
    if (connection := _connection(association).socket) is not None:
        with contextlib.suppress(OSError):
            connection.shutdown(socket.SHUT_RDWR)


def _wait(seconds: float, holds: Callable[[], bool]) -> None:
    until = time.monotonic() + seconds
    while not holds() and time.monotonic() < until:
        time.sleep(0.05)
