"""The public service over TLS without client certificates, and two countries comparing notes through it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any

import grpc
import pytest
from cosign_log import CosignLog
from participants import Participants
from world import World

from pacekeeper.client.tls import CHANNEL_OPTIONS, channel_credentials, server_credentials, verifier_uri
from pacekeeper.protocol.envelope import parse_envelope
from pacekeeper.protocol.evidence import check_fork
from pacekeeper.protocol.tlog.policy import check_checkpoint
from pacekeeper.v1 import statements_pb2 as pb
from pacekeeper.v1 import verifier_pb2, verifier_pb2_grpc
from pacekeeper.verifier import rpc
from pacekeeper.verifier.follower import Follower
from pacekeeper.verifier.gossip import Gossip
from pacekeeper.verifier.rpc import StatusService, bind_server

T = 1_767_225_600_000


def idle_follower(verifier: Any) -> Follower:
    def connect() -> grpc.aio.Channel:
        raise AssertionError("nobody follows in this test")

    return Follower(connect, verifier.party, verifier.ledger, verifier.findings, verifier.now_ms)


@asynccontextmanager
async def serving(people: Participants, verifier: Any) -> AsyncIterator[tuple[StatusService, int]]:
    follower = idle_follower(verifier)
    service = StatusService(verifier.party, verifier.ledger, follower, verifier.store, verifier.now_ms)
    credentials = server_credentials(*people.identities[verifier_uri(verifier.party)], None)
    server, port = bind_server(service, "127.0.0.1:0", credentials)
    await server.start()
    yield service, port
    await server.stop(None)


@asynccontextmanager
async def anyone(people: Participants, party: str, port: int) -> AsyncIterator[Any]:
    credentials = channel_credentials(people.certificates[verifier_uri(party)])
    async with grpc.aio.secure_channel(f"127.0.0.1:{port}", credentials, options=CHANNEL_OPTIONS) as channel:
        yield verifier_pb2_grpc.NationalVerifierStub(channel)


async def status(stub: Any) -> verifier_pb2.GetVerifierStatusResponse:
    answer = await stub.GetVerifierStatus(verifier_pb2.GetVerifierStatusRequest(), timeout=10)
    assert isinstance(answer, verifier_pb2.GetVerifierStatusResponse)
    return answer


def witness(verifier: Any, note: bytes) -> None:
    verifier.take()
    verifier.ledger.cosign(note, verifier.now_ms())
    verifier.findings.conclude(verifier.ledger)


async def test_status_before_and_after_the_first_checkpoint(
    people: Participants, world: World, verifier: Any, log: CosignLog
) -> None:
    """SPEC verifier-29"""
    async with serving(people, verifier) as (service, port), anyone(people, "norland", port) as stub:
        first = await status(stub)
        assert (first.party, first.origin, first.size, first.checkpoint) == (
            "norland",
            world.agreement.origin,
            0,
            b"",
        )
        world.put_entry(b"garbage")
        world.ticks(T, T + 30_000)
        size = len(world.entries)
        witness(verifier, log.note(size))
        service._follower.connected, service._follower.refusing = True, "wrong-root"
        now = await status(stub)
        assert (now.size, now.void_entries, now.findings, now.clock_ms) == (size, 1, 1, T + 30_000)
        assert now.violations == len(world.state.violations) > 0
        assert (now.connected, now.refusing) == (True, "wrong-root")
        checked = check_checkpoint(now.checkpoint, world.agreement.policy(), require_quorum=False)
        assert (checked.checkpoint.size, checked.cosigners) == (size, {"norland": T // 1000 + 30})


async def test_findings_are_listed_in_pages(
    people: Participants, world: World, verifier: Any, log: CosignLog, monkeypatch: pytest.MonkeyPatch
) -> None:
    """SPEC verifier-30: oldest first, bounded in number and in bytes, and never empty while there are more."""
    for number in range(5):
        world.put_entry(b"garbage %d" % number)
    witness(verifier, log.note(6))
    async with serving(people, verifier) as (_, port), anyone(people, "norland", port) as stub:

        async def listed(**request: int) -> list[int]:
            answer = await stub.ListFindings(verifier_pb2.ListFindingsRequest(**request), timeout=10)
            assert answer.total == 5
            stored = [parse_envelope(envelope.SerializeToString()) for envelope in answer.findings]
            return [pb.Finding.FromString(envelope.payload).evidence.void_entry.index for envelope in stored]

        assert await listed() == [1, 2, 3, 4, 5]
        assert await listed(offset=1, limit=2) == [2, 3]
        assert await listed(offset=5) == []
        assert await listed(offset=2**62) == []
        for request in ({"limit": 257}, {"limit": 2**32 - 1}, {"offset": 2**64 - 1}):
            with pytest.raises(grpc.aio.AioRpcError) as error:
                await listed(**request)
            assert error.value.code() == grpc.StatusCode.INVALID_ARGUMENT
            assert "bad-field: " in (error.value.details() or "")
        monkeypatch.setattr(rpc, "MAX_PAGE_BYTES", 600)
        assert await listed() == [1, 2]
        monkeypatch.setattr(rpc, "MAX_PAGE_BYTES", 1)
        assert await listed(offset=3) == [4]


async def test_large_requests_and_other_names_are_turned_away(people: Participants, verifier: Any) -> None:
    """SPEC verifier-30: and the next caller is answered."""
    async with serving(people, verifier) as (_, port), anyone(people, "norland", port) as stub:
        async with anyone(people, "sudland", port) as stranger:
            with pytest.raises(grpc.aio.AioRpcError) as wrong:
                await status(stranger)
            assert wrong.value.code() == grpc.StatusCode.UNAVAILABLE
        padded = verifier_pb2.GetVerifierStatusRequest.FromString(b"\x82\x01\x80\x80\x04" + b"x" * 65_536)
        with pytest.raises(grpc.aio.AioRpcError) as large:
            await stub.GetVerifierStatus(padded, timeout=10)
        assert large.value.code() == grpc.StatusCode.RESOURCE_EXHAUSTED
        assert (await status(stub)).party == "norland"


async def test_split_view_becomes_a_proof_when_verifiers_compare_notes(
    people: Participants, world: World, make_verifier: Callable[[str], Any], log: CosignLog
) -> None:
    """SPEC verifier-28, SPEC verifier-23, FAULTS 17: two trees of one size, one for each country."""
    mine, other = make_verifier("norland"), make_verifier("sudland")
    witness(mine, log.note(1))
    witness(other, log.note(1))
    world.declare("borealis", "run-1", at=T + 1)
    shown_here, shown_there = world.entries, [world.entries[0], b"another second entry"]
    witness(mine, log.note(2, shown_here))
    other.ledger.take(shown_there[1:])
    other.ledger.cosign(log.note(2, shown_there), other.now_ms())
    async with serving(people, other) as (_, port):
        party = world.agreement.parties[1]
        reachable = replace(party, verifier=replace(party.verifier, address=f"127.0.0.1:{port}"))
        gossip = Gossip(lambda: [reachable], people.certificates.values(), mine.ledger, mine.findings)
        await gossip.ask_all()
        await gossip.ask_all()
    [stored] = mine.store.findings(0, 10)
    finding = pb.Finding.FromString(parse_envelope(stored.envelope).payload)
    verdict = check_fork(finding.evidence.log_fork, world.agreement)
    assert verdict.holds, "the two checkpoints convict the log on any machine"
    assert (finding.rule, finding.severity) == ("log-fork", pb.SEVERITY_BREACH)
    assert b"norland" not in finding.evidence.log_fork.checkpoint_a + finding.evidence.log_fork.checkpoint_b


async def test_verifier_that_is_ahead_is_compared_later(
    people: Participants, world: World, make_verifier: Callable[[str], Any], log: CosignLog
) -> None:
    """SPEC verifier-24, SPEC verifier-28: honest here, so that nothing comes of it."""
    mine, other = make_verifier("norland"), make_verifier("sudland")
    witness(mine, log.note(1))
    world.tick(T + 1)
    witness(other, log.note(2))
    async with serving(people, other) as (_, port):
        party = world.agreement.parties[1]
        reachable = replace(party, verifier=replace(party.verifier, address=f"127.0.0.1:{port}"))
        gone = replace(party, verifier=replace(party.verifier, address="127.0.0.1:1"))
        await Gossip(lambda: [gone, reachable], people.certificates.values(), mine.ledger, mine.findings).ask_all()
    assert len(mine.store.suspects(2)) == 1
    witness(mine, log.note(2))
    assert mine.store.suspects(2) == []
    assert mine.store.count_findings() == 0
