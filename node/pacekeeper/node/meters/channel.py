"""One connection to the lab daemon's socket, made when it is needed and kept: unary gRPC calls in the caller's thread.

It has no thread of its own and does nothing between two calls, so that a meter costs training what its calls cost.
What the daemon says meanwhile (a ping, a goodbye) waits in the socket and is answered with the next call.
"""

from __future__ import annotations

import socket
import threading
import time
from contextlib import suppress
from pathlib import Path
from typing import Final

from pacekeeper.node.meters.http2 import Answer, BrokenConnection, ClientConnection, call_headers

_READ_BYTES: Final = 65_536


class Unreachable(Exception):
    """No answer: nobody listens, the connection broke, or the deadline passed."""


class UnaryChannel:
    """Calls by one thread at a time; close() by any."""

    def __init__(self, path: Path, deadline_s: float) -> None:
        self._path = path
        self._deadline_s = deadline_s
        self._headers: dict[str, bytes] = {}
        self._socket: socket.socket | None = None
        self._connection = ClientConnection()
        self._closed = False
        self._calling = threading.Lock()

    def call(self, method: str, request: bytes) -> Answer:
        """Make one call that may be repeated, to "/package.Service/Method". Unreachable within deadline_s seconds.

        A kept connection may have died since: then the call is made again, once, on a new one.
        """
        # SPEC metering-3: every call has a deadline; it covers connecting and the repetition.
        give_up = time.monotonic() + self._deadline_s
        if method not in self._headers:
            self._headers[method] = call_headers(method, self._deadline_s)
        with self._calling:
            try:
                if self._socket is not None:
                    with suppress(BrokenConnection, ConnectionError):
                        return self._exchange(self._socket, self._headers[method], request, give_up)
                    self._drop()
                return self._exchange(self._connect(give_up), self._headers[method], request, give_up)
            except TimeoutError:
                self._drop()
                raise Unreachable(f"no answer within {self._deadline_s:g} s") from None
            except OSError as error:
                self._drop()
                raise Unreachable(f"{self._path}: {error.strerror or error}") from None
            except BrokenConnection as error:
                self._drop()
                raise Unreachable(str(error)) from None

    def close(self) -> None:
        """Cut the connection, for good; a call under way ends as Unreachable."""
        self._closed = True
        under_way = self._socket
        if under_way is not None:
            _shut(under_way)
        with self._calling:
            self._drop()

    def _connect(self, give_up: float) -> socket.socket:
        if self._closed:
            raise BrokenConnection("the connection is closed")
        self._connection = ClientConnection()
        self._socket = made = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        made.settimeout(_left(give_up))
        made.connect(str(self._path))
        if self._closed:  # close() cannot have cut what was not connected yet
            raise BrokenConnection("the connection is closed")
        return made

    def _exchange(self, on: socket.socket, headers: bytes, request: bytes, give_up: float) -> Answer:
        self._connection.begin(headers, request)
        answer = None
        while answer is None:
            if data := self._connection.outgoing():
                on.settimeout(_left(give_up))
                on.sendall(data)
            on.settimeout(_left(give_up))
            data = on.recv(_READ_BYTES)
            if not data:
                raise BrokenConnection("the lab daemon closed the connection")
            answer = self._connection.receive(data)
        if not self._connection.reusable:
            self._drop()
        return answer

    def _drop(self) -> None:
        dropped, self._socket = self._socket, None
        if dropped is not None:
            _shut(dropped)
            dropped.close()


def _shut(shut: socket.socket) -> None:
    """End a connection, whoever holds copies of it; a thread that waits for it wakes."""
    with suppress(OSError):  # it is not connected, or was closed just now
        shut.shutdown(socket.SHUT_RDWR)


def _left(give_up: float) -> float:
    left = give_up - time.monotonic()
    if left <= 0:
        raise TimeoutError
    return left
