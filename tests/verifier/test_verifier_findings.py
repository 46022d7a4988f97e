"""Checks and findings: what becomes an accusation, that it holds for anyone, and that it is made and published once."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest
from cosign_log import CosignLog
from world import World

from pacekeeper.client.errors import Outage, TemporaryFailure
from pacekeeper.protocol import keys
from pacekeeper.protocol.envelope import parse_envelope
from pacekeeper.protocol.errors import Code, Refused
from pacekeeper.protocol.evidence import recheck
from pacekeeper.protocol.replay import Applied
from pacekeeper.protocol.statements import parse_statement
from pacekeeper.v1 import log_pb2
from pacekeeper.v1 import statements_pb2 as pb
from pacekeeper.verifier import findings as findings_module
from pacekeeper.verifier.publish import Publisher

T = 1_767_225_600_000


def made(verifier: Any) -> list[pb.Finding]:
    """The verifier's findings, each rechecked as an auditor with the same log does."""
    out = []
    for stored in verifier.store.findings(0, 100):
        envelope = parse_envelope(stored.envelope)
        finding = parse_statement(envelope)
        assert isinstance(finding, pb.Finding)
        entries = verifier.world.entries
        verdict = recheck(finding.evidence, verifier.world.state, entry_at=entries.__getitem__, verify=keys.verify)
        assert verdict.holds, verdict.why
        assert (verdict.rule, verdict.subject, verdict.severity) == (finding.rule, finding.subject, finding.severity)
        assert [signature.key_id for signature in envelope.signatures] == [
            verifier.world.keys.verifier_statement(verifier.party).key_id
        ]
        out.append(finding)
    return out


def witness(verifier: Any, log: CosignLog) -> None:
    """Have the verifier take and cosign everything that the log has."""
    verifier.take()
    verifier.ledger.cosign(log.note(len(log.world.entries)), verifier.now_ms())
    verifier.findings.conclude(verifier.ledger)


def disagreeing(world: World, lab: str, at: int, period: int = 0) -> Applied:
    """Attest a period with two estimates of one run that have nothing in common."""
    if period == 0:
        world.declare(lab, "run-1", at=T)
    account = world.account(period, {"run-1": 1_000})
    account.figures[0].estimates.append(pb.Estimate(method=pb.METHOD_CHIP_TIME, amount=5_000, margin_ppm=10_000))
    statement = pb.ComputeAttestation(
        agreement=world.agreement.fingerprint, lab=lab, link=world.link(lab), account=account
    )
    outcome = world.put_chain(lab, statement, at)
    assert isinstance(outcome, Applied)
    return outcome


def second_statement(world: World, lab: str) -> Any:
    """Another statement of the lab for the sequence number that it used last."""
    sequence, _ = world.chain[lab]
    gap = pb.Gap(
        agreement=world.agreement.fingerprint,
        lab=lab,
        link=pb.Link(sequence=sequence),
        first_period=5,
        last_period=6,
        reason=pb.GAP_REASON_LATE,
    )
    return world.seal(gap, world.keys.lab(lab))


async def test_void_entries_are_held_against_the_log(log: CosignLog, world: World, verifier: Any) -> None:
    """SPEC verifier-20, SPEC verifier-25"""
    world.put_entry(b"garbage")
    world.tick(T + 1)
    world.put_entry(b"")
    witness(verifier, log)
    found = made(verifier)
    assert [(f.rule, f.subject, f.severity, f.as_of) for f in found] == [
        ("void-entry", "log", pb.SEVERITY_ANOMALY, 4)
    ] * 2
    assert [(f.evidence.void_entry.index, f.evidence.void_entry.code) for f in found] == [
        (1, Code.NOT_CANONICAL),
        (3, Code.MISSING_SIGNATURE),
    ]
    assert all((f.party, f.agreement) == ("norland", world.agreement.fingerprint) for f in found)


async def test_estimates_that_exclude_each_other_are_a_discrepancy(log: CosignLog, world: World, verifier: Any) -> None:
    """SPEC verifier-21, SPEC verifier-32"""
    index = disagreeing(world, "borealis", T + 10_000).index
    world.declare("meridian", "run-1", at=T + 10_000)
    world.attest("meridian", 0, {"run-1": 700}, at=T + 10_000)
    world.to(T + 20_000)
    disagreeing(world, "borealis", T + 20_000, period=1)
    witness(verifier, log)
    [finding] = made(verifier)
    assert (finding.rule, finding.subject, finding.severity) == ("disagreement", "borealis", pb.SEVERITY_DISCREPANCY)
    assert finding.evidence.disagreement == pb.DisagreementEvidence(index=index, run="run-1")


async def test_relayed_equivocation_convicts_the_lab(
    log: CosignLog, world: World, verifier: Any, eventually: Callable[..., Any]
) -> None:
    """SPEC verifier-22, FAULTS 32: over the stream, once the entry that it conflicts with is cosigned."""
    world.attest("borealis", 0, {}, at=T + 10_000)
    verifier.follow(log)
    stream = await log.accept()
    await stream.conflict(1, second_statement(world, "borealis"))
    await stream.push(0, world.entries)
    await stream.checkpoint(log.note(2))
    await stream.answer()
    await eventually(lambda: verifier.store.count_findings() == 1)
    await stream.conflict(1, second_statement(world, "borealis"))
    await stream.checkpoint(log.note(2))
    await stream.answer()
    [finding] = made(verifier)
    assert (finding.rule, finding.subject, finding.severity) == ("lab-equivocation", "borealis", pb.SEVERITY_BREACH)
    await verifier.stop()


async def test_relay_that_proves_nothing_makes_no_finding(log: CosignLog, world: World, verifier: Any) -> None:
    """SPEC verifier-22, SPEC verifier-25: the log cannot make a verifier accuse a lab that did nothing."""
    world.attest("borealis", 0, {}, at=T + 10_000)
    witness(verifier, log)
    innocent = second_statement(world, "borealis")
    forged = second_statement(world, "borealis")
    forged.signatures[0].signature = bytes(64)
    for first_index, second in ((0, innocent), (1, forged), (1, innocent.__class__()), (2**63, innocent)):
        verifier.findings.relayed(log_pb2.ConflictingEnvelope(first_index=first_index, second=second))
        verifier.findings.conclude(verifier.ledger)
    assert made(verifier) == []


async def test_relays_that_wait_are_bounded(world: World, verifier: Any) -> None:
    for number in range(findings_module.MAX_RELAYED + 10):
        conflict = log_pb2.ConflictingEnvelope(first_index=10**6 + number)
        verifier.findings.relayed(conflict)
    assert len(verifier.findings._waiting) == findings_module.MAX_RELAYED


async def test_findings_are_made_once_across_restarts(log: CosignLog, world: World, verifier: Any) -> None:
    """SPEC verifier-26: the replay at the start runs the same checks over the same entries."""
    world.put_entry(b"garbage")
    disagreeing(world, "borealis", T + 10_000)
    witness(verifier, log)
    before = [stored.envelope for stored in verifier.store.findings(0, 10)]
    assert len(before) == 2
    for _ in range(2):
        verifier.restart()
        world.tick(world.state.last_time_ms + 1)
        witness(verifier, log)
    assert [stored.envelope for stored in verifier.store.findings(0, 10)] == before
    assert verifier.woken == 2, "nor is anybody told of them again"


async def test_crash_after_the_cosignature_loses_no_finding(log: CosignLog, world: World, verifier: Any) -> None:
    """SPEC verifier-27: cosigned, but killed before the checks were concluded."""
    world.put_entry(b"garbage")
    verifier.take()
    verifier.ledger.cosign(log.note(2), verifier.now_ms())
    assert verifier.store.count_findings() == 0
    verifier.restart()
    assert [finding.rule for finding in made(verifier)] == ["void-entry"]


async def test_flood_of_void_entries_does_not_make_a_flood_of_findings(
    log: CosignLog, world: World, verifier: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(findings_module, "MAX_FINDINGS", 3)
    for number in range(10):
        world.put_entry(b"garbage %d" % number)
    witness(verifier, log)
    assert len(made(verifier)) == 3
    assert verifier.ledger.state.void_count == 10


async def test_published_once_whatever_is_lost(log: CosignLog, world: World, verifier: Any) -> None:
    """SPEC verifier-27: the first answer is lost, the process restarts, and the log has one entry all the same."""
    world.put_entry(b"garbage")
    witness(verifier, log)
    log.lose_answers = 1
    async with verifier.publisher(log) as publisher:
        assert not await publisher.publish_some()
    assert len(verifier.store.unpublished(10)) == 1
    verifier.restart()
    async with verifier.publisher(log) as publisher:
        assert await publisher.publish_some()
        assert not await publisher.publish_some(), "nothing is left"
    [stored] = verifier.store.findings(0, 10)
    assert stored.index == 2
    assert log.submitted == [stored.envelope] * 2
    assert len(world.entries) == 3
    witness(verifier, log)
    verifier.restart()
    assert [finding.rule for finding in made(verifier)] == ["void-entry"]
    assert verifier.store.unpublished(10) == []


async def test_finding_that_is_seen_on_the_log_is_not_submitted(log: CosignLog, world: World, verifier: Any) -> None:
    """SPEC verifier-26, SPEC verifier-27: its answer was lost for good, but the replay shows it."""
    world.put_entry(b"garbage")
    witness(verifier, log)
    [stored] = verifier.store.findings(0, 10)
    world.put(parse_envelope(stored.envelope), T + 1)
    witness(verifier, log)
    assert verifier.store.unpublished(10) == []
    assert verifier.store.findings(0, 10)[0].index == 2


async def test_findings_of_an_earlier_store_are_not_repeated(
    log: CosignLog, world: World, make_verifier: Callable[[str], Any], people: Any, tmp_path: Any
) -> None:
    """SPEC verifier-26: a verifier that begins anew, under a new cosigning key, learns from the log what it said."""
    first = make_verifier("norland")
    world.put_entry(b"garbage")
    witness(first, log)
    [stored] = first.store.findings(0, 10)
    world.put(parse_envelope(stored.envelope), T + 1)
    (tmp_path / "anew").mkdir()
    again = first.__class__(people, world, tmp_path / "anew", "norland")
    witness(again, log)
    assert [found.envelope for found in again.store.findings(0, 10)] == [stored.envelope]
    assert again.store.unpublished(10) == []
    again.close()


async def test_another_party_makes_its_own_finding(
    log: CosignLog, world: World, make_verifier: Callable[[str], Any]
) -> None:
    world.put_entry(b"garbage")
    for party in ("norland", "sudland"):
        verifier = make_verifier(party)
        witness(verifier, log)
        async with verifier.publisher(log) as publisher:
            assert await publisher.publish_some()
    assert [finding.statement.party for finding in world.state.findings] == ["norland", "sudland"]


class Answers:
    """A log that answers as it is told."""

    def __init__(self, *answers: Any) -> None:
        self.answers = list(answers)
        self.asked: list[list[bytes]] = []

    async def submit(self, envelopes: Any) -> Any:
        self.asked.append(list(envelopes))
        answer = self.answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return [answer] * len(envelopes)


@pytest.mark.parametrize(
    "failure",
    [
        TemporaryFailure(Outage.UNREACHABLE, "the log cannot be reached"),
        TemporaryFailure(Code.HALTED, "not now"),
        Refused(Code.BAD_PROOF, "a receipt that proves nothing"),
        "an answer that is no receipt",
    ],
    ids=["unreachable", "halted", "bad-proof", "no-receipt"],
)
async def test_only_a_verified_receipt_counts_as_published(
    log: CosignLog, world: World, verifier: Any, failure: Any
) -> None:
    """SPEC verifier-27"""
    world.put_entry(b"garbage")
    witness(verifier, log)
    publisher = Publisher(verifier.store, Answers(failure))
    assert not await publisher.publish_some()
    assert len(verifier.store.unpublished(10)) == 1


async def test_finding_that_the_log_will_not_have_does_not_hold_up_the_others(
    log: CosignLog, world: World, verifier: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """SPEC verifier-27"""
    monkeypatch.setattr("pacekeeper.verifier.publish.BATCH", 2)
    for number in range(5):
        world.put_entry(b"garbage %d" % number)
    witness(verifier, log)
    client = Answers(*["refused"] * 4)
    publisher = Publisher(verifier.store, client)
    for _ in range(4):
        await publisher.publish_some()
    envelopes = [stored.envelope for stored in verifier.store.findings(0, 10)]
    assert client.asked == [envelopes[0:2], envelopes[2:4], envelopes[4:5], envelopes[0:2]]


async def test_publisher_wakes_for_a_new_finding(log: CosignLog, world: World, verifier: Any) -> None:
    async with verifier.publisher(log) as publisher:
        verifier.findings._on_new = publisher.wake
        running = asyncio.create_task(publisher.run())
        await asyncio.sleep(0.05)
        world.put_entry(b"garbage")
        witness(verifier, log)
        async with asyncio.timeout(10):
            while not world.state.findings:  # noqa: ASYNC110
                await asyncio.sleep(0.01)
        running.cancel()
