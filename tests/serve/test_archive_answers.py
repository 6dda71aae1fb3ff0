"""What archives other than the tested one may answer: a server that says what it is told to."""

import json
import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, urlsplit

import pytest
from pydicom.dataset import Dataset

from siimdet.errors import ImageError, UserError
from siimdet.serve.archive import Archive, ArchiveBusy, ArchiveDown, ArchiveRefusal, Instance, ListedStudy

FILE = bytes(128) + b"DICM" + b"and so on, with \r\n--in it"
IMAGE = Instance("1.2.1", "1.2.1.1", "", "CR", "", "")
PARTS = b"--edge\r\nContent-Type: application/dicom\r\n\r\n" + FILE + b"\r\n--edge--\r\n"
RELATED = 'multipart/related; type="application/dicom"; boundary=edge'
Answer = tuple[int, str, bytes]


@pytest.fixture
def says(monkeypatch):
    """says(lambda address, query: (status, type, body)) is an archive whose server answers so."""
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    servers = []

    def says_(answer: Callable[[str, dict[str, str]], Answer]) -> Archive:
        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                self.rfile.read(int(self.headers.get("Content-Length", 0)))
                assert self.headers["Host"] == f"127.0.0.1:{self.server.server_address[1]}"
                parts = urlsplit(self.path)
                status, kind, body = answer(parts.path, {key: each[0] for key, each in parse_qs(parts.query).items()})
                self.send_response(status)
                self.send_header("Content-Type", kind)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            do_POST = do_GET

            def log_message(self, *_: object) -> None:
                pass

        servers.append(ThreadingHTTPServer(("127.0.0.1", 0), Handler))
        threading.Thread(target=servers[-1].serve_forever, daemon=True).start()
        return Archive(f"http://127.0.0.1:{servers[-1].server_address[1]}/dicom-web")

    yield says_
    for server in servers:
        server.shutdown()
        server.server_close()


def study(number: int) -> dict:
    return {"0020000D": {"vr": "UI", "Value": [f"1.{number}"]}, "00080020": {"vr": "DA", "Value": ["20260101"]}}


def listed(entries: list) -> Answer:
    return 200, "application/dicom+json; charset=utf-8", json.dumps(entries).encode() if entries else b""


@pytest.mark.parametrize("count", [0, 1, 99, 100, 101, 200, 250])
@pytest.mark.parametrize("most", [7, 100, 1000])
def test_every_study_is_listed_by_archives_that_give_few_or_refuse_to_give_many(says, count, most):
    asked = []

    def answer(_, query):
        limit, offset = int(query["limit"]), int(query["offset"])
        asked.append(limit)
        if limit > 200:
            return 400, "text/plain", b"at most 200"
        return listed([study(number) for number in range(count)][offset : offset + min(limit, most)])

    found = says(answer).studies("CR")
    assert found == [ListedStudy(f"1.{number}", None, "20260101") for number in range(count)]
    assert len(asked) <= count / min(most, 100) + 3


def test_an_archive_that_knows_no_pages_is_asked_twice(says):
    asked = []
    archive = says(lambda *_: (asked.append(1), listed([study(1), study(2)]))[1])
    assert len(archive.studies("CR")) == 2
    assert len(asked) == 2


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        *((status, ArchiveBusy) for status in (401, 403, 429, 503, 507)),
        *((status, ArchiveDown) for status in (408, 502, 504)),
        *((status, ArchiveRefusal) for status in (400, 404, 409, 500)),
    ],
)
def test_statuses(says, status, kind):
    archive = says(lambda *_: (status, "text/html", b"<p>Doe^Jane"))
    for ask in (lambda: archive.instances("1.2"), lambda: archive.fetch("1.2", IMAGE, most=999)):
        with pytest.raises(kind) as raised:
            ask()
        assert type(raised.value) is kind
        assert str(raised.value) == f"HTTP {status}"
    with pytest.raises(ArchiveDown, match=f"^HTTP {status}$"):
        archive.studies("CR")
    assert not archive.answers()


@pytest.mark.parametrize("body", [b"<html>", b'{"a": 1}', b"[1]", b'[{"0020000D": 3}]'])
def test_a_search_that_is_answered_with_something_else_is_an_archive_that_is_down(says, body):
    with pytest.raises(ArchiveDown, match="an answer that is no DICOM"):
        says(lambda *_: (200, "application/json", body)).studies("CR")


@pytest.mark.parametrize(
    ("kind", "body"),
    [
        (RELATED, PARTS),
        (RELATED, b"\r\n" + PARTS),
        ("application/dicom", FILE),
        (RELATED.upper().replace("EDGE", "edge"), PARTS),
    ],
)
def test_a_file_comes_alone_or_as_a_part(says, kind, body):
    assert says(lambda *_: (200, kind, body)).fetch("1.2", IMAGE, most=len(FILE)) == FILE


@pytest.mark.parametrize(
    ("kind", "body"),
    [
        (RELATED, PARTS[:-20]),
        (RELATED, b""),
        (RELATED, PARTS.replace(b"DICM", b"DIAM")),
        (RELATED.replace("; boundary=edge", ""), PARTS),
        ("text/html", b"<p>log in"),
        ("text/html", FILE),
        ("application/dicom", b""),
    ],
)
def test_half_a_file_or_none_is_a_refusal(says, kind, body):
    with pytest.raises(ArchiveRefusal, match="an answer that is no DICOM"):
        says(lambda *_: (200, kind, body)).fetch("1.2", IMAGE, most=999)


def test_a_file_of_too_many_bytes_is_refused_for_good(says):
    with pytest.raises(ImageError, match=f"found more than {len(FILE) - 1} bytes"):
        says(lambda *_: (200, RELATED, PARTS)).fetch("1.2", IMAGE, most=len(FILE) - 1)


@pytest.mark.parametrize(
    ("status", "kind", "body"),
    [(200, "text/html", b"<p>"), (204, "", b""), (202, "application/dicom+json; charset=utf-8", b"{}")],
)
def test_any_answer_to_what_is_stored_that_is_no_error_waits_for_the_next_listing(says, status, kind, body):
    says(lambda *_: (status, kind, body)).store("1.2", [])


def test_an_answer_to_what_is_stored_that_cannot_be_read_is_a_refusal(says):
    with pytest.raises(ArchiveRefusal, match=r"no DICOMweb \(ParseError\)"):
        says(lambda *_: (200, "application/dicom+xml", b"<")).store("1.2", [Dataset()][:0])


@pytest.mark.parametrize(
    ("address", "shown"),
    [
        ("ftp://a/b", "ftp://a/b"),
        ("http://me:secret@a/b", "http://...@a/b"),
        ("http://me:se/cret@a/b", "http://...@a/b"),
        ("a", "a"),
        ("http:///b", "http:///b"),
        ("http://a:port/b", "http://a:port/b"),
        ("http://a:99999/b", "http://a:99999/b"),
        ("http://a/b?key=secret", "http://a/b"),
        ("http://a/b c", "http://a/b c"),
    ],
)
def test_an_address_that_is_none_or_has_a_secret_is_one_line(address, shown):
    with pytest.raises(UserError) as refused:
        Archive(address)
    expected = "expected http(s)://HOST[:PORT]/PATH, without user, password and query"
    assert str(refused.value) == f"serve: --pacs: found {shown}, {expected}"


def test_an_address_may_be_of_the_next_protocol():
    assert Archive("https://[::1]:8443/dicom-web/", user="ä", password="€").url == "https://[::1]:8443/dicom-web"
