"""Who begins to send and stops holds no place for long, and no address holds all of them."""

import contextlib
import socket
import time
from urllib.parse import urlsplit

import httpx
import pytest

from siimdet.serve.guard import Limits

pytestmark = pytest.mark.timeout(180)

HEAD = (
    b"POST /api/predict HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 100000\r\n"
    b"Content-Type: multipart/form-data; boundary=x\r\n\r\n--x\r\n"
)


@contextlib.contextmanager
def senders(server, count):
    """Connections that have sent the head of a form and its first bytes, each with a place."""
    address = urlsplit(server.address)
    with contextlib.ExitStack() as stack:
        opened = []
        for _ in range(count):
            opened.append(stack.enter_context(socket.create_connection((address.hostname, address.port), timeout=60)))
            opened[-1].sendall(HEAD)
        wait_for(lambda: len(server.jobs._receiving) == count)
        yield opened


def wait_for(holds):
    until = time.monotonic() + 60
    while not holds():
        assert time.monotonic() < until, "nothing happened"
        time.sleep(0.01)


def test_a_sender_that_falls_silent_is_given_up_and_its_place_is_free(serve, png):
    server = serve(limits=Limits(silence=3), longest=1)
    address = urlsplit(server.address)
    with socket.create_connection((address.hostname, address.port), timeout=60) as silent:
        silent.sendall(HEAD)
        answer = b"".join(iter(lambda: silent.recv(4096), b""))  # the server closes the connection
    assert answer.startswith(b"HTTP/1.1 408 ")
    assert b"connection: close" in answer.lower()
    assert answer.endswith(b'{"detail":"no byte came for 3 s"}')
    assert server.post(png()).status_code == 200


def test_one_address_holds_half_of_the_places(serve, png):
    server = serve(longest=4)
    with senders(server, 2):
        refused = server.post(png())
        assert refused.status_code == 503
        assert refused.json() == {"detail": "this address is sending as many studies as it may at once"}
        assert int(refused.headers["retry-after"]) > 0
        other = httpx.HTTPTransport(local_address="127.0.0.2")
        with httpx.Client(base_url=server.address, transport=other, timeout=120) as client:
            assert client.post("/api/predict?wait=1", files=[("files", ("a", png()))]).status_code == 200
    wait_for(lambda: not server.jobs._receiving)
    assert server.post(png()).status_code == 200
