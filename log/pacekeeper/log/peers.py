"""Who may call: every participant that the agreement pins, known by the certificate of its connection."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any, Final

import grpc

from pacekeeper.client.rpc import abort
from pacekeeper.client.tls import LOG_URI, PeerCheck
from pacekeeper.protocol.errors import Code, Refused

Context = grpc.aio.ServicerContext[Any, Any]

MAX_CALLS_PER_PEER: Final = 64  # under way at once: a participant that stalls its calls holds no more than these


class Peers:
    """Identifies callers and bounds what each has under way."""

    def __init__(self, check: PeerCheck) -> None:
        self._check = check
        self._calls: Counter[str] = Counter()

    def repin(self, pins: Iterable[tuple[str, bytes]]) -> None:
        """Have other participants from now on, each with the pins that are good for it."""
        self._check.repin(pins)

    async def identify(self, context: Context) -> str:
        """Return the caller's URI, or end the call with wrong-identity."""
        try:
            uri = self._check.identify(context)
            if uri == LOG_URI:
                raise Refused(Code.WRONG_IDENTITY, "the log does not call itself")
        except Refused as refused:
            await abort(context, refused)
        return uri

    @contextmanager
    def call(self, uri: str) -> Iterator[None]:
        """Count a call as under way. Refused(overloaded) if the caller has too many."""
        if self._calls[uri] >= MAX_CALLS_PER_PEER:
            raise Refused(Code.OVERLOADED, "this participant has too many calls under way")
        self._calls[uri] += 1
        try:
            yield
        finally:
            self._calls[uri] -= 1
