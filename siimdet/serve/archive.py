"""An image archive over DICOMweb: which studies it has, their images, and storing. The only dicomweb_client import.

Source: PS3.18, QIDO-RS (10.6), WADO-RS (10.4) and STOW-RS (10.5).
"""

import contextlib
import logging
import re
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from email.message import Message
from typing import Any
from urllib.parse import urlsplit

import requests
from dicomweb_client.api import DICOMwebClient
from pydicom.datadict import tag_for_keyword
from pydicom.dataset import Dataset
from python_multipart.multipart import MultipartParser
from requests.auth import HTTPBasicAuth

from siimdet.errors import ImageError, UserError

_PAGE = 100  # studies asked for at once; Azure refuses more than 200
_CHUNK = 1 << 16
_WHOLE = 1 << 30  # bytes that are stored in one piece: not every archive takes bodies of unknown size
_TIMEOUTS = (10, 120)  # seconds to connect, and between two pieces of an answer
_LONGEST = 300.0  # seconds that a file may take in all
_NOBODY = frozenset((401, 403, 429, 503, 507))
_NOT_NOW = frozenset((408, 502, 504))
_UID = re.compile(r"(?=.{1,64}$)[0-9]+(\.[0-9]+)*")
_INSTANCE = (
    *("SeriesInstanceUID", "SOPInstanceUID", "SOPClassUID"),
    *("Modality", "BodyPartExamined", "ViewPosition"),
)
_ACCEPT = {"Accept": 'multipart/related; type="application/dicom"; transfer-syntax=*', "Accept-Encoding": "identity"}
_ADDRESS = "http(s)://HOST[:PORT]/PATH, without user, password and query"


class ArchiveDown(Exception):
    """The archive does not answer: the message is why."""


class ArchiveBusy(ArchiveDown):
    """The archive answers that it serves nobody now, or not us: no password, no room, no time."""


class ArchiveRefusal(Exception):
    """The archive answers, but does not give or take this: the message is why."""


@dataclass(frozen=True, slots=True)
class ListedStudy:
    """A study as a search tells it: its UID, how many instances it has if that is told, its date and time."""

    uid: str
    instances: int | None
    when: str


@dataclass(frozen=True, slots=True)
class Instance:
    """An object of a study; of BodyPartExamined and ViewPosition what is told, else empty."""

    series_uid: str
    sop_uid: str
    sop_class: str
    modality: str
    body_part: str
    view: str


# They log UIDs at every request, the archive's warnings, and a traceback of each failure.
for _name in ("dicomweb_client", "retrying"):
    logging.getLogger(_name).setLevel(logging.CRITICAL)


class Archive:
    """A DICOMweb service. Every method raises ArchiveDown; those of one study also ArchiveRefusal."""

    def __init__(self, url: str, *, user: str | None = None, password: str | None = None) -> None:
        """Take the address of the service. Raises: UserError for one that is none, or has a password in it."""
        self.url = _checked_address(url)
        self._session = requests.Session()
        if user:
            self._session.auth = HTTPBasicAuth(user.encode(), (password or "").encode())
        self._client = DICOMwebClient(
            self.url, session=self._session, chunk_size=_WHOLE, permissive_uid=True, timeout=_TIMEOUTS
        )
        self._client.host = urlsplit(self.url).netloc  # it would leave out the port
        self._client.set_http_retry_params(retry=False)

    def answers(self) -> bool:
        """Whether a search is answered now."""
        with contextlib.suppress(ArchiveDown):
            self._search({}, limit=1, offset=0)
            return True
        return False

    def studies(self, modality: str, dates: str | None = None) -> list[ListedStudy]:
        """All studies that have a modality; `dates` is a range of study dates, YYYYMMDD-YYYYMMDD."""
        filters = {"ModalitiesInStudy": modality} | ({"StudyDate": dates} if dates else {})
        found: dict[str, ListedStudy] = {}
        offset, last, from_first = 0, 0, False
        while True:
            page = self._search(filters, limit=_PAGE + offset * from_first, offset=offset)
            if not page and last >= _PAGE and not from_first:
                # Orthanc 1.10 counts the limit from the first study, not from the offset.
                from_first = True
                continue
            before, last, offset = len(found), len(page), offset + len(page)
            found |= {study.uid: study for study in page if _UID.fullmatch(study.uid)}
            if len(found) == before:  # an empty page, or an archive that knows no pages
                return list(found.values())

    def instances(self, study_uid: str) -> list[Instance]:
        """The objects of a study."""
        with _judged():
            found = [_instance(entry) for entry in self._client.retrieve_study_metadata(study_uid)]
        return [each for each in found if _UID.fullmatch(each.series_uid) and _UID.fullmatch(each.sop_uid)]

    def fetch(self, study_uid: str, instance: Instance, *, most: int) -> bytes:
        """An object as a DICOM file, in the transfer syntax that the archive has it in.

        Raises: ImageError for more than `most` bytes.
        """
        place = f"studies/{study_uid}/series/{instance.series_uid}/instances/{instance.sop_uid}"
        with _judged():
            answer = self._session.get(f"{self.url}/{place}", headers=_ACCEPT, stream=True, timeout=_TIMEOUTS)
            with contextlib.closing(answer):
                answer.raise_for_status()
                data = _file_of(answer, most)
        if data[128:132] != b"DICM":
            raise ArchiveRefusal("an answer that is no DICOM file")
        return data

    def store(self, study_uid: str, objects: Sequence[Dataset]) -> None:
        """Send objects of a study. What became of them is for `instances` to tell: answers differ too much."""
        with _judged():
            self._client.store_instances(objects, study_instance_uid=study_uid)

    def _search(self, filters: dict[str, str], *, limit: int, offset: int) -> list[ListedStudy]:
        """Raises: ArchiveDown, also for a refusal: the address is not one of DICOMweb."""
        fields = ["NumberOfStudyRelatedInstances"]
        try:
            with _judged():
                page = self._client.search_for_studies(
                    search_filters=filters, fields=fields, limit=limit, offset=offset
                )
                return [_listed(entry) for entry in page]
        except ArchiveRefusal as error:
            if limit > _PAGE:  # more than it gives at once: what it has, it has given
                return []
            raise ArchiveDown(str(error)) from None


def _checked_address(url: str) -> str:
    try:
        parts = urlsplit(url)
        sound = parts.scheme in ("http", "https") and parts.hostname and "@" not in url and parts.port != 0
    except ValueError:  # a port that is none
        sound = False
    if not sound or re.search(r"[\s?#]", url):
        raise UserError("serve", "--pacs", found=re.sub(r"//.*@", "//...@", url).split("?")[0], expected=_ADDRESS)
    return url.rstrip("/")


@contextlib.contextmanager
def _judged() -> Iterator[None]:
    """What goes wrong with a request, as one of our kinds; no text of the archive's, which may name patients."""
    try:
        yield
    except requests.HTTPError as error:
        assert error.response is not None, "raised for a status"
        status = error.response.status_code
        kind = ArchiveBusy if status in _NOBODY else ArchiveDown if status in _NOT_NOW else ArchiveRefusal
        raise kind(f"HTTP {status}") from None
    except requests.Timeout:
        raise ArchiveDown("no answer in time") from None
    except requests.JSONDecodeError:
        raise ArchiveRefusal("an answer that is no DICOM JSON") from None
    except (requests.RequestException, OSError) as error:
        raise ArchiveDown(type(error).__name__) from None
    except (ValueError, KeyError, TypeError, AttributeError, SyntaxError) as error:  # the last one: of XML
        raise ArchiveRefusal(f"an answer that is no DICOMweb ({type(error).__name__})") from None


def _file_of(answer: requests.Response, most: int) -> bytes:
    """The first part of a multipart answer, or a plain one.

    Raises: ImageError beyond so many bytes; ValueError for another answer, or half a one; ArchiveDown.
    """
    header = Message()
    header["content-type"] = answer.headers.get("Content-Type", "")
    boundary = header.get_param("boundary")
    data, parts, ended, until = bytearray(), [0], [False], time.monotonic() + _LONGEST

    def begin() -> None:
        parts[0] += 1

    def end() -> None:
        ended[0] = True

    def take(piece: bytes, start: int = 0, stop: int | None = None) -> None:
        if parts[0] <= 1:
            data.extend(piece[start:stop])
        if len(data) > most:
            raise ImageError("study", "image file", found=f"more than {most} bytes", expected="a smaller one")

    write: Callable[[bytes], object] = take
    if header.get_content_type() == "multipart/related" and isinstance(boundary, str):
        write = MultipartParser(boundary, {"on_part_begin": begin, "on_part_data": take, "on_end": end}).write
    elif header.get_content_type() != "application/dicom":
        raise ValueError("neither one DICOM file nor several")
    for chunk in answer.iter_content(_CHUNK):
        write(chunk)
        if time.monotonic() > until:
            raise ArchiveDown("no end of an answer")
    if parts[0] and not ended[0]:
        raise ValueError("half an answer")
    return bytes(data)


def _listed(entry: dict[str, Any]) -> ListedStudy:
    uid, count = _value(entry, "StudyInstanceUID"), _value(entry, "NumberOfStudyRelatedInstances")
    if not uid:
        raise ValueError("no study: the answer is not one of DICOMweb")
    return ListedStudy(uid, int(count) if count else None, _value(entry, "StudyDate") + _value(entry, "StudyTime"))


def _instance(entry: dict[str, Any]) -> Instance:
    return Instance(*(_value(entry, keyword) for keyword in _INSTANCE))


def _value(entry: dict[str, Any], keyword: str) -> str:
    """The first value of an attribute in the DICOM JSON model, as text; empty without one."""
    values = entry.get(f"{tag_for_keyword(keyword):08X}", {}).get("Value") or [""]
    return str(values[0] if values[0] is not None else "").strip()
