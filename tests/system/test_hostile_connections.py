"""Strangers, stalled and greedy connections against a live site: refused or cut, while others are served in time."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import time
from collections.abc import Iterator

import grpc
import grpc.aio
import pytest
from callers import eventually, failure, is_served, log_size, raw_stub
from processes import Live, open_files, resident_bytes

from pacekeeper.client.fetch import open_source
from pacekeeper.client.tls import CHANNEL_OPTIONS, LOG_URI, channel_credentials, lab_uri, make_certificate, verifier_uri
from pacekeeper.protocol.errors import Code
from pacekeeper.protocol.tlog.policy import check_checkpoint
from pacekeeper.v1 import log_pb2, log_pb2_grpc, verifier_pb2, verifier_pb2_grpc

HOSTILE, HONEST = "borealis", "meridian"
EACH = 60  # stalled connections of each kind
CUT_S = 30.0  # by then a connection that says nothing is gone: a handshake has 10 s, a request has 10 s
SERVED_S = 10.0  # what an honest caller may wait meanwhile, on a machine that does much else
GROWTH = 96 * 2**20  # of memory, for all of it
HALF_HELLO = bytes.fromhex("16030100fa010000f60303")  # a TLS client hello that never ends


def _credentials(live: Live, kind: str) -> grpc.ChannelCredentials:
    server = live.site.bundle.certificates[LOG_URI]
    if kind == "no certificate":
        return channel_credentials(server)
    if kind == "a certificate of its own for a lab's name":
        return channel_credentials(server, *make_certificate(lab_uri(HOSTILE)))
    if kind == "a certificate of nobody":
        return channel_credentials(server, *make_certificate(lab_uri("atlantis")))
    # The log's certificate is public, and so is the verifier's; neither is of use without its key.
    keys = live.site.home(f"lab-{HOSTILE}") / "keys"
    foreign = live.site.bundle.certificates[verifier_uri("norland")]
    return channel_credentials(server, (keys / "tls.pem").read_bytes(), foreign)


@pytest.mark.parametrize(
    "kind",
    ["no certificate", "a certificate of its own for a lab's name", "a certificate of nobody", "a verifier's, no key"],
)
async def test_strangers_do_not_get_through_the_handshake(live: Live, kind: str) -> None:
    """FAULTS 41: no call of theirs is ever answered, not even status; participants are served meanwhile."""
    address, credentials = live.site.agreement.log.address, _credentials(live, kind)
    async with grpc.aio.secure_channel(address, credentials, options=CHANNEL_OPTIONS) as channel:
        stub: log_pb2_grpc.TransparencyLogAsyncStub = log_pb2_grpc.TransparencyLogStub(channel)
        calls = (
            stub.GetStatus(log_pb2.GetStatusRequest(), timeout=20),
            stub.Submit(log_pb2.SubmitRequest(envelopes=[live.site.bundle.entry0]), timeout=20),
        )
        for call in calls:
            status, _ = await failure(call)
            assert status is grpc.StatusCode.UNAVAILABLE
        await is_served(live.site, HONEST)


async def test_without_tls_nothing_is_said(live: Live) -> None:
    """Neither HTTP/2 in the clear nor plain bytes get an answer on the ports that speak TLS."""
    ports = [live.site.agreement.log.address, live.site.agreement.parties[0].verifier.address]
    for address in ports:
        async with grpc.aio.insecure_channel(address) as channel:
            stub: log_pb2_grpc.TransparencyLogAsyncStub = log_pb2_grpc.TransparencyLogStub(channel)
            status, _ = await failure(stub.GetStatus(log_pb2.GetStatusRequest(), timeout=20))
            assert status is grpc.StatusCode.UNAVAILABLE
        with _connect(address) as plain:
            plain.sendall(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
            assert b"HTTP/1.1 2" not in await asyncio.to_thread(_read_to_end, plain)
    await is_served(live.site, HONEST)


async def test_a_verifiers_public_port_tells_its_status_to_anyone_and_takes_nothing(live: Live) -> None:
    """It needs no certificate of the caller; it has no other service, and its status shows no secret."""
    party = live.site.agreement.parties[1]
    credentials = channel_credentials(live.site.bundle.certificates[verifier_uri(party.id)])
    async with grpc.aio.secure_channel(party.verifier.address, credentials, options=CHANNEL_OPTIONS) as channel:
        stub: verifier_pb2_grpc.NationalVerifierAsyncStub = verifier_pb2_grpc.NationalVerifierStub(channel)
        status = await stub.GetVerifierStatus(verifier_pb2.GetVerifierStatusRequest(), timeout=20)
        assert (status.party, status.connected, status.refusing) == (party.id, True, "")
        log: log_pb2_grpc.TransparencyLogAsyncStub = log_pb2_grpc.TransparencyLogStub(channel)
        submit = log.Submit(log_pb2.SubmitRequest(envelopes=[live.site.bundle.entry0]), timeout=20)
        assert (await failure(submit))[0] is grpc.StatusCode.UNIMPLEMENTED
        far = verifier_pb2.ListFindingsRequest(offset=2**64 - 1, limit=2**32 - 1)
        with contextlib.suppress(grpc.aio.AioRpcError):  # an empty page, or a refusal
            assert not (await stub.ListFindings(far, timeout=20)).findings
        assert (await stub.GetVerifierStatus(verifier_pb2.GetVerifierStatusRequest(), timeout=20)).connected


async def test_stalled_connections_delay_nobody_and_are_cut(live: Live) -> None:
    """FAULTS 44: half-open TLS, silence, a byte a second; bounded in time, descriptors and memory."""
    site, log_pid = live.site, live.running.pid("log")
    files, memory = open_files(log_pid), resident_bytes(log_pid)
    grpc_address, web_address = site.agreement.log.address, site.url.removeprefix("http://").rstrip("/")
    verifier_address = site.agreement.parties[0].verifier.address
    with contextlib.ExitStack() as stack:
        stalled = [
            stack.enter_context(_connect(address))
            for address in (grpc_address, grpc_address, web_address, web_address, verifier_address)
            for _ in range(EACH)
        ]
        for half in stalled[EACH : 2 * EACH]:
            half.sendall(HALF_HELLO)
        slow = stalled[3 * EACH : 4 * EACH]
        begun = time.monotonic()
        dripping = asyncio.create_task(_drip(slow))
        try:
            for _ in range(5):
                await asyncio.wait_for(is_served(site, HONEST), SERVED_S)
                await asyncio.wait_for(asyncio.to_thread(_read_checkpoint, live), SERVED_S)
            await asyncio.to_thread(_wait_cut, stalled, begun + CUT_S)
        finally:
            dripping.cancel()
    assert resident_bytes(log_pid) < memory + GROWTH

    async def closed() -> bool:
        return open_files(log_pid) <= files + 20

    await eventually(closed, CUT_S)
    await is_served(site, HONEST)


async def test_a_participant_that_stalls_its_calls_blocks_itself_alone(live: Live) -> None:
    """FAULTS 44: beyond its 64 calls under way a participant is told `overloaded`; the others do not notice."""
    site = live.site
    async with contextlib.AsyncExitStack() as stack:
        stubs = [await stack.enter_async_context(raw_stub(site, f"lab-{HOSTILE}")) for _ in range(2)]
        before = await log_size(stubs[0])
        streams = [stub.Follow(log_pb2.FollowRequest(from_index=0)) for stub in stubs for _ in range(50)]
        ends = await asyncio.gather(*(_first_message(stream) for stream in streams))
        refused = [end for end in ends if end is not None]
        assert refused
        assert set(refused) == {(grpc.StatusCode.RESOURCE_EXHAUSTED, Code.OVERLOADED)}
        assert len(ends) - len(refused) == 64, "as many as are allowed, and none is ever read to its end"
        submit = stubs[1].Submit(log_pb2.SubmitRequest(envelopes=[site.declaration(HOSTILE, "greedy")]), timeout=20)
        assert await failure(submit) == (grpc.StatusCode.RESOURCE_EXHAUSTED, Code.OVERLOADED)
        receipt = await asyncio.wait_for(is_served(site, HONEST), SERVED_S)
        assert receipt.index == before
        for stream in streams:
            stream.cancel()
    async with asyncio.timeout(SERVED_S):
        await is_served(site, HOSTILE)


async def _first_message(stream: grpc.aio.UnaryStreamCall) -> tuple[grpc.StatusCode, str] | None:  # type: ignore[type-arg]
    """None once a stream is served; else how it was refused."""
    try:
        await stream.read()
    except grpc.aio.AioRpcError as error:
        return error.code(), (error.details() or "").partition(":")[0]
    return None


@contextlib.contextmanager
def _connect(address: str) -> Iterator[socket.socket]:
    host, _, port = address.rpartition(":")
    with socket.create_connection((host, int(port)), timeout=SERVED_S) as connection:
        yield connection


async def _drip(connections: list[socket.socket]) -> None:
    """Send a request at a byte a second."""
    for byte in b"GET /checkpoint HTTP/1.1\r\nX-Slow: " + b"x" * 1_000:
        for connection in connections:
            with contextlib.suppress(OSError):  # cut already
                connection.send(bytes([byte]))
        await asyncio.sleep(1)


def _wait_cut(connections: list[socket.socket], deadline: float) -> None:
    """Wait until the other side has closed every connection."""
    for number, connection in enumerate(connections):
        connection.settimeout(max(0.01, deadline - time.monotonic()))
        try:
            while connection.recv(4_096):
                pass
        except TimeoutError:
            raise AssertionError(f"stalled connection {number} is still open") from None
        except OSError:
            continue


def _read_checkpoint(live: Live) -> None:
    source = open_source(live.site.url)
    try:
        note = source.read("checkpoint")
    finally:
        source.close()
    assert note is not None
    check_checkpoint(note, live.site.agreement.policy())


def _read_to_end(connection: socket.socket) -> bytes:
    """What comes until the other side closes, or time is up."""
    deadline, data = time.monotonic() + CUT_S, b""
    while time.monotonic() < deadline:
        connection.settimeout(max(0.01, deadline - time.monotonic()))
        try:
            piece = connection.recv(65_536)
        except OSError:
            return data
        if not piece:
            return data
        data += piece
    return data
