"""What every request passes: checks of host, origin, token, size and rate; and what every answer carries."""

import hashlib
import hmac
from dataclasses import dataclass
from http.cookies import CookieError, SimpleCookie
from urllib.parse import parse_qs, urlsplit

from starlette.responses import HTMLResponse, JSONResponse, RedirectResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from siimdet.serve.rate import Rate
from siimdet.serve.token_page import token_page

COOKIE = "siimdet-token"
OPEN_PATHS = ("/healthz", "/icon.svg")
"""What needs no token: it tells nothing."""

_READS = ("GET", "HEAD", "OPTIONS")
_BEARER = {"WWW-Authenticate": "Bearer"}
_HEADERS = (
    (
        b"content-security-policy",
        b"default-src 'none'; script-src 'self' 'wasm-unsafe-eval'; worker-src 'self'; style-src 'self'; "
        b"img-src 'self' blob:; connect-src 'self'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'",
    ),
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"no-referrer"),
    (b"cross-origin-opener-policy", b"same-origin"),
    (b"cross-origin-resource-policy", b"same-origin"),
)
_HASHED = "/assets/"  # the viewer's files, whose names change with their content
_KEEP, _NO_STORE = (b"cache-control", b"private, max-age=31536000, immutable"), (b"cache-control", b"no-store")


@dataclass(frozen=True, slots=True)
class Limits:
    """What a client may ask for."""

    request_bytes: int = 200 << 20
    file_bytes: int = 100 << 20
    files: int = 16
    """Of a study."""
    seconds: float = 300
    """That sending and decoding them may take."""
    silence: float = 20
    """Seconds without a byte after which a sender is given up."""
    per_minute: int = 600
    """Predictions of an address."""


class TooLarge(Exception):
    """A body of more bytes than a request may have."""


class Guard:
    """The ASGI application behind all checks. `hosts` are the names that a request may give; None: any."""

    def __init__(self, app: ASGIApp, *, token: str | None, hosts: frozenset[str] | None, limits: Limits) -> None:
        self._app, self._token, self._hosts, self._limits = app, token, hosts, limits
        self._rate = Rate(limits.per_minute)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer, or pass on."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        added = (*_HEADERS, _KEEP if scope["path"].startswith(_HASHED) else _NO_STORE)

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [*message.get("headers", ()), *added]
            await send(message)

        refusal = self._refusal(scope)
        if refusal is not None:
            await refusal(scope, receive, send_with_headers)
            return
        await self._app(scope, self._counted(receive), send_with_headers)

    def _refusal(self, scope: Scope) -> Response | None:
        headers = {name: value.decode("latin-1") for name, value in scope["headers"]}
        if self._hosts is not None and _name(headers.get(b"host", "")) not in self._hosts:
            return _refused(421, "this server does not go by that name")
        if (asked := self._without_token(scope, headers)) is not None:
            return asked
        if scope["method"] in _READS:
            return None
        if _is_foreign(headers):
            return _refused(403, "a page of another site may change nothing here")
        size = headers.get(b"content-length", "0")
        if size.isdigit() and int(size) > self._limits.request_bytes:
            return _refused(413, too_large(self._limits))
        client = scope.get("client") or ("",)
        wait = self._rate.wait(client[0]) if scope["method"] == "POST" else 0
        return _refused(429, "too many requests from this address", {"Retry-After": str(wait)}) if wait else None

    def _without_token(self, scope: Scope, headers: dict[bytes, str]) -> Response | None:
        if self._token is None or scope["path"] in OPEN_PATHS:
            return None
        scheme, _, given = headers.get(b"authorization", "").partition(" ")
        if scheme.lower() == "bearer" and _equal(given.strip(), self._token):
            return None
        kept = hashlib.sha256(self._token.encode()).hexdigest()
        query = parse_qs(scope["query_string"].decode("latin-1")).get("token", [""])[0]
        if scope["path"] == "/" and _equal(query, self._token):
            # The page's address with the token becomes a cookie, which no script and no other site can use.
            answer = RedirectResponse("./", status_code=303)
            answer.set_cookie(COOKIE, kept, httponly=True, samesite="strict")
            return answer
        if _equal(_cookie(headers.get(b"cookie", "")), kept):
            return None
        if "text/html" in headers.get(b"accept", "") and scope["path"] == "/":
            return HTMLResponse(token_page(wrong=bool(query)), 401, headers=_BEARER)
        detail = "a token is needed: the header `Authorization: Bearer TOKEN`, or once the address /?token=TOKEN"
        return _refused(401, detail, _BEARER)

    def _counted(self, receive: Receive) -> Receive:
        read = 0

        async def counted() -> Message:
            nonlocal read
            message = await receive()
            read += len(message.get("body", b""))
            if read > self._limits.request_bytes:
                raise TooLarge
            return message

        return counted


def too_large(limits: Limits) -> str:
    """Why a request is refused."""
    return f"a request has at most {limits.request_bytes >> 20} MiB"


def _name(host: str) -> str | None:
    """The name in a Host header, without its port."""
    try:
        return urlsplit(f"//{host}").hostname
    except ValueError:
        return None


def _is_foreign(headers: dict[bytes, str]) -> bool:
    """Whether a browser sends this for a page of another origin. Programs tell neither header and are no browsers."""
    if headers.get(b"sec-fetch-site", "none") not in ("same-origin", "none"):
        return True
    origin = headers.get(b"origin")
    return origin is not None and origin.partition("://")[2] != headers.get(b"host")


def _cookie(header: str) -> str:
    try:
        found = SimpleCookie(header).get(COOKIE)
    except CookieError:
        return ""
    return found.value if found is not None else ""


def _equal(given: str, token: str) -> bool:
    return hmac.compare_digest(given.encode(), token.encode())


def _refused(status: int, detail: str, headers: dict[str, str] | None = None) -> JSONResponse:
    return JSONResponse({"detail": detail}, status, headers=headers)
