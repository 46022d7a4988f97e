"""The public witness over HTTP (C2SP tlog-witness): a raw ASGI application.

    POST /add-checkpoint               for logs; the body and the answers are C2SP's
    GET  /logs                         for monitors: the logs and the sizes cosigned last, as JSON
    GET  /<hash of the origin>/checkpoint    the checkpoint cosigned last, with this witness's cosignatures

Anybody may ask; what is signed follows from the logs' keys alone. Bodies, time and the number of requests under way
are bounded.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import re
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any, Final, NamedTuple

from pacekeeper.protocol.errors import Refused
from pacekeeper.protocol.text import printable
from pacekeeper.protocol.tlog.witness import MAX_REQUEST_BYTES, SIZE_TYPE, Rejection
from pacekeeper.verifier.public.desk import WitnessDesk

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]

BODY_S: Final = 10.0  # a log that does not send its request in time is cut off
SEND_S: Final = 10.0
MAX_AT_WORK: Final = 64  # requests that wait for the desk; more are told to come back
_HASH_PATH: Final = re.compile(rb"/([0-9a-f]{64})/checkpoint")
_COMMON: Final = ((b"x-content-type-options", b"nosniff"), (b"cache-control", b"no-store"))


class Answer(NamedTuple):
    """What goes back: status, body, and its content type."""

    status: int
    body: bytes
    content_type: str = "text/plain; charset=utf-8"


class WitnessService:
    """The application. stop is called with the reason when the state is no longer safe to sign from."""

    def __init__(self, desk: WitnessDesk, stop: Callable[[Refused], None]) -> None:
        self._desk = desk
        self._stop = stop
        self.at_work = 0  # requests under way
        self._origins = {hashlib.sha256(origin.encode()).hexdigest().encode(): origin for origin in desk.logs}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return
        try:
            answer = await self._answer(scope, receive)
        except Refused as refused:
            # SPEC witness-11: after a failed write the witness MUST stop and MUST NOT sign.
            self._stop(refused)
            answer = Answer(500, b"this witness has stopped\n")
        headers = [*_COMMON, (b"content-type", answer.content_type.encode())]
        body = b"" if scope["method"] == "HEAD" else answer.body
        headers.append((b"content-length", str(len(answer.body)).encode()))
        async with asyncio.timeout(SEND_S):
            await send({"type": "http.response.start", "status": answer.status, "headers": headers})
            await send({"type": "http.response.body", "body": body})

    async def _answer(self, scope: Scope, receive: Receive) -> Answer:
        path, method = scope["raw_path"], scope["method"]
        if path == b"/add-checkpoint":
            if method != "POST":
                return Answer(405, b"only POST\n")
            return await self._add(receive)
        if method not in {"GET", "HEAD"}:
            return Answer(405, b"only GET and HEAD\n")
        if path == b"/logs":
            return Answer(200, json.dumps(self._desk.sizes(), indent=1).encode() + b"\n", "application/json")
        match = _HASH_PATH.fullmatch(path)
        origin = self._origins.get(match[1]) if match else None
        note = await asyncio.to_thread(self._desk.checkpoint, origin) if origin is not None else None
        return Answer(404, b"not found\n") if note is None else Answer(200, note)

    async def _add(self, receive: Receive) -> Answer:
        """SPEC witness-12: a body over the limit, one that does not come in time and a request too many MUST be refused
        without an effect."""
        if self.at_work >= MAX_AT_WORK:
            return Answer(503, b"busy; come back\n")
        self.at_work += 1
        try:
            async with asyncio.timeout(BODY_S):
                body = await _read(receive)
            if body is None:
                return Answer(413, f"at most {MAX_REQUEST_BYTES} bytes\n".encode())
            result = await asyncio.to_thread(self._desk.add_checkpoint, body)
        except TimeoutError:
            return Answer(408, b"the request did not come in time\n")
        finally:
            self.at_work -= 1
        if not isinstance(result, Rejection):
            return Answer(200, result)
        if result.size_only:
            return Answer(result.status, result.message.encode(), SIZE_TYPE)
        return Answer(result.status, f"{printable(result.message, 500)}\n".encode())


async def _read(receive: Receive) -> bytes | None:
    """Return the whole body, None if it is too long."""
    parts: list[bytes] = []
    total = 0
    while True:
        message = await receive()
        if message["type"] != "http.request":
            return b""
        part = message.get("body", b"")
        total += len(part)
        if total > MAX_REQUEST_BYTES:
            return None
        parts.append(part)
        if not message.get("more_body", False):
            return b"".join(parts)
