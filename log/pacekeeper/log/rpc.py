"""The TransparencyLog service: who calls, and what is answered; submissions are answered in submissions.py."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Final

from pacekeeper.client.rpc import abort
from pacekeeper.log.cosign import CosignStreams
from pacekeeper.log.peers import Context, Peers
from pacekeeper.log.published import Prover, PublishedTree
from pacekeeper.log.store.port import Store
from pacekeeper.log.submissions import Submissions
from pacekeeper.log.witnessing import Witnessing
from pacekeeper.log.writer import Writer
from pacekeeper.protocol.envelope import parse_entry
from pacekeeper.protocol.errors import Code, Refused
from pacekeeper.v1 import log_pb2, log_pb2_grpc

STREAM_BYTES: Final = 1_048_576  # entries in one message
STREAM_ENTRIES: Final = 1_024


class LogService(log_pb2_grpc.TransparencyLogServicer):
    """See proto/pacekeeper/v1/log.proto."""

    def __init__(
        self,
        writer: Writer,
        witnessing: Witnessing,
        store: Store,
        peers: Peers,
        streams: CosignStreams,
        submissions: Submissions,
        origin: str,
    ) -> None:
        self._writer = writer
        self._witnessing = witnessing
        self._store = store
        self._peers = peers
        self._streams = streams
        self._submissions = submissions
        self._origin = origin
        self._prover = Prover()

    async def Submit(self, request: log_pb2.SubmitRequest, context: Context) -> log_pb2.SubmitResponse:  # noqa: N802
        uri = await self._peers.identify(context)
        try:
            with self._peers.call(uri):
                return await self._submissions.answer(uri, request, context.time_remaining())
        except Refused as refused:
            await abort(context, refused)

    async def SubmitStream(  # type: ignore[override]  # noqa: N802  a coroutine that reads and writes
        self, request_iterator: AsyncIterator[log_pb2.SubmitRequest], context: Context
    ) -> None:
        uri = await self._peers.identify(context)
        try:
            with self._peers.call(uri):
                await self._submissions.serve(uri, request_iterator, context)
        except Refused as refused:
            await abort(context, refused)

    async def Follow(  # noqa: N802
        self, request: log_pb2.FollowRequest, context: Context
    ) -> AsyncIterator[log_pb2.FollowResponse]:
        """Stream published entries, each stretch followed by its checkpoint, until the caller goes.

        A message is made only when the one before was taken, so that a slow caller costs one message's memory.
        """
        uri = await self._peers.identify(context)
        position = request.from_index
        told = b""
        shown = 0  # size of the checkpoint that was sent last
        try:
            with self._peers.call(uri):
                while True:
                    changed = self._witnessing.changed.arm()
                    tree = self._witnessing.published
                    if tree is None or (tree.size <= position and tree.note == told) or tree.size < position:
                        await changed.wait()
                        await self._peers.identify(context)  # the caller may have left the agreement meanwhile
                        continue
                    for size, told in _checkpoints(tree, position, shown):
                        while position < size:
                            end = min(size, position + STREAM_ENTRIES)
                            entries = await asyncio.to_thread(self._store.read, position, end, STREAM_BYTES)
                            batch = log_pb2.EntryBatch(first_index=position, entries=entries)
                            yield log_pb2.FollowResponse(batch=batch)
                            position += len(entries)
                        shown = size
                        yield log_pb2.FollowResponse(checkpoint=told)
        except Refused as refused:
            await abort(context, refused)

    async def Cosign(  # type: ignore[override]  # noqa: N802  a coroutine that writes, which gRPC allows as well
        self, request_iterator: AsyncIterator[log_pb2.CosignRequest], context: Context
    ) -> None:
        uri = await self._peers.identify(context)
        try:
            await self._streams.serve(uri, request_iterator, context)
        except Refused as refused:
            await abort(context, refused)

    async def GetStatus(  # noqa: N802
        self, request: log_pb2.GetStatusRequest, context: Context
    ) -> log_pb2.GetStatusResponse:
        await self._peers.identify(context)
        return self._streams.status(self._origin, self._writer.halted)

    async def GetInclusionProof(  # noqa: N802
        self, request: log_pb2.GetInclusionProofRequest, context: Context
    ) -> log_pb2.GetInclusionProofResponse:
        await self._peers.identify(context)
        try:
            if len(request.id) != 32:
                raise Refused(Code.BAD_FIELD, "an identity has 32 bytes")
            index, time_ms = await asyncio.to_thread(self._find, request.id)
            tree = self._published_over(index)
        except Refused as refused:
            await abort(context, refused)
        proof = self._prover.prove(index, tree)
        return log_pb2.GetInclusionProofResponse(
            index=index, sequenced_at_ms=time_ms, inclusion_proof=proof, checkpoint=tree.note
        )

    def _find(self, statement_id: bytes) -> tuple[int, int]:
        index = self._store.known([statement_id]).get(statement_id)
        if index is None:
            raise Refused(Code.NOT_FOUND, "no such statement is on the log")
        return index, parse_entry(self._store.read(index, index + 1, 1)[0]).sequenced_at_ms

    def _published_over(self, index: int) -> PublishedTree:
        tree = self._witnessing.published
        if tree is None or tree.size <= index:
            raise Refused(Code.NOT_WITNESSED, "that entry is sequenced, but no published checkpoint covers it yet")
        return tree


def _checkpoints(tree: PublishedTree, position: int, shown: int) -> list[tuple[int, bytes]]:
    """Return the checkpoints to send to one who has so many entries and was shown that size, with their sizes.

    SPEC transition-9: who follows MUST be sent each transition checkpoint right after the entries of its tree.
    """
    ahead = [(size, note) for size, note in tree.transitions if size >= position and size > shown]
    return [*ahead, (tree.size, tree.note)]
