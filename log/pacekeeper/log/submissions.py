"""Submissions: what is answered to a batch of envelopes, alone or as one of many over a stream.

A submission is answered with a receipt that proves something: inclusion proofs in a checkpoint that the quorum has
cosigned, or, for who asked not to wait, a promise under the log's signature. Never with a bare index.

Over a stream, batches are answered in order, one message each. Reading and answering go on side by side: batches queue
with the writer while those before them are committed, witnessed or sent. A stream that has as many under way as it may
is not read, so that a caller that sends without end, or never reads, costs these and no more; one that does nothing for
a while is ended.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from typing import Final, NamedTuple

from pacekeeper.client.rpc import TEMPORARY
from pacekeeper.log.peers import Context
from pacekeeper.log.published import Prover, PublishedTree
from pacekeeper.log.sequencer import Outcome, Sequenced
from pacekeeper.log.witnessing import Witnessing
from pacekeeper.log.writer import Writer
from pacekeeper.protocol import limits
from pacekeeper.protocol.errors import Code, Refused
from pacekeeper.protocol.keys import SigningKey
from pacekeeper.protocol.statements import seal
from pacekeeper.v1 import log_pb2
from pacekeeper.v1 import statements_pb2 as pb

MAX_WAIT_S: Final = 60.0  # for a quorum, whatever the caller's deadline
MAX_UNDER_WAY: Final = 8  # batches of one stream: a quarter of what one caller may have waiting, if they are full
IDLE_S: Final = 60.0  # a stream may say nothing, or leave an answer unread; its caller opens another when it needs one
_ANSWER_MARGIN: Final = 0.9  # of the caller's deadline is waited, so that the answer still reaches it


class _Batch(NamedTuple):
    """A batch under way: what the writer will say of it, and whether its caller waits for the quorum."""

    outcomes: asyncio.Future[list[Outcome]]
    unwitnessed: bool


# Batches in order; at their end None if the stream has ended, or why it is not read any further.
_UnderWay = asyncio.Queue[_Batch | Refused | None]


class Submissions:
    """Answers under one agreement, with the log's statement key in force."""

    def __init__(
        self, writer: Writer, witnessing: Witnessing, statement_key: Callable[[], SigningKey], fingerprint: bytes
    ) -> None:
        self._writer = writer
        self._witnessing = witnessing
        self._key = statement_key
        self._fingerprint = fingerprint
        self._prover = Prover()

    async def answer(self, caller: str, request: log_pb2.SubmitRequest, left_s: float | None) -> log_pb2.SubmitResponse:
        """Answer one batch; left_s: until the caller's deadline, if it has one. Raises Refused for a whole batch."""
        return await self._answer(self._begin(caller, request), left_s)

    async def serve(self, caller: str, requests: AsyncIterator[log_pb2.SubmitRequest], context: Context) -> None:
        """Answer a stream's batches until it ends. Raises Refused for the first that is refused as a whole.

        SPEC log-40: batches of a stream MUST be answered in order, and a stream MUST NOT have more than 8 under way.
        """
        under_way: _UnderWay = asyncio.Queue(MAX_UNDER_WAY - 1)  # and one that is being answered
        reading = asyncio.create_task(self._read(caller, requests, under_way))
        try:
            while (batch := await under_way.get()) is not None:
                if isinstance(batch, Refused):
                    raise batch
                response = await self._answer(batch, context.time_remaining())
                async with asyncio.timeout(IDLE_S):
                    await context.write(response)
        except TimeoutError:
            raise Refused(Code.OVERLOADED, f"the stream has left an answer unread for {IDLE_S:.0f} s") from None
        finally:
            reading.cancel()

    async def _read(self, caller: str, requests: AsyncIterator[log_pb2.SubmitRequest], under_way: _UnderWay) -> None:
        """Hand batches to the writer as they come, until one is refused or the stream ends, is idle or breaks."""
        end: Refused | None = None
        try:
            while True:
                async with asyncio.timeout(IDLE_S):
                    request = await anext(requests, None)
                if request is None:
                    break
                await under_way.put(self._begin(caller, request))
        except TimeoutError:
            end = Refused(Code.OVERLOADED, f"the stream has said nothing for {IDLE_S:.0f} s")
        except Refused as refused:
            end = refused
        await under_way.put(end)

    def _begin(self, caller: str, request: log_pb2.SubmitRequest) -> _Batch:
        envelopes = list(request.envelopes)  # once: each reading of the field copies the bytes
        _check_batch(envelopes)
        outcomes = self._writer.enqueue(caller, envelopes)
        outcomes.add_done_callback(_look)
        return _Batch(outcomes, request.accept_unwitnessed)

    async def _answer(self, batch: _Batch, left_s: float | None) -> log_pb2.SubmitResponse:
        outcomes = await batch.outcomes
        for outcome in outcomes:
            if isinstance(outcome, Refused) and outcome.code in TEMPORARY:
                raise outcome
        return self._accepted(outcomes) if batch.unwitnessed else await self._witnessed(outcomes, left_s)

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

    async def _witnessed(self, outcomes: Sequence[Outcome], left_s: float | None) -> log_pb2.SubmitResponse:
        """SPEC log-20: an answer with a checkpoint MUST have the quorum's cosignatures and a proof for each entry."""
        size = max((outcome.index + 1 for outcome in outcomes if isinstance(outcome, Sequenced)), default=0)
        tree: PublishedTree | None = None
        if size > 0:
            wait_s = MAX_WAIT_S if left_s is None else min(MAX_WAIT_S, left_s * _ANSWER_MARGIN)
            tree = await self._witnessing.wait_published(size, wait_s)
        response = log_pb2.SubmitResponse(checkpoint=tree.note if tree else b"")
        for outcome in outcomes:
            result = response.results.add()
            _set_result(result, outcome)
            if tree is not None and isinstance(outcome, Sequenced):
                result.sequenced.inclusion_proof.extend(self._prover.prove(outcome.index, tree))
        return response


def _look(outcomes: asyncio.Future[list[Outcome]]) -> None:
    """See how a batch ended, for a caller that may be gone: asyncio calls an error that nobody saw a fault."""
    if not outcomes.cancelled():
        outcomes.exception()


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
