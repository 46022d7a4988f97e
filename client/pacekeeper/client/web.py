"""An HTTP server for a role: uvicorn in the role's own event loop, with the limits that it lacks.

A connection that has not sent a whole request in time is cut off, and so is one beyond the number that is allowed, so
that callers that stall cannot hold the places of those that go on.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import Iterator
from typing import Any, Final, cast

import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol

REQUEST_S: Final = 10.0  # from the first byte possible to a whole request
KEEP_ALIVE_S: Final = 15
MAX_CONNECTIONS: Final = 1_024
MAX_HEADER_BYTES: Final = 8_192


class _Connection(H11Protocol):
    """One HTTP connection that must send its first whole request in time, and each further one when it begins one."""

    _deadline: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        if len(self.connections) > MAX_CONNECTIONS:
            transport.abort()
            return
        self._arm()

    def data_received(self, data: bytes) -> None:
        cycle = self.cycle
        if self._deadline is None:
            self._arm()
        super().data_received(data)
        if self.cycle is not cycle:
            self._disarm()

    def connection_lost(self, exc: Exception | None) -> None:
        self._disarm()
        super().connection_lost(exc)

    def _arm(self) -> None:
        self._deadline = self.loop.call_later(REQUEST_S, self.transport.abort)

    def _disarm(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None


class _Server(uvicorn.Server):
    """uvicorn without its signal handlers: the log's process has its own."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


class WebServer:
    """Serves an ASGI application on a bound socket until stopped."""

    def __init__(self, application: Any, bound: socket.socket) -> None:
        config = uvicorn.Config(
            application,
            http=cast(Any, _Connection),
            ws="none",
            lifespan="off",
            interface="asgi3",
            log_config=None,
            access_log=False,
            server_header=False,
            date_header=True,
            proxy_headers=False,
            timeout_keep_alive=KEEP_ALIVE_S,
            timeout_graceful_shutdown=2,
            h11_max_incomplete_event_size=MAX_HEADER_BYTES,
            backlog=256,
        )
        self._server = _Server(config)
        self._socket = bound

    async def run(self) -> None:
        """Serve until stop()."""
        await self._server.serve(sockets=[self._socket])

    def stop(self) -> None:
        """Have run() return soon."""
        self._server.should_exit = True


def bind(host: str, port: int) -> socket.socket:
    """Return a listening socket. OSError if the address is taken or unknown."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    # asyncio turns Nagle's algorithm off only where the protocol is named; with it an answer waits 40 ms for an ACK.
    bound = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    try:
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        bound.bind((host, port))
        bound.listen(256)
    except OSError:
        bound.close()
        raise
    bound.setblocking(False)
    return bound
