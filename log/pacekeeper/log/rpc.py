"""The TransparencyLog service: submissions, proofs, status and the stream of published entries.

A submission is answered with a receipt that proves something: inclusion proofs in a checkpoint that the quorum has
cosigned, or, for who asked not to wait, a promise under the log's signature. Never with a bare index.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from typing import Final

from pacekeeper.client.rpc import TEMPORARY, abort
from pacekeeper.log.cosign import CosignStreams
from pacekeeper.log.peers import Context, Peers
from pacekeeper.log.published import Prover, PublishedTree
from pacekeeper.log.sequencer import Outcome, Sequenced
from pacekeeper.log.store.port import Store
from pacekeeper.log.witnessing import Witnessing
from pacekeeper.log.writer import Writer
from pacekeeper.protocol import limits
from pacekeeper.protocol.envelope import parse_entry
from pacekeeper.protocol.errors import Code, Refused
from pacekeeper.protocol.keys import SigningKey
from pacekeeper.protocol.statements import seal
from pacekeeper.v1 import log_pb2, log_pb2_grpc
from pacekeeper.v1 import statements_pb2 as pb

MAX_WAIT_S: Final = 60.0  # for a quorum, whatever the caller's deadline
_ANSWER_MARGIN: Final = 0.9  # of the caller's deadline is waited, so that the answer still reaches it
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
        statement_key: Callable[[], SigningKey],
        origin: str,
        fingerprint: bytes,
    ) -> None:
        self._writer = writer
        self._witnessing = witnessing
        self._store = store
        self._peers = peers
        self._streams = streams
        self._key = statement_key
        self._origin = origin
        self._fingerprint = fingerprint
        self._prover = Prover()

    async def Submit(self, request: log_pb2.SubmitRequest, context: Context) -> log_pb2.SubmitResponse:  # noqa: N802
        uri = await self._peers.identify(context)
        try:
            with self._peers.call(uri):
                envelopes = list(request.envelopes)  # once: each reading of the field copies the bytes
                _check_batch(envelopes)
                outcomes = await self._writer.submit(uri, envelopes)
                for outcome in outcomes:
                    if isinstance(outcome, Refused) and outcome.code in TEMPORARY:
                        raise outcome
                if request.accept_unwitnessed:
                    return self._accepted(outcomes)
                return await self._witnessed(outcomes, context)
        except Refused as refused:
            await abort(context, refused)

    def _accepted(self, outcomes: Sequence[Outcome]) -> log_pb2.SubmitResponse:
        """SPEC log-19: an answer before publication MUST be an Acceptance signed by the log's statement key."""
        response = log_pb2.SubmitResponse()
        promise = pb.Acceptance(agreement=self._fingerprint)
        for outcome in outcomes:
            _set_result(response.results.add(), outcome)
            if isinstance(outcome, Sequenced):
                entry = promise.entries.add()
                entry.index, entry.id, entry.sequenced_at_ms, _ = outcome
        if promise.entries:
            response.acceptance.CopyFrom(seal(promise, [self._key()]))
        return response

    async def _witnessed(self, outcomes: Sequence[Outcome], context: Context) -> log_pb2.SubmitResponse:
        """SPEC log-20: an answer with a checkpoint MUST have the quorum's cosignatures and a proof for each entry."""
        size = max((outcome.index + 1 for outcome in outcomes if isinstance(outcome, Sequenced)), default=0)
        tree: PublishedTree | None = None
        if size > 0:
            left = context.time_remaining()
            wait_s = MAX_WAIT_S if left is None else min(MAX_WAIT_S, left * _ANSWER_MARGIN)
            tree = await self._witnessing.wait_published(size, wait_s)
        response = log_pb2.SubmitResponse(checkpoint=tree.note if tree else b"")
        for outcome in outcomes:
            result = response.results.add()
            _set_result(result, outcome)
            if tree is not None and isinstance(outcome, Sequenced):
                result.sequenced.inclusion_proof.extend(self._prover.prove(outcome.index, tree))
        return response

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


def _check_batch(envelopes: Sequence[bytes]) -> None:
    if not envelopes:
        raise Refused(Code.MALFORMED, "a submission has at least one envelope")
    if len(envelopes) > limits.MAX_BATCH or sum(map(len, envelopes)) > limits.MAX_SUBMIT_BYTES:
        allowed = f"{limits.MAX_BATCH} envelopes and {limits.MAX_SUBMIT_BYTES} bytes"
        raise Refused(Code.TOO_LARGE, f"a submission has at most {allowed}")


def _set_result(result: log_pb2.SubmitResult, outcome: Outcome) -> None:
    """Fill in a result in place: a message made apart and then added is copied, field by field."""
    if isinstance(outcome, Refused):
        result.refusal.code, result.refusal.message = outcome.code, outcome.message
        return
    sequenced = result.sequenced
    sequenced.index, _, sequenced.sequenced_at_ms, sequenced.duplicate = outcome
