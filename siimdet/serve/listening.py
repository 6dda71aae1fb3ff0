"""The socket of the server, and running until it is told to stop."""

import asyncio
import signal
import socket
from collections.abc import Callable

import uvicorn
from starlette.types import ASGIApp

from siimdet.errors import UserError

_PATIENCE = 10  # seconds that a client may go on sending a file once the server ends


def listen(host: str, port: int) -> socket.socket:
    """A socket that listens; port 0 takes a free one. Raises: UserError for an address that is taken or not ours."""
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        listening = socket.socket(family, kind, protocol)
        try:
            listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listening.bind(address)
            listening.listen(128)
        except OSError:
            listening.close()
            raise
    except OSError as error:
        raise UserError("serve", f"{host}:{port}", found=error.strerror, expected="a free address") from None
    return listening


def address_of(host: str, listening: socket.socket) -> str:
    """What a browser is to open."""
    return f"http://{f'[{host}]' if ':' in host else host}:{listening.getsockname()[1]}"


class Server(uvicorn.Server):
    """uvicorn on a socket; `before_end` is called once it is told to stop, while answers are still open."""

    def __init__(self, app: ASGIApp, before_end: Callable[[], None]) -> None:
        super().__init__(
            uvicorn.Config(
                app,
                log_level="warning",
                access_log=False,
                server_header=False,
                lifespan="off",
                timeout_graceful_shutdown=_PATIENCE,
            )
        )
        self._before_end = before_end

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """End: uvicorn waits for open answers, and these for their studies, which end first."""
        await asyncio.to_thread(self._before_end)
        await super().shutdown(sockets)


def run(server: Server, listening: socket.socket, *, ready: Callable[[], None]) -> None:
    """Serve until SIGTERM or SIGINT, which are no errors; `ready` is called when they are heard and the socket is."""

    def end(*_: object) -> None:
        server.should_exit = True

    for number in (signal.SIGTERM, signal.SIGINT):
        # uvicorn sets handlers of its own, and raises the signal anew for these ones when it has ended.
        signal.signal(number, end)
    ready()
    server.run(sockets=[listening])
