"""Reading a static log over HTTP, with a deadline and a bound for each path.

The server is not trusted, and need not be: whatever it sends is verified by who asked. So this file only sees to it
that a server can neither hang nor flood its reader: one deadline covers all attempts, from connecting to the last byte
(name resolution is left to the system's own limit), and bytes are counted after decompression. Redirections are
refused, proxies of the environment ignored.
"""

from __future__ import annotations

import http.client
import io
import socket
import ssl
import threading
import time
import zlib
from typing import TYPE_CHECKING, Final
from urllib.parse import urlsplit

from pacekeeper.client.errors import ConfigError, Outage, TemporaryFailure
from pacekeeper.client.fetch_path import max_bytes, not_usable, too_large

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer

_CHUNK: Final = 65_536
_MAX_OVERHEAD: Final = 65_536  # what a compressed body may be longer than its contents; an error page worth reading
_RETRIED: Final = frozenset({429, 500, 502, 503, 504})
_ABSENT: Final = frozenset({404, 410})
_MAX_BACKOFF_S: Final = 5.0


class HttpSource:
    """A log's HTTP prefix. Each thread keeps one connection alive."""

    def __init__(self, url: str, *, deadline_s: float = 60, attempts: int = 5, backoff_s: float = 0.25) -> None:
        self._host, self._port, self._prefix, secure = _split_url(url)
        self._tls = ssl.create_default_context() if secure else None
        self._deadline_s, self._attempts, self._backoff_s = deadline_s, attempts, backoff_s
        self._local = threading.local()
        self._open: set[_Connection] = set()
        self._lock = threading.Lock()

    def read(self, path: str) -> bytes | None:
        """See Source. Server errors and broken connections are tried again, after a longer wait each time.

        SPEC transport-20: a read over HTTP MUST end within its deadline, and its body MUST be bounded as decompressed.
        """
        limit = max_bytes(path)
        deadline = time.monotonic() + self._deadline_s
        where, reason = f"{path} of {self._host}", ""
        for attempt in range(self._attempts):
            self._wait(attempt, deadline)
            try:
                status, body = self._connection().get(self._prefix + path, limit, deadline)
            except TimeoutError:
                self._drop()
                break
            except (OSError, UnicodeError, http.client.HTTPException) as error:
                self._drop()
                reason = f"{type(error).__name__} {error}".rstrip()
                continue
            except BodyFault as fault:
                self._drop()
                raise (too_large(path, limit) if fault.too_large else not_usable(path, str(fault))) from None
            if status == 200:
                return body
            if status in _ABSENT:
                return None
            reason = f"the server answers {status}"
            if status not in _RETRIED:
                raise TemporaryFailure(Outage.SERVER_ERROR, f"{where}: {reason}")
        if time.monotonic() >= deadline:
            raise TemporaryFailure(Outage.DEADLINE_EXCEEDED, f"{where}: no answer in {self._deadline_s:g} s {reason}")
        raise TemporaryFailure(Outage.UNREACHABLE, f"{where}: {reason}")

    def close(self) -> None:
        """Close every thread's connection."""
        with self._lock:
            for connection in self._open:
                connection.close()
            self._open.clear()

    def _wait(self, attempt: int, deadline: float) -> None:
        """Wait before an attempt; not before the second, for an idle connection that the server had closed."""
        if attempt > 1:
            pause = min(self._backoff_s * 2 ** (attempt - 2), _MAX_BACKOFF_S)
            time.sleep(max(0.0, min(pause, deadline - time.monotonic())))

    def _connection(self) -> _Connection:
        connection: _Connection | None = getattr(self._local, "connection", None)
        if connection is None:
            connection = self._local.connection = _Connection(self._host, self._port, self._tls)
            with self._lock:
                self._open.add(connection)
        return connection

    def _drop(self) -> None:
        """Give up this thread's connection; the next request makes a new one."""
        connection = self._connection()
        self._local.connection = None
        connection.close()
        with self._lock:
            self._open.discard(connection)


class BodyFault(Exception):
    """A body that cannot be what was asked for: too large, or not decodable."""

    def __init__(self, message: str, *, too_large: bool = False) -> None:
        super().__init__(message)
        self.too_large = too_large


class _Connection:
    """One keep-alive connection on which every socket operation ends by the request's deadline."""

    def __init__(self, host: str, port: int, tls: ssl.SSLContext | None) -> None:
        self._http = http.client.HTTPConnection(host, port)
        self._address, self._tls = (host, port), tls

    def get(self, target: str, limit: int, deadline: float) -> tuple[int, bytes]:
        """Return status and decoded body (empty unless 200)."""
        if self._http.sock is None:
            self._connect(deadline)
        sock = self._http.sock
        assert isinstance(sock, _TimedSocket)
        sock.deadline = deadline
        self._http.request("GET", target, headers={"Accept-Encoding": "gzip", "User-Agent": "pacekeeper"})
        response = self._http.getresponse()
        if response.status == 200:
            body = _read_body(response, limit)
        else:
            body = b""
            if len(response.read(_MAX_OVERHEAD)) == _MAX_OVERHEAD:
                self.close()
        response.close()  # read to its end: the connection is free for the next request
        return response.status, body

    def close(self) -> None:
        self._http.close()

    def _connect(self, deadline: float) -> None:
        plain = socket.create_connection(self._address, timeout=_remaining(deadline))
        plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if self._tls is not None:
            plain = self._tls.wrap_socket(plain, server_hostname=self._address[0])
        self._http.sock = _TimedSocket(plain)


class _TimedSocket:
    """What http.client needs of a socket; a peer that sends a byte now and then does not move the deadline."""

    def __init__(self, plain: socket.socket) -> None:
        self._plain = plain
        self.deadline = 0.0

    def sendall(self, data: bytes) -> None:
        self._plain.settimeout(_remaining(self.deadline))
        self._plain.sendall(data)

    def makefile(self, mode: str) -> io.BufferedReader:
        assert mode == "rb"
        return io.BufferedReader(_TimedReader(self, self._plain), _CHUNK)

    def close(self) -> None:
        self._plain.close()


class _TimedReader(io.RawIOBase):
    """The reading side; like a socket's own, it outlives the closing of the socket until it is closed itself."""

    def __init__(self, owner: _TimedSocket, plain: socket.socket) -> None:
        self._owner, self._plain = owner, plain
        self._raw = plain.makefile("rb", buffering=0)

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: WriteableBuffer) -> int | None:
        self._plain.settimeout(_remaining(self._owner.deadline))
        return self._raw.readinto(buffer)

    def close(self) -> None:
        self._raw.close()
        super().close()


def _read_body(response: http.client.HTTPResponse, limit: int) -> bytes:
    """Read a body to its end, so that the connection can serve the next request, but not past its bound."""
    encoding = response.getheader("Content-Encoding", "identity").lower()
    if encoding not in {"identity", "gzip"}:
        raise BodyFault("the server uses a content encoding that was not asked for")
    inflate = zlib.decompressobj(16 + zlib.MAX_WBITS) if encoding == "gzip" else None
    body = bytearray()
    received = 0
    while chunk := response.read1(_CHUNK):
        received += len(chunk)
        body += chunk if inflate is None else _inflate(inflate, chunk, limit + 1 - len(body))
        if len(body) > limit or received > limit + _MAX_OVERHEAD:
            raise BodyFault("too much", too_large=True)
    if response.length:
        raise http.client.IncompleteRead(b"", response.length)
    if inflate is not None and (not inflate.eof or inflate.unused_data):
        raise BodyFault("the server's gzip is cut short or followed by more")
    return bytes(body)


def _inflate(inflate: zlib._Decompress, chunk: bytes, room: int) -> bytes:
    """Decompress, but never more than room bytes: what would follow is not even computed."""
    try:
        return inflate.decompress(inflate.unconsumed_tail + chunk, room)
    except zlib.error:
        raise BodyFault("the server's gzip is damaged") from None


def _remaining(deadline: float) -> float:
    remaining = deadline - time.monotonic()
    if remaining <= 0:
        raise TimeoutError
    return remaining


def _split_url(url: str) -> tuple[str, int, str, bool]:
    """Return host, port, path prefix ending in "/", and whether it is https. ConfigError if it is no log's URL."""
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        raise ConfigError(f"{url} is not a URL") from None
    plain = url.isascii() and url.isprintable() and " " not in url and "@" not in parts.netloc
    if parts.scheme not in {"http", "https"} or not parts.hostname or parts.query or parts.fragment or not plain:
        raise ConfigError(f"{url} is not the URL of a log: expected http(s)://HOST[:PORT]/[PREFIX/]")
    secure = parts.scheme == "https"
    return parts.hostname, port or (443 if secure else 80), parts.path.rstrip("/") + "/", secure
