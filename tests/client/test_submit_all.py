"""Many batches over one stream, against a real gRPC server that is honest, old, slow, dishonest, or gone."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from typing import Any

import grpc
import pytest
from participants import Participants
from scripted_log import ScriptedLog

from pacekeeper.client.errors import Outage, TemporaryFailure
from pacekeeper.client.submit import UNDER_WAY, LogClient, WitnessedReceipt
from pacekeeper.client.tls import lab_uri
from pacekeeper.protocol import envelope
from pacekeeper.protocol.errors import Code, Refused
from pacekeeper.protocol.statements import seal
from pacekeeper.v1 import log_pb2, statements_pb2


class StreamingLog(ScriptedLog):
    """A log whose streams can be of another kind. answers: how many a stream gets before it ends in that way."""

    kind = "honest"
    answers = 2

    async def SubmitStream(self, request_iterator: Any, context: Any) -> AsyncIterator[log_pb2.SubmitResponse]:
        if self.kind == "old":
            await context.abort(grpc.StatusCode.UNIMPLEMENTED, "Method not found!")
        answered = 0
        async for request in request_iterator:
            if answered == self.answers:
                match self.kind:
                    case "ends":
                        return
                    case "silent":
                        await asyncio.Event().wait()
                    case "broken":
                        await context.abort(grpc.StatusCode.INTERNAL, "")
                    case "overloaded":
                        await context.abort(grpc.StatusCode.RESOURCE_EXHAUSTED, "overloaded: too much is waiting")
                    case "strict":
                        await context.abort(grpc.StatusCode.PERMISSION_DENIED, "wrong-identity: not you")
            yield await self.Submit(request, context)
            answered += 1


@pytest.fixture
def log(people: Participants) -> StreamingLog:
    return StreamingLog(people)


@pytest.fixture
async def client(people: Participants, log: StreamingLog) -> AsyncIterator[LogClient]:
    async with (
        log.serving(people.log_credentials()) as address,
        LogClient(address, people.credentials_of(lab_uri("borealis")), people.agreement) as opened,
    ):
        yield opened


def batch(people: Participants, number: int, size: int = 3) -> list[bytes]:
    ticks = [statements_pb2.Tick(agreement=people.agreement.fingerprint, index=100 * number + n) for n in range(size)]
    return [envelope.encode(seal(tick, [people.keys.log_statement])) for tick in ticks]


async def places(client: LogClient, batches: Any, **more: Any) -> list[list[int]]:
    """The indices of each batch's receipts."""
    found = []
    async for outcomes in client.submit_all(batches, **more):
        assert all(isinstance(outcome, WitnessedReceipt) for outcome in outcomes)
        found.append([outcome.index for outcome in outcomes if isinstance(outcome, WitnessedReceipt)])
    return found


async def test_every_batch_has_its_receipts_in_order(people: Participants, client: LogClient) -> None:
    """SPEC transport-13, SPEC transport-14: one stream or many calls, the receipts are verified alike."""
    batches = [batch(people, number) for number in range(11)]
    first = await places(client, batches)
    assert first == [list(range(3 * number, 3 * number + 3)) for number in range(11)]
    assert await places(client, batches) == first, "and the same again"
    assert await places(client, []) == []


async def test_no_more_batches_are_taken_than_may_be_under_way(people: Participants, client: LogClient) -> None:
    """What is to be sent may be made as it is sent, and is not held."""
    taken = 0

    def making() -> Iterator[list[bytes]]:
        nonlocal taken
        for number in range(20):
            taken += 1
            yield batch(people, number)

    answered = 0
    async for _ in client.submit_all(making()):
        answered += 1
        assert taken <= answered + UNDER_WAY - 1 or taken == 20
    assert answered == 20


@pytest.mark.parametrize("kind", ["old", "broken"])
async def test_a_log_without_streams_or_without_a_reason_gets_calls(
    people: Participants, log: StreamingLog, client: LogClient, kind: str
) -> None:
    """Each batch once and in order, those without an answer by a call of their own."""
    log.kind = kind
    batches = [batch(people, number) for number in range(11)]
    assert await places(client, iter(batches)) == [list(range(3 * number, 3 * number + 3)) for number in range(11)]


@pytest.mark.parametrize(
    ("kind", "code"),
    [
        ("ends", Outage.SERVER_ERROR),
        ("silent", Outage.DEADLINE_EXCEEDED),
        ("overloaded", Code.OVERLOADED),
        ("strict", Code.WRONG_IDENTITY),
    ],
)
async def test_a_stream_that_ends_early_says_why_and_what_came_before_stands(
    people: Participants, log: StreamingLog, client: LogClient, kind: str, code: object
) -> None:
    """SPEC transport-12: the refusal's own code, temporary or final, and the answers before it."""
    log.kind = kind
    answered = 0

    async def submit() -> None:
        nonlocal answered
        # Nothing is written once the stream has ended, so that gRPC has no error of its own to put in its place.
        async for _ in client.submit_all((batch(people, number) for number in range(3)), deadline_s=2):
            answered += 1

    with pytest.raises(Refused if kind == "strict" else TemporaryFailure) as ended:
        await submit()
    assert getattr(ended.value, "code", None) == code
    assert answered <= 2
    log.kind = "honest"
    assert len(await places(client, [batch(people, number) for number in range(3)])) == 3


async def test_a_dishonest_answer_ends_it(people: Participants, log: StreamingLog, client: LogClient) -> None:
    """SPEC transport-14: a later answer is verified as well as the first."""
    answers = 0

    def spoil(response: log_pb2.SubmitResponse) -> None:
        nonlocal answers
        answers += 1
        if answers == 3:
            response.results[1].sequenced.index += 1

    log.spoil = spoil
    with pytest.raises(Refused):
        await places(client, [batch(people, number) for number in range(5)])


async def test_what_is_no_batch_is_the_callers_fault(people: Participants, client: LogClient) -> None:
    with pytest.raises(ValueError, match="a batch has"):
        await places(client, [batch(people, 0), []])
    with pytest.raises(ValueError, match="use it in"):
        await places(LogClient("127.0.0.1:1", people.credentials_of(lab_uri("borealis")), people.agreement), [[b"x"]])


async def test_leaving_early_leaves_a_client_that_works(people: Participants, client: LogClient) -> None:
    stream = client.submit_all([batch(people, number) for number in range(9)])
    assert len(await anext(stream)) == 3
    await stream.aclose()
    assert len(await client.submit(batch(people, 20))) == 3


async def test_a_log_that_is_gone_is_a_failure_that_may_pass(people: Participants) -> None:
    credentials = people.credentials_of(lab_uri("borealis"))
    async with LogClient("127.0.0.1:1", credentials, people.agreement) as client:
        with pytest.raises(TemporaryFailure):
            await places(client, [batch(people, number) for number in range(2)], deadline_s=5)
