"""The stream to the log, which the verifier opens: entries and checkpoints in, cosignatures, refusals and clock out.

    hello(size) ->   <- batch, batch, checkpoint   cosignature ->   <- batch, checkpoint   refusal ->   clock -> ...

Everything is stored and replayed before it is cosigned. A refusal that impugns what was pushed ends the stream, and the
verifier begins again from what it has cosigned; a head that is merely too old or too new is refused and waited out.
Whatever the log does, the verifier comes back, at growing intervals.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Callable
from typing import Final

import grpc
import structlog

from pacekeeper.client.rpc import failure_of
from pacekeeper.protocol.errors import Code, Refused
from pacekeeper.protocol.text import printable
from pacekeeper.v1 import log_pb2, log_pb2_grpc
from pacekeeper.verifier.findings import Findings
from pacekeeper.verifier.ledger import Ledger

CLOCK_EVERY_S: Final = 0.5  # the log wants to hear the clock every second
BACKOFF_S: Final = (0.2, 2.0)  # first and longest pause between two streams: a head grows stale meanwhile
GOODBYE_S: Final = 1.0  # for a last refusal to reach the log
SILENCE_SLACK_S: Final = 30.0  # beyond two tick intervals without a word, the stream is taken for dead
MAX_BATCH_ENTRIES: Final = 65_536  # smaller entries than real ones could make millions of one message
LEFT_PAUSE_S: Final = 10.0  # between two looks whether the log still needs a verifier whose party has left
NOT_A_PARTY: Final = "not-a-party"  # in the status, where a refusal's code stands otherwise
_SLICE: Final = 32  # entries replayed, some 3 ms, between two looks at clock and status
# The log rejects the size that hello named: what no cosignature covers is given up, or it would do so for ever.
_REJECTIONS: Final = frozenset(
    {
        grpc.StatusCode.FAILED_PRECONDITION,
        grpc.StatusCode.INVALID_ARGUMENT,
        grpc.StatusCode.OUT_OF_RANGE,
        grpc.StatusCode.ABORTED,
    }
)
_DISOWNING: Final = frozenset({Code.WRONG_ROOT, Code.TIME_RUNS_BACK})
CosignCall = grpc.aio.StreamStreamCall[log_pb2.CosignRequest, log_pb2.CosignResponse]
_log = structlog.get_logger()


class Follower:
    """Follows one log for one party. connected and refusing say how it stands; run never returns by itself."""

    def __init__(
        self,
        connect: Callable[[], grpc.aio.Channel],
        party: str,
        ledger: Ledger,
        findings: Findings,
        clock_ms: Callable[[], int],
    ) -> None:
        self._connect = connect
        self._party, self._ledger, self._findings, self._clock_ms = party, ledger, findings, clock_ms
        self._outbox: asyncio.Queue[log_pb2.CosignRequest | None] = asyncio.Queue()
        self._pause_s = BACKOFF_S[0]
        self.connected = False
        self.refusing = ""

    @property
    def _silence_s(self) -> float:
        return 2 * self._ledger.present.timing.tick_ms / 1000 + SILENCE_SLACK_S

    async def run(self) -> None:
        """Keep a stream open. Raises Refused(unsafe-state) when the own state cannot be trusted any more.

        SPEC verifier-17: a verifier MUST reconnect after any failure, at intervals of at most a few seconds.
        """
        while True:
            try:
                await self._stream()
            except grpc.aio.AioRpcError as error:
                failure = failure_of(error, "the log")
                _log.warning("stream ended", code=str(failure.code), why=printable(failure.message))
                if error.code() in _REJECTIONS:
                    await self._begin_again()
            except TimeoutError:
                _log.warning("stream ended", code="silence", why=f"nothing heard for {self._silence_s:.0f} s")
            self._ledger.flush()
            if not self._ledger.is_party(self._party):
                # The log asked as long as the transition needed it; now it does not let it in any more.
                self.refusing = NOT_A_PARTY
                await asyncio.sleep(LEFT_PAUSE_S)
                continue
            await asyncio.sleep(self._pause_s * random.uniform(0.75, 1.25))  # noqa: S311
            self._pause_s = min(self._pause_s * 2, BACKOFF_S[1])

    async def _stream(self) -> None:
        self._outbox = asyncio.Queue()
        hello = log_pb2.CosignHello(party=self._party, size=self._ledger.size)
        self._outbox.put_nowait(log_pb2.CosignRequest(hello=hello))
        async with self._connect() as channel:
            stub: log_pb2_grpc.TransparencyLogAsyncStub = log_pb2_grpc.TransparencyLogStub(channel)
            call = stub.Cosign(self._outgoing(self._outbox))
            try:
                await self._converse(call)
            finally:
                self.connected = False
                call.cancel()

    async def _converse(self, call: CosignCall) -> None:
        await call.wait_for_connection()
        self.connected = True
        _log.info("stream opened", size=self._ledger.size)
        while True:
            async with asyncio.timeout(self._silence_s):
                message = await call.read()
            if not isinstance(message, log_pb2.CosignResponse):
                return  # the log has closed the stream; had it failed, read would have raised
            try:
                await self._handle(message)
            except Refused as refused:
                if refused.code == Code.UNSAFE_STATE:
                    raise
                if await self._refuse(refused, message):
                    await self._part(call)
                    return

    async def _outgoing(
        self, outbox: asyncio.Queue[log_pb2.CosignRequest | None]
    ) -> AsyncIterator[log_pb2.CosignRequest]:
        """Yield what is to be said, and the clock whenever there is nothing else."""
        while True:
            try:
                async with asyncio.timeout(CLOCK_EVERY_S):
                    request = await outbox.get()
            except TimeoutError:
                request = log_pb2.CosignRequest()
            if request is None:
                return
            # SPEC verifier-18: every message MUST carry the clock, and one MUST be sent at least every second.
            request.clock_ms = self._clock_ms()
            yield request

    async def _handle(self, message: log_pb2.CosignResponse) -> None:
        kind = message.WhichOneof("item")
        if kind == "batch":
            await self._take(message.batch)
        elif kind == "checkpoint":
            line = self._ledger.cosign(message.checkpoint, self._clock_ms())
            self._outbox.put_nowait(log_pb2.CosignRequest(cosignature=line))
            self.refusing, self._pause_s = "", BACKOFF_S[0]
            self._findings.conclude(self._ledger)
        elif kind == "conflict":
            self._findings.relayed(message.conflict)
            self._findings.conclude(self._ledger)
        else:
            raise Refused(Code.MALFORMED, "a message with nothing in it")

    async def _take(self, batch: log_pb2.EntryBatch) -> None:
        entries = list(batch.entries)
        if len(entries) > MAX_BATCH_ENTRIES:
            raise Refused(Code.TOO_LARGE, f"batch of {len(entries)} entries, at most {MAX_BATCH_ENTRIES}")
        self._ledger.check_batch(batch.first_index, entries, self._clock_ms())
        for start in range(0, len(entries), _SLICE):
            self._ledger.take(entries[start : start + _SLICE])
            await asyncio.sleep(0)

    async def _refuse(self, refused: Refused, message: log_pb2.CosignResponse) -> bool:
        """Tell the log and the status why; whether the stream is to end.

        SPEC verifier-19: a refusal MUST be sent on the stream, and shown in the status until a checkpoint is cosigned.
        """
        _log.error("refused", code=refused.code.value, why=printable(refused.message))
        self.refusing = refused.code.value
        refusal = log_pb2.Refusal(code=refused.code, message=refused.message[:400])
        self._outbox.put_nowait(log_pb2.CosignRequest(refusal=refusal))
        if message.WhichOneof("item") != "checkpoint":
            return True
        self._keep_evidence(message.checkpoint)
        if refused.code in _DISOWNING:
            await self._begin_again()
        return refused.code != Code.CLOCK_DISAGREES

    def _keep_evidence(self, note: bytes) -> None:
        """A checkpoint that is refused may still convict the log that signed it; one that it did not sign cannot."""
        try:
            self._findings.compare(self._ledger, note)
        except Refused as refused:
            if refused.code == Code.UNSAFE_STATE:
                raise

    async def _begin_again(self) -> None:
        """Go back to the tree that was cosigned, if there is anything beyond it."""
        if self._ledger.drop_uncosigned():
            self._findings.forget_uncosigned(self._ledger.witness.size)
            for _ in self._ledger.replay_stored():
                await asyncio.sleep(0)

    async def _part(self, call: CosignCall) -> None:
        """Close the own side and give the log a moment to hear the refusal."""
        self._outbox.put_nowait(None)
        try:
            async with asyncio.timeout(GOODBYE_S):
                while isinstance(await call.read(), log_pb2.CosignResponse):
                    pass
        except (TimeoutError, grpc.aio.AioRpcError):
            return
