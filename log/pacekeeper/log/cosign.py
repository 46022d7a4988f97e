"""The Cosign streams: each verifier opens one; the log pushes entries and candidates, the verifier answers.

Pushed are the entries up to the candidate's size and then the candidate, never entries beyond it, so that the
checkpoint pushed last is always over all entries pushed so far. A candidate that another has overtaken while the
verifier was busy is skipped. A verifier that connects when nothing new is there gets the published checkpoint, and its
cosignature is added late.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Final

import structlog

from pacekeeper.client.tls import verifier_uri
from pacekeeper.log.clock import Clock
from pacekeeper.log.peers import Context
from pacekeeper.log.store.port import Store
from pacekeeper.log.witnesses import Proposal
from pacekeeper.log.witnessing import Witnessing
from pacekeeper.protocol import limits
from pacekeeper.protocol.errors import Code, Refused
from pacekeeper.v1 import log_pb2

HELLO_S: Final = 10.0  # a stream that does not say who it is is cut
STREAM_BYTES: Final = 1_048_576  # entries in one message
STREAM_ENTRIES: Final = 1_024

_log = structlog.get_logger(__name__)


class CosignStreams:
    """All verifiers' streams; a verifier's newer stream ends its older one."""

    def __init__(self, witnessing: Witnessing, store: Store, clock: Clock) -> None:
        self._witnessing = witnessing
        self._store = store
        self._clock = clock
        self._streams: dict[str, asyncio.Task[None]] = {}

    async def serve(self, uri: str, requests: AsyncIterator[log_pb2.CosignRequest], context: Context) -> None:
        """Serve a stream until it ends. Refused when it is not the verifier's that it says."""
        party, size = await self._hello(uri, requests)
        self._witnessing.attach(party, size)
        task = asyncio.current_task()
        assert task is not None
        older = self._streams.get(party)
        self._streams[party] = task
        if older is not None:
            older.cancel()
        listening = asyncio.create_task(self._listen(party, requests))
        pushing = asyncio.create_task(self._push(party, size, context))
        try:
            done, _ = await asyncio.wait((listening, pushing), return_when=asyncio.FIRST_COMPLETED)
            for ended in done:
                ended.result()
        finally:
            listening.cancel()
            pushing.cancel()
            if self._streams.get(party) is task:
                del self._streams[party]
                self._witnessing.detach(party)

    async def _hello(self, uri: str, requests: AsyncIterator[log_pb2.CosignRequest]) -> tuple[str, int]:
        """SPEC log-21: a Cosign stream MUST begin with a hello of the party whose verifier's certificate opened it."""
        try:
            async with asyncio.timeout(HELLO_S):
                first = await anext(aiter(requests), None)
        except TimeoutError:
            first = None
        if first is None or first.WhichOneof("item") != "hello":
            raise Refused(Code.MALFORMED, "a Cosign stream begins with a hello")
        party = first.hello.party
        if party not in self._witnessing.witnesses.of or verifier_uri(party) != uri:
            raise Refused(Code.WRONG_IDENTITY, "the stream is not opened by the verifier of the party that it names")
        if first.hello.size > limits.MAX_TREE_SIZE:
            raise Refused(Code.BAD_FIELD, "no tree has that size")
        self._hear(party, first)
        return party, first.hello.size

    def _hear(self, party: str, request: log_pb2.CosignRequest) -> None:
        if 0 < request.clock_ms <= limits.MAX_TIME_MS:
            self._witnessing.heard(party, request.clock_ms)

    async def _listen(self, party: str, requests: AsyncIterator[log_pb2.CosignRequest]) -> None:
        async for request in requests:
            self._hear(party, request)
            match request.WhichOneof("item"):
                case "cosignature":
                    try:
                        self._witnessing.count(party, request.cosignature)
                    except Refused as refused:
                        _log.warning("cosignature not counted", party=party, code=refused.code)
                case "refusal":
                    self._witnessing.refused(party, request.refusal)
                case "hello":
                    raise Refused(Code.MALFORMED, "a stream says hello once")
                case _:
                    pass  # its clock alone

    async def _push(self, party: str, sent: int, context: Context) -> None:
        witnessing = self._witnessing
        told: Proposal | None = None
        conflict = 0
        while True:
            changed = witnessing.changed.arm()
            if party not in witnessing.witnesses.of:
                # SPEC transition-8: a verifier that left MUST NOT be served once the transition is published.
                raise Refused(Code.WRONG_IDENTITY, "this party is not of the agreement in force any more")
            current = witnessing.witnesses.current()
            if current is not None and sent < current.size:
                sent = await self._push_entries(sent, current.size, context)
                continue
            # A candidate that was overtaken while its entries went out is skipped for the newer one.
            asked = witnessing.to_push(party)
            if asked is not None and asked is not told and asked.size == sent:
                told = asked
                await context.write(log_pb2.CosignResponse(checkpoint=asked.signed()))
                continue
            waiting = [item for number, item in witnessing.conflicts if number > conflict]
            if waiting:
                conflict = witnessing.conflicts[-1][0]
                for item in waiting:
                    await context.write(log_pb2.CosignResponse(conflict=item))
                continue
            await changed.wait()

    async def _push_entries(self, sent: int, size: int, context: Context) -> int:
        """Push one message of entries; return how many the verifier then has. Written only as it is taken."""
        entries = await asyncio.to_thread(self._store.read, sent, min(size, sent + STREAM_ENTRIES), STREAM_BYTES)
        batch = log_pb2.EntryBatch(first_index=sent, entries=entries)
        await context.write(log_pb2.CosignResponse(batch=batch))
        return sent + len(entries)

    def status(self, origin: str, halted: Refused | None) -> log_pb2.GetStatusResponse:
        """Return the log's status as anyone connected may see it."""
        witnessing = self._witnessing
        now_ms, monotonic_ms = self._clock.now_ms(), self._clock.monotonic_ms()
        tree, head = witnessing.published, witnessing.head
        return log_pb2.GetStatusResponse(
            origin=origin,
            size=head.size if head else 0,
            published_size=tree.size if tree else 0,
            checkpoint=tree.note if tree else b"",
            witnesses=[
                log_pb2.WitnessStatus(
                    party=party,
                    connected=witness.connected,
                    cosigned_size=witness.cosigned_size,
                    clock_offset_ms=witnessing.witnesses.offset_ms(party, now_ms, monotonic_ms),
                )
                for party, witness in witnessing.witnesses.of.items()
            ],
            halted=halted.code if halted else "",
        )
