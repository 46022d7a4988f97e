"""Batches over one stream: in order, bounded, ended with a reason; as a process over mutual TLS and in one process."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import grpc
import grpc.aio
import pytest
from agreements import signing_key
from callers import RECKLESS, eventually
from cosigner import Cosigner
from logsite import LogProcess, LogSite
from participants import Participants, make_participants
from processes import resident_bytes

from pacekeeper.client.receipts import Accepted, SubmitRefused, WitnessedReceipt
from pacekeeper.client.tls import lab_uri
from pacekeeper.log import submissions
from pacekeeper.log.sequencer import Outcome, Sequenced
from pacekeeper.log.submissions import MAX_UNDER_WAY, Submissions
from pacekeeper.protocol import limits
from pacekeeper.protocol.errors import Code, Refused
from pacekeeper.v1 import log_pb2, log_pb2_grpc

LAB, OTHER = "borealis", "meridian"
BIG = b"\x00" * 60_000
GROWTH = 192 * 2**20  # of the log's memory, for whatever one stream does


@pytest.fixture(scope="module")
def people() -> Participants:
    return make_participants(period="1 h", due="30 min", tick="10 s", tolerance="2 s", unwitnessed="1 h")


@pytest.fixture
def site(tmp_path: Path, people: Participants) -> LogSite:
    return LogSite(tmp_path / "log", people)


@contextlib.asynccontextmanager
async def raw(site: LogSite, log: LogProcess, lab: str = LAB) -> AsyncIterator[log_pb2_grpc.TransparencyLogAsyncStub]:
    credentials = site.people.credentials_of(lab_uri(lab))
    async with grpc.aio.secure_channel(log.address, credentials, options=RECKLESS) as channel:
        yield log_pb2_grpc.TransparencyLogStub(channel)


def request(*envelopes: bytes, unwitnessed: bool = True) -> log_pb2.SubmitRequest:
    return log_pb2.SubmitRequest(envelopes=envelopes, accept_unwitnessed=unwitnessed)


async def end_of(call: Any) -> tuple[grpc.StatusCode, str]:
    """How a stream ends, whatever is answered before."""
    try:
        async with asyncio.timeout(20):
            while await call.read() is not grpc.aio.EOF:
                pass
    except grpc.aio.AioRpcError as error:
        return error.code(), (error.details() or "").partition(":")[0]
    return await call.code(), ""


async def size(stub: log_pb2_grpc.TransparencyLogAsyncStub) -> int:
    return (await stub.GetStatus(log_pb2.GetStatusRequest(), timeout=20)).size


async def test_batches_are_answered_in_order_and_the_same_again(site: LogSite) -> None:
    """SPEC log-40, SPEC log-1: duplicates and refusals as in calls of their own, and the same indices again."""
    batches = [[site.declaration(LAB, f"run-{batch}-{number}") for number in range(20)] for batch in range(30)]
    forged = bytearray(site.declaration(LAB, "forged"))
    forged[-1] ^= 1
    batches[7].append(bytes(forged))
    with site.process() as log:
        async with site.client(lab_uri(LAB), log) as client:
            answers = [outcomes async for outcomes in client.submit_all(batches, unwitnessed=True)]
            again = [outcomes async for outcomes in client.submit_all(reversed(batches), unwitnessed=True)]
            alone = await client.submit(batches[3], unwitnessed=True)
    assert [len(outcomes) for outcomes in answers] == [len(batch) for batch in batches]
    places = [outcome.index for outcomes in answers for outcome in outcomes if isinstance(outcome, Accepted)]
    assert places == list(range(places[0], places[0] + 600)), "one after the other, in the order in which they came"
    refused = answers[7][20]
    assert isinstance(refused, SubmitRefused)
    assert refused.code == Code.BAD_SIGNATURE
    for first, second in zip(answers, reversed(again), strict=True):
        assert [getattr(one, "index", None) for one in first] == [getattr(one, "index", None) for one in second]
    assert [getattr(one, "index", None) for one in alone] == [getattr(one, "index", None) for one in answers[3]]


async def test_a_stream_has_the_quorums_receipts(site: LogSite, people: Participants) -> None:
    """SPEC log-20, SPEC log-40: each batch with the checkpoint that covers it."""
    with site.process() as log:
        async with contextlib.AsyncExitStack() as stack:
            for party in people.keys.party_ids[:3]:
                await stack.enter_async_context(Cosigner(people, party, log.address))
            client = await stack.enter_async_context(site.client(lab_uri(LAB), log))
            batches = [[site.declaration(LAB, f"w-{batch}-{number}") for number in range(5)] for batch in range(6)]
            answers = [outcomes async for outcomes in client.submit_all(batches)]
    assert all(isinstance(outcome, WitnessedReceipt) for outcomes in answers for outcome in outcomes)


@pytest.mark.parametrize(
    ("bad", "ends"),
    [
        (request(), (grpc.StatusCode.INVALID_ARGUMENT, Code.MALFORMED)),
        (request(*[b"x"] * (limits.MAX_BATCH + 1)), (grpc.StatusCode.INVALID_ARGUMENT, Code.TOO_LARGE)),
        (request(*[BIG] * 80), (grpc.StatusCode.RESOURCE_EXHAUSTED, "")),
    ],
)
async def test_a_bad_batch_ends_its_stream_after_the_answers_before_it(
    site: LogSite, bad: log_pb2.SubmitRequest, ends: tuple[grpc.StatusCode, str]
) -> None:
    """SPEC log-40 (FAULTS 43): nothing of it is sequenced, what came before stands, and others do not notice."""
    with site.process() as log:
        async with raw(site, log) as stub, site.client(lab_uri(OTHER), log) as other:
            before = await size(stub)
            call = stub.SubmitStream()
            await call.write(request(site.declaration(LAB, "before")))
            first: Any = await call.read()
            assert first.results[0].WhichOneof("outcome") == "sequenced"
            await call.write(bad)
            status, code = await end_of(call)
            assert (status, code if ends[1] else "") == ends
            assert await size(stub) == before + 2, "a tick, and what came before"
            [answer] = await other.submit([site.declaration(OTHER, "well-behaved")], unwitnessed=True)
            assert isinstance(answer, Accepted)


async def test_who_never_reads_is_not_read_and_delays_nobody(site: LogSite) -> None:
    """SPEC log-40 (FAULTS 44): a stream takes no more batches than it may have unanswered; its own fault alone."""
    written = 0
    with site.process() as log:
        async with raw(site, log) as stub, site.client(lab_uri(OTHER), log) as other:
            memory = resident_bytes(log.process.pid)
            call = stub.SubmitStream()

            async def flood() -> None:
                nonlocal written
                # Large answers: a refusal for each of 256 envelopes, so that the stream's window for them fills up.
                while True:
                    await call.write(request(*[bytes([written % 256]) * 9_000] * 256))
                    written += 1

            task = asyncio.create_task(flood())

            async def stands_still() -> bool:
                seen = written
                await asyncio.sleep(1)
                return written == seen > 0

            await eventually(stands_still, 60)
            [answer] = await other.submit([site.declaration(OTHER, "served")], unwitnessed=True, deadline_s=10)
            assert isinstance(answer, Accepted)
            task.cancel()
            call.cancel()
            # Answers of some 4 MB wait in the connection's own window; of the requests hardly any are held.
            assert written * 9_000 * 256 > GROWTH
            assert resident_bytes(log.process.pid) < memory + GROWTH


async def test_half_closed_and_abandoned_streams_leave_nothing_behind(site: LogSite) -> None:
    """SPEC log-40 (FAULTS 44): answered to the end after the last request; a broken stream frees its place at once."""
    with site.process() as log:
        async with raw(site, log) as stub:
            call = stub.SubmitStream()
            for number in range(12):
                await call.write(request(site.declaration(LAB, f"half-{number}")))
            await call.done_writing()
            answers = [answer async for answer in call]
            assert len(answers) == 12
            assert await call.code() is grpc.StatusCode.OK
            for number in range(200):  # more than may be under way at once
                abandoned = stub.SubmitStream()
                await abandoned.write(request(site.declaration(LAB, f"left-{number}")))
                abandoned.cancel()
            async with asyncio.timeout(30):
                last = stub.SubmitStream()
                await last.write(request(site.declaration(LAB, "the-last")))
                answer: Any = await last.read()
                assert answer.results[0].WhichOneof("outcome") == "sequenced"


async def test_a_participant_has_so_many_streams_and_no_more(site: LogSite) -> None:
    """SPEC log-40 (FAULTS 44): streams count as calls under way."""
    with site.process() as log:
        async with raw(site, log) as one, raw(site, log) as two, site.client(lab_uri(OTHER), log) as other:
            streams = [stub.SubmitStream() for stub in (one, two) for _ in range(40)]
            for stream in streams:
                with contextlib.suppress(grpc.aio.AioRpcError, asyncio.InvalidStateError):
                    await stream.write(request(b"nothing"))
            ends = await asyncio.gather(*(stream.read() for stream in streams), return_exceptions=True)
            refused = [end for end in ends if isinstance(end, grpc.aio.AioRpcError)]
            assert len(refused) == 80 - 64
            assert {(end.details() or "").partition(":")[0] for end in refused} == {Code.OVERLOADED}
            [answer] = await other.submit([site.declaration(OTHER, "served")], unwitnessed=True, deadline_s=10)
            assert isinstance(answer, Accepted)


class _Writer:
    """A writer that answers when it is told to."""

    def __init__(self) -> None:
        self.queued: list[asyncio.Future[list[Outcome]]] = []

    def enqueue(self, _caller: str, _envelopes: object) -> asyncio.Future[list[Outcome]]:
        self.queued.append(asyncio.get_running_loop().create_future())
        return self.queued[-1]


class _Context:
    """A caller that reads its answers, or does not."""

    def __init__(self, *, reads: bool = True) -> None:
        self.reads = reads
        self.answers: list[log_pb2.SubmitResponse] = []

    def time_remaining(self) -> None:
        return None

    async def write(self, response: log_pb2.SubmitResponse) -> None:
        if not self.reads:
            await asyncio.Event().wait()
        self.answers.append(response)


async def _endless() -> AsyncIterator[log_pb2.SubmitRequest]:
    while True:
        await asyncio.sleep(0)
        yield request(b"x")


async def _silence() -> AsyncIterator[log_pb2.SubmitRequest]:
    yield request(b"x")
    await asyncio.Event().wait()


def _submissions(writer: _Writer) -> Submissions:
    nobody: Any = None
    stand_in: Any = writer
    return Submissions(stand_in, nobody, lambda: signing_key("log"), bytes(32))


async def test_no_more_than_eight_batches_are_under_way() -> None:
    """SPEC log-40: whoever sends without end."""
    writer, context = _Writer(), _Context()
    stand_in: Any = context
    serving = asyncio.create_task(_submissions(writer).serve("lab", _endless(), stand_in))
    for answered in range(20):
        for _ in range(50):
            await asyncio.sleep(0)
        assert len(writer.queued) == answered + MAX_UNDER_WAY + 1, "and one that waits to be"
        assert len(context.answers) == answered
        writer.queued[answered].set_result([Sequenced(answered, bytes(32), 1)])
    serving.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await serving
    assert [answer.results[0].sequenced.index for answer in context.answers] == list(range(19))


@pytest.mark.parametrize("reads", [True, False])
async def test_a_stream_that_does_nothing_is_ended(monkeypatch: pytest.MonkeyPatch, *, reads: bool) -> None:
    """SPEC log-40 (FAULTS 44): one that says nothing, and one whose answers nobody takes."""
    monkeypatch.setattr(submissions, "IDLE_S", 0.05)
    writer, context = _Writer(), _Context(reads=reads)
    stand_in: Any = context
    requests = _silence() if reads else _endless()
    serving = asyncio.create_task(_submissions(writer).serve("lab", requests, stand_in))
    await asyncio.sleep(0.01)
    writer.queued[0].set_result([Sequenced(0, bytes(32), 1)])
    with pytest.raises(Refused) as ended:
        async with asyncio.timeout(5):
            await serving
    assert ended.value.code is Code.OVERLOADED
    assert len(context.answers) == (1 if reads else 0), "what came before is answered first"


async def test_a_batch_that_passes_later_ends_the_stream(people: Participants) -> None:
    """SPEC log-16, SPEC log-40: answers before it are given, and nothing is taken after it."""
    writer, context = _Writer(), _Context()
    stand_in: Any = context
    serving = asyncio.create_task(_submissions(writer).serve("lab", _endless(), stand_in))
    await asyncio.sleep(0.01)
    writer.queued[0].set_result([Sequenced(0, bytes(32), 1)])
    writer.queued[1].set_result([Refused(Code.HALTED, "no quorum")])
    with pytest.raises(Refused) as ended:
        await serving
    assert ended.value.code is Code.HALTED
    assert len(context.answers) == 1
