"""A storage service (C-STORE SCP) that keeps the radiographs it is sent as files. The only pynetdicom import.

Source: PS3.4 annexes A (verification) and B (storage, its statuses), PS3.7 9.1.1, PS3.8.
"""

import contextlib
import logging
import os
import tempfile
import time
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import cast

from pynetdicom import AE, evt
from pynetdicom.association import Association
from pynetdicom.dimse_primitives import C_STORE

from siimdet.core.files import check_id
from siimdet.errors import UserError
from siimdet.imaging.decode import SYNTAXES
from siimdet.imaging.dicom import read_header_ids
from siimdet.imaging.limits import MAX_FILE_BYTES
from siimdet.serve.chest_images import CLASSES

STORED, FAILURE, FULL, MISMATCH, UNREADABLE = 0x0000, 0x0110, 0xA700, 0xA900, 0xC000
_VERIFICATION = "1.2.840.10008.1.1"
_UID_LENGTH = 64
_INCOMING = ".incoming."
_SECONDS = 60  # that a sender may be silent
_PATIENCE = 10.0  # seconds for open associations to end once the service does

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
        _prepare(out)
        self._entity = _entity(title, callers)
        handlers = [
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
        until = time.monotonic() + _PATIENCE
        while (at_work := self._at_work()) and time.monotonic() < until:
            time.sleep(0.05)
        for association in at_work:
            association.abort(block=False)

    def _at_work(self) -> list[Association]:
        """The open associations, without connections that never asked for one."""
        return [each for each in self._entity.active_associations if each.is_established]

    def _count(self, event: evt.Event) -> None:
        """A sender of more than a file may have is cut off: it is all kept in memory until it is whole."""
        self._bytes[event.assoc] += getattr(event.pdu, "pdu_length", 0)
        if self._bytes[event.assoc] > MAX_FILE_BYTES:
            self._bytes[event.assoc] = -MAX_FILE_BYTES  # while it ends
            self._refuse(event, f"having more than {MAX_FILE_BYTES} bytes")
            event.assoc.abort(block=False)  # this thread is the one that sends it

    def _complete(self, event: evt.Event) -> None:
        self._bytes[event.assoc] = 0

    def _store(self, event: evt.Event) -> int:
        try:
            with _written(self._out, event.encoded_dataset()) as path:
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
        ids = read_header_ids(path)
        uids = {"StudyInstanceUID": ids.study_uid, "SeriesInstanceUID": ids.series_uid, "SOPInstanceUID": ids.sop_uid}
        study, series, instance = (_checked(uid, field) for field, uid in uids.items())
        if instance != cast(C_STORE, event.request).AffectedSOPInstanceUID:
            self._refuse(event, "its SOPInstanceUID, which is not the command's")
            return MISMATCH
        place = self._out / study / series / f"{instance}.dcm"
        # The same again stays as it is, and is not converted again; what was corrected takes the place.
        if not (place.is_file() and place.read_bytes() == path.read_bytes()):
            place.parent.mkdir(parents=True, exist_ok=True)
            os.replace(path, place)
        self._kept[event.assoc]["stored"] += 1
        return STORED

    def _refuse(self, event: evt.Event, reason: str) -> None:
        self._kept[event.assoc]["refused"] += 1
        log.info("receive: %s: an object is refused for %s", event.assoc.requestor.ae_title, reason)

    def _closed(self, event: evt.Event) -> None:
        self._bytes.pop(event.assoc, None)
        if kept := self._kept.pop(event.assoc, None):
            told = ", ".join(f"{count} {outcome}" for outcome, count in sorted(kept.items(), reverse=True))
            log.info("receive: %s: %s", event.assoc.requestor.ae_title, told)


def _entity(title: str, callers: Sequence[str]) -> AE:
    try:
        entity = AE(title)
        entity.require_calling_aet = list(callers)
    except (ValueError, TypeError):
        found = ", ".join((title, *callers))
        expected = "titles of 1 to 16 ASCII characters without backslash"
        raise UserError("receive", "--ae-title, --calling", found=found, expected=expected) from None
    entity.require_called_aet = False
    entity.acse_timeout = entity.dimse_timeout = entity.network_timeout = _SECONDS
    entity.add_supported_context(_VERIFICATION)
    for sop_class in CLASSES:
        entity.add_supported_context(sop_class, sorted(SYNTAXES))
    return entity


def _prepare(out: Path) -> None:
    """Make the folder, without what a killed service left in it. Raises: UserError if it cannot be written."""
    try:
        out.mkdir(parents=True, exist_ok=True)
        for left in out.glob(f"{_INCOMING}*"):
            left.unlink()
        tempfile.TemporaryFile(dir=out).close()
    except OSError as error:
        raise UserError(out, "--out", found=error.strerror, expected="a folder to write to") from None


@contextlib.contextmanager
def _written(out: Path, data: bytes) -> Iterator[Path]:
    """Bytes in a file of the folder, on the disk, which is deleted unless the block moves it."""
    handle, name = tempfile.mkstemp(prefix=_INCOMING, dir=out)
    try:
        with open(handle, "wb") as stream:
            stream.write(data)
            stream.flush()
            os.fsync(stream.fileno())
        yield Path(name)
    finally:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(name)


def _checked(uid: str, field: str) -> str:
    if len(uid) > _UID_LENGTH:
        raise UserError("object", field, found=f"{len(uid)} characters", expected=f"{_UID_LENGTH} at most")
    return check_id(uid, file="object", field=field)
