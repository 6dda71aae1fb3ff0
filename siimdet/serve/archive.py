"""An image archive over DICOMweb: which studies it has, their images, and storing. The only dicomweb_client import.

Source: PS3.18, QIDO-RS (10.6), WADO-RS (10.4) and STOW-RS (10.5).
"""

import contextlib
import logging
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from email.message import Message
from typing import Any

import requests
from dicomweb_client.api import DICOMwebClient
from pydicom.datadict import tag_for_keyword
from pydicom.dataset import Dataset
from python_multipart.multipart import MultipartParser

from siimdet.errors import ImageError, UserError

_PAGE = 200  # studies asked for at once
_CHUNK = 1 << 16
_WHOLE = 1 << 30  # bytes that are stored in one piece: not every archive takes bodies of unknown size
_TIMEOUTS = (10, 120)  # seconds to connect, and between two pieces of an answer
_NOT_NOW = frozenset((401, 403, 408, 429, 502, 503, 504, 507))
_UID = re.compile(r"(?=.{1,64}$)[0-9]+(\.[0-9]+)*")
_INSTANCE = (
    *("SeriesInstanceUID", "SOPInstanceUID", "SOPClassUID"),
    *("Modality", "BodyPartExamined", "ViewPosition"),
)
_ACCEPT = {"Accept": 'multipart/related; type="application/dicom"; transfer-syntax=*', "Accept-Encoding": "identity"}


class ArchiveDown(Exception):
    """The archive does not answer, or to nobody now: the message is why."""


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
        if not re.fullmatch(r"https?://[^/@\s]+(/\S*)?", url):
            expected = "http(s)://HOST[:PORT]/PATH, without user and password"
            raise UserError("serve", "--pacs", found=re.sub(r"//[^/]*@", "//...@", url), expected=expected)
        self.url = url.rstrip("/")
        self._session = requests.Session()
        if user is not None:
            self._session.auth = (user, password or "")
        self._client = DICOMwebClient(
            self.url, session=self._session, chunk_size=_WHOLE, permissive_uid=True, timeout=_TIMEOUTS
        )
        self._client.set_http_retry_params(retry=False)

    def studies(self, modality: str, dates: str | None = None) -> list[ListedStudy]:
        """All studies that have a modality; `dates` is a range of study dates, YYYYMMDD-YYYYMMDD."""
        filters = {"ModalitiesInStudy": modality} | ({"StudyDate": dates} if dates else {})
        found: dict[str, ListedStudy] = {}
        offset = 0
        while True:
            try:
                with _judged():
                    page = self._client.search_for_studies(
                        search_filters=filters,
                        fields=["NumberOfStudyRelatedInstances"],
                        limit=offset + _PAGE,  # Orthanc 1.10 counts it from the first study, not from the offset
                        offset=offset,
                    )
                    listed = [_listed(entry) for entry in page]
            except ArchiveRefusal as error:  # of a search: the address is not one of DICOMweb
                raise ArchiveDown(str(error)) from None
            offset, before = offset + len(page), len(found)
            found |= {study.uid: study for study in listed if _UID.fullmatch(study.uid)}
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
                return _first_part(answer, most)

    def store(self, study_uid: str, objects: Sequence[Dataset]) -> None:
        """Store objects of a study; those that the archive has already are no error."""
        with _judged():
            answer = self._client.store_instances(objects, study_instance_uid=study_uid)
        if failed := answer.get("FailedSOPSequence"):
            codes = sorted({f"{item.get('FailureReason', 0):04X}" for item in failed})
            raise ArchiveRefusal(f"failure {', '.join(codes)} of {len(failed)} objects")


@contextlib.contextmanager
def _judged() -> Iterator[None]:
    """What goes wrong with a request, as one of our two kinds; no text of the archive's, which may name patients."""
    try:
        yield
    except requests.HTTPError as error:
        assert error.response is not None, "raised for a status"
        status = error.response.status_code
        raise (ArchiveDown if status in _NOT_NOW else ArchiveRefusal)(f"HTTP {status}") from None
    except requests.Timeout:
        raise ArchiveDown("no answer in time") from None
    except requests.JSONDecodeError:
        raise ArchiveRefusal("an answer that is no DICOM JSON") from None
    except (requests.RequestException, OSError) as error:
        raise ArchiveDown(type(error).__name__) from None
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ArchiveRefusal(f"an answer that is no DICOMweb ({type(error).__name__})") from None


def _first_part(answer: requests.Response, most: int) -> bytes:
    """The first part of a multipart answer, or a plain one. Raises: ImageError beyond so many bytes; ValueError."""
    header = Message()
    header["content-type"] = answer.headers.get("Content-Type", "")
    boundary = header.get_param("boundary")
    data, parts = bytearray(), [0]

    def begin() -> None:
        parts[0] += 1

    def take(piece: bytes, start: int = 0, end: int | None = None) -> None:
        if parts[0] <= 1:
            data.extend(piece[start:end])
        if len(data) > most:
            raise ImageError("study", "image file", found=f"more than {most} bytes", expected="a smaller one")

    if header.get_content_maintype() == "multipart" and isinstance(boundary, str):
        write = MultipartParser(boundary, {"on_part_begin": begin, "on_part_data": take}).write
    else:
        write = take
    for chunk in answer.iter_content(_CHUNK):
        write(chunk)
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
