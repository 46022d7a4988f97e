"""Callers of a live log that do not keep to its client: raw stubs, without the checks that LogClient makes first."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence

import grpc
import grpc.aio
from site_on_disk import Site

from pacekeeper.client.receipts import WitnessedReceipt
from pacekeeper.client.tls import CHANNEL_OPTIONS
from pacekeeper.v1 import log_pb2, log_pb2_grpc

# As any client, but with no limit of its own on what it sends.
RECKLESS = [
    *(option for option in CHANNEL_OPTIONS if "send_message" not in option[0]),
    ("grpc.max_send_message_length", -1),
]
_numbers = itertools.count(1)


@contextlib.asynccontextmanager
async def raw_stub(site: Site, name: str) -> AsyncIterator[log_pb2_grpc.TransparencyLogAsyncStub]:
    """The log's service with the transport identity of a process of the site."""
    address = site.agreement.log.address
    async with grpc.aio.secure_channel(address, site.credentials(name), options=RECKLESS) as channel:
        yield log_pb2_grpc.TransparencyLogStub(channel)


async def outcomes(stub: log_pb2_grpc.TransparencyLogAsyncStub, envelopes: Sequence[bytes]) -> list[int | str]:
    """Submit a batch; for each envelope its index, or the code with which it was refused."""
    answer = await stub.Submit(log_pb2.SubmitRequest(envelopes=envelopes), timeout=20)
    return [
        result.sequenced.index if result.WhichOneof("outcome") == "sequenced" else result.refusal.code
        for result in answer.results
    ]


async def failure(call: Awaitable[object]) -> tuple[grpc.StatusCode, str]:
    """The gRPC status and the refusal's code with which a call ends that must not succeed."""
    try:
        answer = await call
    except grpc.aio.AioRpcError as error:
        return error.code(), (error.details() or "").partition(":")[0]
    raise AssertionError(f"the call succeeded: {answer!r}"[:500])


async def log_size(stub: log_pb2_grpc.TransparencyLogAsyncStub) -> int:
    """How many entries the log has sequenced."""
    return (await stub.GetStatus(log_pb2.GetStatusRequest(), timeout=20)).size


async def is_served(site: Site, lab: str) -> WitnessedReceipt:
    """A well-behaved client of a lab submits something new and gets its receipt."""
    async with site.client(lab) as client:
        [answer] = await client.submit([site.declaration(lab, f"served-{next(_numbers)}")], deadline_s=20)
    assert isinstance(answer, WitnessedReceipt), answer
    return answer


async def eventually(condition: Callable[[], Awaitable[bool]], seconds: float) -> None:
    """Return once a condition holds. AssertionError when it does not in time."""
    deadline = time.monotonic() + seconds
    while not await condition():
        assert time.monotonic() < deadline, f"not within {seconds:.0f} s"
        await asyncio.sleep(0.1)
