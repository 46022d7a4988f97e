"""HTTP/2 as far as one gRPC caller needs it: bytes in, bytes out, one call at a time; no socket, clock or thread.

    connection = ClientConnection()
    connection.begin(call_headers("/package.Service/Method", 2.0), request)
    write(connection.outgoing())
    answer = connection.receive(read())  # None: write what is outgoing, if anything is, and read again

specs/decisions/0012-a-meter-without-grpcs-runtime.md says why a meter has its own. On the wire nothing differs: frames
are RFC 9113's, header blocks RFC 7541's, messages and statuses gRPC's. This side allows no dynamic header table, so a
header block means the same whenever it comes, and it offers no compression.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import IntEnum
from functools import lru_cache
from typing import Final
from urllib.parse import unquote

import hpack

MAX_ANSWER_BYTES: Final = 32 * 1024  # a decision, a reason, a calendar; less than the window that this side opens
_MAX_BLOCK_BYTES: Final = 16 * 1024  # one answer's headers: as much as gRPC itself takes
_MAX_FRAME_BYTES: Final = 16_384  # RFC 9113, 4.2: always allowed; more is neither sent nor taken
_DEFAULT_WINDOW: Final = 65_535
_MAX_WINDOW: Final = 2**31 - 1
_REFILL_BYTES: Final = 16_384  # the connection's window is opened again in pieces of at least this
_MAX_STREAM: Final = 2**31 - 1

_PREFACE: Final = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
_FRAME_HEAD: Final = struct.Struct(">IBI")  # length (24 bits) and kind (8 bits), flags, stream
_MESSAGE_HEAD: Final = struct.Struct(">BI")  # gRPC's: whether compressed, and the length
_SETTING: Final = struct.Struct(">HI")
_ACK: Final = 0x1  # of settings and pings
_END_STREAM: Final = 0x1  # of headers and data
_END_HEADERS: Final = 0x4
_PADDED: Final = 0x8
_PRIORITY: Final = 0x20
_HEADER_TABLE_SIZE: Final = 1
_ENABLE_PUSH: Final = 2
_INITIAL_WINDOW_SIZE: Final = 4


class FrameKind(IntEnum):
    """The frames that matter here; others are passed over, as RFC 9113, 5.5 wants it."""

    DATA = 0
    HEADERS = 1
    RST_STREAM = 3
    SETTINGS = 4
    PUSH_PROMISE = 5
    PING = 6
    GOAWAY = 7
    WINDOW_UPDATE = 8
    CONTINUATION = 9


class BrokenConnection(Exception):
    """The peer ended the connection or the call, or what it sends is not HTTP/2 or not gRPC: drop the connection."""


@dataclass(frozen=True, slots=True)
class Answer:
    """How a call ended: gRPC's status, its details, and, under status 0, the message."""

    status: int
    details: str
    message: bytes


def call_headers(path: str, deadline_s: float) -> bytes:
    """The header block of a call to a method: literals that enter no table, so every call may send the same bytes."""
    fields = {
        ":method": "POST",
        ":scheme": "http",
        ":path": path,
        ":authority": "localhost",
        "te": "trailers",
        "content-type": "application/grpc",
        "grpc-timeout": f"{max(1, round(deadline_s * 1000))}m",
    }
    return b"".join(b"\0" + _text(name) + _text(value) for name, value in fields.items())


def format_frame(kind: int, flags: int, stream: int, payload: bytes) -> bytes:
    """Write one frame, of at most 16,384 bytes of payload."""
    return _FRAME_HEAD.pack(len(payload) << 8 | kind, flags, stream) + payload


class ClientConnection:
    """The client's half of one connection. After a BrokenConnection it is of no further use."""

    def __init__(self) -> None:
        settings = _SETTING.pack(_HEADER_TABLE_SIZE, 0) + _SETTING.pack(_ENABLE_PUSH, 0)
        self._outgoing = bytearray(_PREFACE + format_frame(FrameKind.SETTINGS, 0, 0, settings))
        self._pressing = False  # whether a part of a request is among it
        self._incoming = bytearray()
        self._initial_window = self._window = _DEFAULT_WINDOW
        self._taken = 0  # bytes of data since the connection's window was last opened again
        self._stream = -1
        self._stream_window = 0
        self._request = b""
        self._block: bytearray | None = None  # a header block of which more is to come
        self._headers: dict[str, str] = {}
        self._body = bytearray()
        self._ended = False
        self._leaving = False
        self._takers: dict[int, Callable[[int, int, bytes], None]] = {
            FrameKind.DATA: self._take_data,
            FrameKind.HEADERS: self._take_headers,
            FrameKind.CONTINUATION: self._take_continuation,
            FrameKind.RST_STREAM: self._take_reset,
            FrameKind.SETTINGS: self._take_settings,
            FrameKind.PUSH_PROMISE: self._take_promise,
            FrameKind.PING: self._take_ping,
            FrameKind.GOAWAY: self._take_leave,
            FrameKind.WINDOW_UPDATE: self._take_window,
        }

    @property
    def reusable(self) -> bool:
        """Whether another call may begin: the last one is answered whole, and the peer takes more."""
        return not self._request and not self._leaving and self._stream < _MAX_STREAM

    def begin(self, headers: bytes, message: bytes) -> None:
        """Begin a call with headers of call_headers() on a reusable connection."""
        assert self.reusable, "one call at a time"
        self._stream += 2
        self._stream_window = self._initial_window
        self._headers, self._body, self._ended = {}, bytearray(), False
        self._request = _MESSAGE_HEAD.pack(0, len(message)) + message
        self._outgoing += format_frame(FrameKind.HEADERS, _END_HEADERS, self._stream, headers)
        self._pressing = True
        self._send_request()

    def outgoing(self) -> bytes:
        """Take what is to be written now: parts of the request, or nothing.

        What only acknowledges goes with them or with the next call: no peer waits for it, and each write wakes two
        processes. So does the connection's window, which has room for an answer before it is opened again.
        """
        if not self._pressing:
            return b""
        data = bytes(self._outgoing)
        self._outgoing.clear()
        self._pressing = False
        return data

    def receive(self, data: bytes) -> Answer | None:
        """Take what was read; returns the answer once it is whole. BrokenConnection if there will be none."""
        self._incoming += data
        while len(self._incoming) >= _FRAME_HEAD.size:
            length_kind, flags, stream = _FRAME_HEAD.unpack_from(self._incoming)
            end = _FRAME_HEAD.size + (length_kind >> 8)
            if end - _FRAME_HEAD.size > _MAX_FRAME_BYTES:
                raise BrokenConnection("a frame is longer than is allowed")
            if len(self._incoming) < end:
                break
            payload = bytes(self._incoming[_FRAME_HEAD.size : end])
            del self._incoming[:end]
            self._take(length_kind & 0xFF, flags, stream & _MAX_STREAM, payload)
        return self._finish() if self._ended else None

    def _take(self, kind: int, flags: int, stream: int, payload: bytes) -> None:
        if (kind == FrameKind.CONTINUATION) != (self._block is not None):
            raise BrokenConnection("a header block is interrupted, or goes on where none began")
        take = self._takers.get(kind)
        if take is not None:
            take(flags, stream, payload)

    def _take_data(self, flags: int, stream: int, payload: bytes) -> None:
        self._taken += len(payload)  # padding counts too
        if self._taken >= _REFILL_BYTES:
            self._outgoing += format_frame(FrameKind.WINDOW_UPDATE, 0, 0, self._taken.to_bytes(4, "big"))
            self._taken = 0
        self._check_stream(stream)
        self._body += _unpadded(flags, payload)
        self._ended = bool(flags & _END_STREAM)
        if len(self._body) > MAX_ANSWER_BYTES:
            raise BrokenConnection("an answer is longer than any should be")

    def _take_headers(self, flags: int, stream: int, payload: bytes) -> None:
        self._check_stream(stream)
        self._ended = bool(flags & _END_STREAM)
        self._block = bytearray()
        skipped = 5 if flags & _PRIORITY else 0
        self._take_continuation(flags, stream, _unpadded(flags, payload)[skipped:])

    def _take_continuation(self, flags: int, stream: int, payload: bytes) -> None:
        assert self._block is not None
        self._block += payload
        if stream != self._stream or len(self._block) > _MAX_BLOCK_BYTES:
            raise BrokenConnection("a header block is of two streams, or too long")
        if flags & _END_HEADERS:
            self._headers.update(_parse_block(bytes(self._block)))
            self._block = None

    def _take_reset(self, flags: int, stream: int, payload: bytes) -> None:
        if stream == self._stream and not self._ended:
            raise BrokenConnection(f"the call was reset with code {int.from_bytes(payload, 'big')}")

    def _take_settings(self, flags: int, stream: int, payload: bytes) -> None:
        if flags & _ACK:
            return
        if len(payload) % _SETTING.size:
            raise BrokenConnection("settings are cut")
        for name, value in _SETTING.iter_unpack(payload):
            if name == _INITIAL_WINDOW_SIZE:
                self._stream_window += value - self._initial_window
                self._initial_window = value
        self._outgoing += format_frame(FrameKind.SETTINGS, _ACK, 0, b"")
        self._send_request()

    def _take_promise(self, flags: int, stream: int, payload: bytes) -> None:
        raise BrokenConnection("a push, which was not allowed")

    def _take_ping(self, flags: int, stream: int, payload: bytes) -> None:
        if not flags & _ACK:
            self._outgoing += format_frame(FrameKind.PING, _ACK, 0, payload)

    def _take_leave(self, flags: int, stream: int, payload: bytes) -> None:
        self._leaving = True
        if int.from_bytes(payload[:4], "big") & _MAX_STREAM < self._stream and not self._ended:
            raise BrokenConnection("the peer is leaving and does not take this call")

    def _take_window(self, flags: int, stream: int, payload: bytes) -> None:
        more = int.from_bytes(payload, "big") & _MAX_WINDOW
        if stream == 0:
            self._window += more
        elif stream == self._stream:
            self._stream_window += more
        self._send_request()

    def _check_stream(self, stream: int) -> None:
        if stream != self._stream or self._ended:
            raise BrokenConnection("an answer to no call")

    def _send_request(self) -> None:
        """Send of the request what the peer's windows have room for."""
        while self._request and (room := min(self._window, self._stream_window, _MAX_FRAME_BYTES)) > 0:
            piece, self._request = self._request[:room], self._request[room:]
            self._window -= len(piece)
            self._stream_window -= len(piece)
            last = 0 if self._request else _END_STREAM
            self._outgoing += format_frame(FrameKind.DATA, last, self._stream, piece)
            self._pressing = True

    def _finish(self) -> Answer:
        if self._block is not None or ":status" not in self._headers:
            raise BrokenConnection("an answer is cut")
        if "grpc-status" not in self._headers:
            raise BrokenConnection(f"the answer is not gRPC's; HTTP status {self._headers[':status']}")
        status = self._headers["grpc-status"]
        if not (status.isascii() and status.isdigit() and len(status) <= 2):
            raise BrokenConnection("the answer has no status that is one")
        details = unquote(self._headers.get("grpc-message", ""), errors="replace")
        return Answer(int(status), details, _message(bytes(self._body)) if int(status) == 0 else b"")


def _message(body: bytes) -> bytes:
    """The one message of an answer."""
    if len(body) < _MESSAGE_HEAD.size or _MESSAGE_HEAD.unpack_from(body) != (0, len(body) - _MESSAGE_HEAD.size):
        raise BrokenConnection("the answer is not one message without compression")
    return body[_MESSAGE_HEAD.size :]


def _unpadded(flags: int, payload: bytes) -> bytes:
    if not flags & _PADDED:
        return payload
    if not payload or payload[0] >= len(payload):
        raise BrokenConnection("padding is longer than its frame")
    return payload[1 : len(payload) - payload[0]]


@lru_cache(maxsize=16)  # the same few blocks come with every answer; without a dynamic table they mean the same
def _parse_block(block: bytes) -> Mapping[str, str]:
    decoder = hpack.Decoder(max_header_list_size=_MAX_BLOCK_BYTES)
    decoder.header_table_size = decoder.max_allowed_table_size = 0
    try:
        return {str(name): str(value) for name, value in decoder.decode(block)}
    except (hpack.HPACKError, UnicodeDecodeError) as error:
        raise BrokenConnection(f"a header block cannot be read: {error}") from None


def _text(value: str) -> bytes:
    """A string literal without Huffman's code; its length fits seven bits."""
    data = value.encode("ascii")
    assert len(data) < 127, "headers of a call are short"
    return bytes((len(data),)) + data
