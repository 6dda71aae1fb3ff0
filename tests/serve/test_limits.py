"""Who may ask, for how much and how often."""

import asyncio
from concurrent.futures import ThreadPoolExecutor

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from starlette.responses import PlainTextResponse

from siimdet.serve.app import STATIC
from siimdet.serve.guard import Guard, Limits
from siimdet.serve.loopback import is_loopback
from siimdet.serve.rate import Rate

FORM = {"Content-Type": "multipart/form-data; boundary=x"}
PART = b'--x\r\nContent-Disposition: form-data; name="files"; filename="a"\r\n\r\n'


def test_a_request_that_says_it_is_too_large_is_not_read(serve):
    server = serve(limits=Limits(request_bytes=1 << 20))
    answer = server.post(bytes((1 << 20) + 1))
    assert (answer.status_code, answer.json()) == (413, {"detail": "a request has at most 1 MiB"})


def test_a_request_that_does_not_say_its_size_is_cut_off(serve):
    server = serve(limits=Limits(request_bytes=1 << 20))
    answer = server.ask("POST", "/api/predict", content=(PART + bytes(1 << 19) for _ in range(3)), headers=FORM)
    assert (answer.status_code, answer.json()) == (413, {"detail": "a request has at most 1 MiB"})


def test_a_file_that_is_too_large(serve, png):
    answer = serve(limits=Limits(file_bytes=1 << 20)).post(png(), bytes((1 << 20) + 1))
    assert (answer.status_code, answer.json()) == (413, {"detail": "file 2: a file has at most 1 MiB"})


def test_too_many_files_and_none(serve, png):
    server = serve(limits=Limits(files=2))
    answer = server.post(png(1), png(2), png(3))
    assert (answer.status_code, "at most" in answer.text or "Maximum number of files is 2" in answer.text) == (
        400,
        True,
    )
    assert server.post().status_code == 422
    assert server.ask("POST", "/api/predict", content=b"{}").status_code == 422


def test_a_client_that_sends_too_slowly(serve, png):
    answer = serve(limits=Limits(seconds=0)).post(png())
    assert (answer.status_code, answer.json()) == (408, {"detail": "the files took more than 0 s"})


def test_an_address_that_asks_too_often(serve, png):
    server = serve(limits=Limits(per_minute=2))
    assert [server.post(png()).status_code for _ in range(3)] == [200, 200, 429]
    refused = server.post(png())
    assert 1 <= int(refused.headers["retry-after"]) <= 60
    assert server.get("/api/models").status_code == 200


def test_addresses_are_counted_apart_and_forgotten(monkeypatch):
    now = [1000.0]
    monkeypatch.setattr("siimdet.serve.rate.time.monotonic", lambda: now[0])
    rate = Rate(2)
    assert [rate.wait("a"), rate.wait("a"), rate.wait("a"), rate.wait("b")] == [0, 0, 60, 0]
    now[0] += 45
    assert rate.wait("a") == 15
    now[0] += 16
    assert rate.wait("a") == 0


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({}, 200),
        ({"Sec-Fetch-Site": "same-origin"}, 200),
        ({"Sec-Fetch-Site": "cross-site"}, 403),
        ({"Sec-Fetch-Site": "same-site"}, 403),
        ({"Origin": "http://evil.example"}, 403),
        ({"Origin": "null"}, 403),
    ],
)
def test_pages_of_other_sites_change_nothing(serve, png, headers, status):
    assert serve().post(png(), headers=headers).status_code == status


def test_the_servers_own_page_may(serve, png):
    server = serve()
    assert server.post(png(), headers={"Origin": server.address}).status_code == 200


@pytest.mark.parametrize("host", ["evil.example", "127.0.0.1.evil.example", "[", ""])
def test_names_that_are_not_the_servers(serve, host):
    answer = serve().get("/api/models", headers={"Host": host})
    assert (answer.status_code, answer.json()) == (421, {"detail": "this server does not go by that name"})


def test_a_token_opens_by_header_and_by_cookie(serve):
    server = serve(token="s3cret/ü")
    assert server.get("/healthz").status_code == 200
    refused = server.get("/api/models")
    assert (refused.status_code, refused.headers["www-authenticate"]) == (401, "Bearer")
    for wrong in ("Bearer wrong", "Basic s3cret", "Bearer", "s3cret"):
        assert server.get("/metrics", headers={"Authorization": wrong}).status_code == 401
    assert serve(token="s3cret").get("/metrics", headers={"Authorization": "Bearer s3cret"}).status_code == 200
    with httpx.Client(base_url=server.address, trust_env=False) as client:
        assert client.get("/?token=wrong").status_code == 401
        assert client.get("/api/models?token=s3cret/ü").status_code == 401
        opened = client.get("/", params={"token": "s3cret/ü"})
        assert (opened.status_code, opened.headers["location"]) == (303, "./")
        cookie = opened.headers["set-cookie"]
        assert {"HttpOnly", "SameSite=strict"} <= {part.strip() for part in cookie.split(";")}
        assert "s3cret" not in cookie
        assert client.get("/api/models").status_code == 200
        # A bookmark that holds the token is left at once, with the cookie too.
        assert client.get("/", params={"token": "s3cret/ü"}).status_code == 303
        assert client.get("/api/models", headers={"Cookie": 'a="; siimdet-token=x'}).status_code == 401


def test_a_browser_is_asked_for_the_token_and_a_program_told(serve):
    server = serve(token="s3cret")
    asked = server.get("/", headers={"Accept": "text/html,*/*"})
    assert (asked.status_code, asked.headers["content-type"]) == (401, "text/html; charset=utf-8")
    assert 'name="token"' in asked.text
    for path, accept in (("/", "*/*"), ("/api/models", "text/html")):
        assert "Bearer TOKEN" in server.get(path, headers={"Accept": accept}).json()["detail"]


@given(
    st.dictionaries(st.sampled_from([b"host", b"cookie", b"origin", b"authorization", b"content-length"]), st.binary()),
    st.binary(),
    st.sampled_from(["GET", "POST", "DELETE"]),
)
def test_no_header_opens_or_breaks_the_guard(headers, query, method):
    guard = Guard(PlainTextResponse("in"), token="s3cret", hosts=frozenset({"127.0.0.1"}), limits=Limits())
    scope = {"type": "http", "method": method, "path": "/", "query_string": query, "headers": list(headers.items())}
    told = []

    async def send(message):
        told.append(message)

    # In a thread of its own: a browser that other tests hold open has a loop that runs in this one.
    with ThreadPoolExecutor(1) as pool:
        pool.submit(lambda: asyncio.run(guard(scope, send, send))).result()  # type: ignore[arg-type] - nothing is received
    assert told[0]["status"] in (401, 421)


def test_every_answer_is_guarded(serve):
    server = serve(limits=Limits(request_bytes=1))
    for answer in (server.get("/healthz"), server.get("/api/nothing"), server.get("/"), server.post(b"ab")):
        policy = answer.headers["content-security-policy"]
        assert "default-src 'none'" in policy
        assert "frame-ancestors 'none'" in policy
        assert "unsafe" not in policy.replace("wasm-unsafe-eval", "")
        assert [part for part in policy.split("; ") if "blob:" in part or "data:" in part] == ["img-src 'self' blob:"]
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert answer.headers["cache-control"] == "no-store"


def test_the_page_says_how_to_build_the_viewer_or_is_the_viewer(serve, tmp_path):
    assert "make web" in serve(static=tmp_path / "none").get("/").text
    (tmp_path / "assets").mkdir()
    (tmp_path / "index.html").write_text("<title>viewer</title>")
    (tmp_path / "assets" / "a-1.js").write_text("1")
    built = serve(static=tmp_path)
    assert built.get("/").text == "<title>viewer</title>"
    assert "immutable" in built.get("/assets/a-1.js").headers["cache-control"]
    assert built.get("/../../etc/passwd").status_code == 404
    assert STATIC.name == "static"


@pytest.mark.parametrize(
    ("host", "loopback"),
    [("127.0.0.1", True), ("127.0.0.2", True), ("::1", True), ("localhost", True), ("0.0.0.0", False), ("ward", False)],
)
def test_loopback(host, loopback):
    assert is_loopback(host) == loopback
