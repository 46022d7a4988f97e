"""The log's client: submit envelopes and get verified receipts, follow verified entries. Mutual TLS, asyncio.

    credentials = channel_credentials(bundle.certificates[LOG_URI], key_pem, cert_pem)
    async with LogClient(agreement.log.address, credentials, agreement) as log:
        [receipt] = await log.submit([envelope_bytes])

A call that ended without an outcome raises TemporaryFailure, and the same envelopes may be submitted again: the log
answers a statement that it has already with the index that it has. What never passes raises Refused.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import deque
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterable, Iterator, Sequence
from itertools import chain, repeat
from types import TracebackType
from typing import Final, TypeVar

import grpc
import grpc.aio

from pacekeeper.client.errors import Outage, TemporaryFailure
from pacekeeper.client.follow import Follower, VerifiedBatch
from pacekeeper.client.receipts import Accepted, SubmitRefused, Submitted, WitnessedReceipt, claimed_size, verify_answer
from pacekeeper.client.rpc import failure_of
from pacekeeper.client.tls import CHANNEL_OPTIONS
from pacekeeper.protocol import limits
from pacekeeper.protocol.documents.agreement import Agreement
from pacekeeper.protocol.errors import Code, Refused
from pacekeeper.protocol.tlog.merkle import Frontier
from pacekeeper.protocol.tlog.policy import CosignaturePolicy
from pacekeeper.protocol.tlog.transitions import PolicyChain
from pacekeeper.v1 import log_pb2, log_pb2_grpc

__all__ = [
    "Accepted",
    "LogClient",
    "SubmitRefused",
    "Submitted",
    "TemporaryFailure",
    "VerifiedBatch",
    "WitnessedReceipt",
    "split_batches",
]

_Answer = TypeVar("_Answer")
UNDER_WAY: Final = 4  # batches of a stream that wait for their answer; a log takes up to eight
# How a stream ends that a log does not know, or that is written to when it has ended: gRPC then hides the reason.
_UNSAID: Final = frozenset({grpc.StatusCode.UNIMPLEMENTED, grpc.StatusCode.INTERNAL})
_MAX_BATCH_BYTES = limits.MAX_SUBMIT_BYTES - 4_096  # room for the framing of 256 envelopes


def split_batches(envelopes: Iterable[bytes]) -> Iterator[list[bytes]]:
    """Split envelopes, in order, into batches that one submit takes."""
    batch: list[bytes] = []
    size = 0
    for data in envelopes:
        if batch and (len(batch) == limits.MAX_BATCH or size + len(data) > _MAX_BATCH_BYTES):
            yield batch
            batch, size = [], 0
        batch.append(data)
        size += len(data)
    if batch:
        yield batch


def _request(envelopes: Sequence[bytes], unwitnessed: bool) -> log_pb2.SubmitRequest:
    if not envelopes or len(envelopes) > limits.MAX_BATCH or sum(map(len, envelopes)) > _MAX_BATCH_BYTES:
        raise ValueError(f"a batch has 1 to {limits.MAX_BATCH} envelopes and at most {_MAX_BATCH_BYTES} bytes")
    return log_pb2.SubmitRequest(envelopes=envelopes, accept_unwitnessed=unwitnessed)


class LogClient:
    """A connection to one agreement's log. Use it in `async with`; calls may run side by side.

    Whose cosignatures a checkpoint needs it knows as far as it follows the log for one who replays it, or from
    policy_at of one who has that from elsewhere.
    """

    def __init__(
        self,
        address: str,
        credentials: grpc.ChannelCredentials,
        agreement: Agreement,
        *,
        policy_at: Callable[[int], CosignaturePolicy] | None = None,
    ) -> None:
        self._address = address
        self._name = f"the log at {address}"
        self._credentials = credentials
        self._agreement = agreement
        self._channel: grpc.aio.Channel | None = None
        self._chain = PolicyChain(agreement.policy())
        self._followed = False
        self._known = policy_at

    def policy_at(self, size: int) -> CosignaturePolicy:
        """Return whose cosignatures a checkpoint over so many entries needs."""
        return self._chain.policy_at(size) if self._known is None else self._known(size)

    async def __aenter__(self) -> LogClient:
        if self._channel is not None:
            raise ValueError("the client is open already")
        self._channel = grpc.aio.secure_channel(self._address, self._credentials, options=CHANNEL_OPTIONS)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        channel, self._channel = self._channel, None
        if channel is not None:
            await channel.close()

    async def submit(
        self, envelopes: Sequence[bytes], *, unwitnessed: bool = False, deadline_s: float = 30
    ) -> list[Submitted]:
        """Submit envelopes and return their outcomes in order, each receipt verified.

        With unwitnessed=True the log may answer once the entries are durable, with its signed acceptance. ValueError
        for no envelope or more than one batch holds (split_batches). Refused if an envelope is not one, or the log's
        answer does not prove what it says; TemporaryFailure if there was none, or the log puts us off.
        """
        request = _request(envelopes, unwitnessed)
        try:
            response = await self._stub().Submit(request, timeout=deadline_s)
        except grpc.aio.AioRpcError as error:
            raise self._failure(error) from None
        return self._verified(envelopes, response, unwitnessed=unwitnessed)

    def _verified(
        self, envelopes: Sequence[bytes], response: log_pb2.SubmitResponse, *, unwitnessed: bool
    ) -> list[Submitted]:
        try:
            return verify_answer(
                envelopes, response, self._agreement, policy_at=self.policy_at, unwitnessed=unwitnessed
            )
        except Refused as refused:
            # The verifiers may have changed in entries that were not followed yet: follow first, then judge.
            if refused.code is Code.NO_QUORUM and self._followed and claimed_size(response) > self._chain.size:
                raise TemporaryFailure(Outage.BEHIND, refused.message) from None
            raise

    async def submit_all(
        self, batches: Iterable[Sequence[bytes]], *, unwitnessed: bool = False, deadline_s: float = 30
    ) -> AsyncGenerator[list[Submitted], None]:
        """Submit batch after batch over one stream; yield the outcomes of each, in order, as submit returns them.

        A few batches are under way at a time, and the next is taken from the iterable when there is room for it.
        deadline_s is for each answer. Raises as submit does; batches without an answer by then may be on the log or
        not, and may be submitted again. With a log that has no streams, or when a stream ends without saying why, each
        batch without an answer is a call.
        """
        call = self._stub().SubmitStream()
        under_way: deque[Sequence[bytes]] = deque()
        rest = iter(batches)
        try:
            for batch in chain(rest, repeat(None)):  # after the last there is nothing left but to read
                if batch is not None:
                    under_way.append(batch)
                # A stream that has ended says why when it is read.
                with contextlib.suppress(asyncio.InvalidStateError, grpc.aio.AioRpcError):
                    async with asyncio.timeout(deadline_s):
                        await (call.done_writing() if batch is None else call.write(_request(batch, unwitnessed)))
                if batch is not None and len(under_way) < UNDER_WAY:
                    continue
                if not under_way:
                    return
                async with asyncio.timeout(deadline_s):
                    response = await call.read()
                if not isinstance(response, log_pb2.SubmitResponse):
                    raise TemporaryFailure(Outage.SERVER_ERROR, f"{self._name} ended a stream before its last answer")
                yield self._verified(under_way.popleft(), response, unwitnessed=unwitnessed)
        except grpc.aio.AioRpcError as error:
            if error.code() not in _UNSAID:
                raise self._failure(error) from None
            for batch in (*under_way, *rest):
                yield await self.submit(batch, unwitnessed=unwitnessed, deadline_s=deadline_s)
        except TimeoutError:
            raise TemporaryFailure(Outage.DEADLINE_EXCEEDED, f"{self._name} did not answer in time") from None
        finally:
            call.cancel()

    async def follow(
        self,
        from_index: int = 0,
        *,
        frontier: Frontier | None = None,
        policy: Callable[[], CosignaturePolicy | None] | None = None,
    ) -> AsyncIterator[VerifiedBatch]:
        """Yield entries from an index on as a quorum covers them, and go on until the stream breaks.

        policy: for one who replays each batch before asking for the next: the policy of the agreement that is then in
        force. Receipts are judged by it, too. Without it the verifiers stay the founding ones.

        To go on from an index above 0, pass the frontier of the entries before it (VerifiedBatch.frontier of the last
        batch); otherwise nothing could be verified, and it is a ValueError. Raises as submit does.
        """
        frontier = Frontier() if frontier is None else frontier
        if frontier.size != from_index:
            raise ValueError(f"a frontier of size {frontier.size} does not go on at {from_index}")
        anew = policy is None or from_index == 0
        chain = PolicyChain(self._agreement.policy()) if anew else self._chain
        if policy is not None:
            self._chain, self._followed = chain, True
        follower = Follower(chain, frontier, policy)
        call = self._stub().Follow(log_pb2.FollowRequest(from_index=from_index))
        try:
            async for message in call:
                for batch in follower.feed(message):
                    yield batch
        except grpc.aio.AioRpcError as error:
            raise self._failure(error) from None
        finally:
            call.cancel()

    async def status(self, *, deadline_s: float = 10) -> log_pb2.GetStatusResponse:
        """Return what the log says about itself; nothing in it is verified."""
        try:
            return await self._stub().GetStatus(log_pb2.GetStatusRequest(), timeout=deadline_s)
        except grpc.aio.AioRpcError as error:
            raise self._failure(error) from None

    def _stub(self) -> log_pb2_grpc.TransparencyLogAsyncStub:
        if self._channel is None:
            raise ValueError("the client is not open: use it in `async with`")
        return log_pb2_grpc.TransparencyLogStub(self._channel)

    def _failure(self, error: grpc.aio.AioRpcError) -> Refused | TemporaryFailure:
        return failure_of(error, self._name)
