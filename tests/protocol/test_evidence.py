"""Evidence: each kind holds for what it convicts, fails in every other way, and never makes the check raise."""

from __future__ import annotations

from functools import cache
from typing import Any

import pytest
from google.protobuf.message import DecodeError
from hypothesis import given, settings
from hypothesis import strategies as st
from wire import messages
from world import World, digest

from pacekeeper.protocol import keys
from pacekeeper.protocol.evidence import Rule, Verdict, check_fork, disagreeing_runs, recheck, slot_of
from pacekeeper.protocol.replay import Applied, Void
from pacekeeper.protocol.statements import seal
from pacekeeper.protocol.tlog.checkpoint import Checkpoint, sign_checkpoint
from pacekeeper.v1 import envelope_pb2
from pacekeeper.v1 import statements_pb2 as pb


@cache
def story() -> World:
    """Entry 4 is void; 5 attests borealis' period 0 with estimates that exclude each other for run-2 only."""
    world = World(period="1 s", due="2 s", fill_in="90 s", labs=2)
    for run in ("run-1", "run-2"):
        world.declare("borealis", run, at=world.start(0))
    world.tick(world.end(0))
    assert isinstance(world.put(world.sealed_tick(0), world.end(0)), Void)
    assert isinstance(world.put_chain("borealis", attestation(world), world.end(0)), Applied)
    return world


FIRST_VOID, ACCOUNT = 4, 5


def attestation(world: World, lab: str = "borealis") -> pb.ComputeAttestation:
    account = world.account(0, {"run-1": 100, "run-2": 100})
    for figure, amount in zip(account.figures, (110, 200), strict=True):
        figure.estimates.append(pb.Estimate(method=pb.METHOD_CHIP_TIME, amount=amount, margin_ppm=100_000))
    link = pb.Link(sequence=1)
    return pb.ComputeAttestation(agreement=world.agreement.fingerprint, lab=lab, link=link, account=account)


def judged(evidence: pb.Evidence, world: World | None = None) -> Verdict:
    world = world or story()
    return recheck(evidence, world.state, entry_at=lambda index: world.entries[index], verify=keys.verify)


def test_a_void_entry_convicts_the_log_of_that_code_only() -> None:
    """SPEC evidence-1, SPEC evidence-2."""

    def of(index: int, code: str) -> Verdict:
        return judged(pb.Evidence(void_entry=pb.VoidEntryEvidence(index=index, code=code)))

    verdict = of(FIRST_VOID, "bad-tick")
    assert (verdict.rule, verdict.subject, verdict.holds) == (Rule.VOID_ENTRY, "log", True)
    assert verdict.severity == pb.SEVERITY_ANOMALY
    assert [of(*bad).holds for bad in ((FIRST_VOID, "bad-signature"), (ACCOUNT, "bad-tick"), (99, "bad-tick"))] == [
        False
    ] * 3


def other_statement(world: World) -> pb.Gap:
    """Another statement for borealis' first slot."""
    return pb.Gap(
        agreement=world.agreement.fingerprint,
        lab="borealis",
        link=pb.Link(sequence=1),
        first_period=0,
        last_period=0,
        reason=pb.GAP_REASON_LATE,
    )


def equivocation(second: envelope_pb2.Envelope, index: int = ACCOUNT, world: World | None = None) -> Verdict:
    return judged(pb.Evidence(lab_equivocation=pb.LabEquivocationEvidence(first_index=index, second=second)), world)


def test_two_statements_of_one_slot_convict_the_lab() -> None:
    """SPEC evidence-3."""
    world = story()
    verdict = equivocation(world.seal(other_statement(world), world.keys.lab("borealis")))
    assert (verdict.rule, verdict.subject, verdict.holds) == (Rule.LAB_EQUIVOCATION, "borealis", True)
    assert verdict.severity == pb.SEVERITY_BREACH
    corrected = attestation(world)
    corrected.account.figures[0].steps += 1
    assert equivocation(world.seal(corrected, world.keys.lab("borealis"))).holds


def test_what_does_not_convict_a_lab_of_two_statements() -> None:
    """SPEC evidence-3: nobody but the lab, under this agreement, for this slot, can make the second statement."""
    world = story()
    mine = world.keys.lab("borealis")
    others = [*world.keys.parties(), world.keys.log_statement, world.keys.lab("meridian"), world.keys.log_checkpoint]
    good = other_statement(world)
    later, elsewhere, of_other = pb.Gap(), pb.Gap(), pb.Gap()
    for copy in (later, elsewhere, of_other):
        copy.CopyFrom(good)
    later.link.sequence, later.link.previous = 2, digest("x")
    elsewhere.agreement = digest("another agreement")
    of_other.lab = "meridian"
    forged = world.seal(good, mine)
    forged.signatures[0].signature = bytes(64)
    malformed = world.seal(good, mine)
    malformed.payload += b"\x00"
    cases = {
        "the very same": world.seal(attestation(world), mine),
        "the next slot": world.seal(later, mine),
        "another agreement's log": world.seal(elsewhere, mine),
        "another lab's slot": world.seal(of_other, world.keys.lab("meridian")),
        "signed by another lab": world.seal(good, world.keys.lab("meridian")),
        "signed by a stranger": world.seal(good, World(salt="x").keys.lab("borealis")),
        "signed twice": seal(good, [mine, next(key for key in others if key.key_id > mine.key_id)]),
        "signed twice, the other first": seal(good, [mine, next(key for key in others if key.key_id < mine.key_id)]),
        "a forged signature": forged,
        "not a statement": malformed,
        "not of a chain": world.seal(world.declaration("borealis", "run-9"), mine),
        "unsigned": seal(good, []),
        "nothing": envelope_pb2.Envelope(),
    }
    assert {why for why, second in cases.items() if equivocation(second).holds} == set()
    genuine = world.seal(good, mine)
    assert [equivocation(genuine, index).holds for index in (0, 1, 3, FIRST_VOID, ACCOUNT, 6, 2**64 - 1)] == [
        index == ACCOUNT for index in (0, 1, 3, FIRST_VOID, ACCOUNT, 6, 2**64 - 1)
    ]


def test_a_first_statement_that_the_lab_did_not_sign_convicts_nobody() -> None:
    """SPEC evidence-3: a log that lets in a forgery cannot use it against the lab."""
    world = World(period="1 s", due="2 s", fill_in="90 s")
    world.tick(world.end(0))
    forged = world.seal(other_statement(world), world.keys.lab("meridian"))
    assert isinstance(world.put(forged, world.end(0)), Void)
    second = world.seal(attestation(world), world.keys.lab("borealis"))
    assert not equivocation(second, 2, world).holds


def test_slots() -> None:
    world = story()
    assert slot_of(other_statement(world)) == slot_of(attestation(world)) == ("borealis", 1)
    assert slot_of(pb.Tick()) is None


def note(root: str, size: int = 5, origin: str = "", world: World | None = None, stranger: bool = False) -> bytes:
    world = world or story()
    name = origin or world.agreement.origin
    key = World(salt="x").keys.log_checkpoint if stranger else world.keys.log_checkpoint
    return sign_checkpoint(Checkpoint(name, size, digest(root)), name, key)


def misnamed(root: str) -> bytes:
    """A checkpoint of another origin that the log's key has signed."""
    world = story()
    return sign_checkpoint(
        Checkpoint("example.net/other", 5, digest(root)), world.agreement.origin, world.keys.log_checkpoint
    )


def test_two_trees_of_one_size_convict_the_log() -> None:
    """SPEC evidence-4: offline, from the agreement alone."""
    fork = pb.LogForkEvidence(checkpoint_a=note("a"), checkpoint_b=note("b"))
    for verdict in (check_fork(fork, story().agreement), judged(pb.Evidence(log_fork=fork))):
        assert (verdict.rule, verdict.subject, verdict.holds) == (Rule.LOG_FORK, "log", True)
        assert verdict.severity == pb.SEVERITY_BREACH


@pytest.mark.parametrize(
    ("a", "b", "why"),
    [
        (note("a"), note("a"), "one tree"),
        (note("a"), note("b", size=6), "two sizes"),
        (note("a"), note("b", stranger=True), "another key"),
        (note("a"), note("b", origin="example.net/other"), "another origin"),
        (note("a"), misnamed("b"), "another origin, under the log's own name"),
        (misnamed("a"), misnamed("b"), "two of another origin"),
        (note("a"), note("b").replace(b"\n5\n", b"\n4\n"), "changed after signing"),
        (note("a"), b"", "nothing"),
        (b"\xff", note("b"), "noise"),
    ],
)
def test_what_does_not_convict_the_log_of_a_fork(a: bytes, b: bytes, why: str) -> None:
    """SPEC evidence-4."""
    for fork in (
        pb.LogForkEvidence(checkpoint_a=a, checkpoint_b=b),
        pb.LogForkEvidence(checkpoint_a=b, checkpoint_b=a),
    ):
        assert not check_fork(fork, story().agreement).holds, why


def test_estimates_that_exclude_each_other_are_a_discrepancy() -> None:
    """SPEC evidence-5: intervals that touch agree."""

    def of(index: int, run: str) -> Verdict:
        return judged(pb.Evidence(disagreement=pb.DisagreementEvidence(index=index, run=run)))

    verdict = of(ACCOUNT, "run-2")
    assert (verdict.rule, verdict.subject, verdict.holds) == (Rule.DISAGREEMENT, "borealis", True)
    assert verdict.severity == pb.SEVERITY_DISCREPANCY
    cases = [
        (ACCOUNT, "run-1"),
        (ACCOUNT, "run-3"),
        (ACCOUNT, ""),
        (0, "run-2"),
        (1, "run-2"),
        (6, "run-2"),
        (2**64 - 1, ""),
    ]
    assert not any(of(*case).holds for case in cases)
    assert disagreeing_runs(attestation(story()).account) == ["run-2"]
    touching = attestation(story()).account
    touching.figures[1].estimates[1].amount = 111
    assert disagreeing_runs(touching) == []


def test_an_account_that_the_lab_did_not_sign_disagrees_with_nobody() -> None:
    """SPEC evidence-5: nor one under another agreement."""
    world = World(period="1 s", due="2 s", fill_in="90 s")
    world.tick(world.end(0))
    elsewhere = attestation(world)
    elsewhere.agreement = digest("another agreement")
    for envelope in (
        world.seal(attestation(world), world.keys.lab("meridian")),
        world.seal(elsewhere, world.keys.lab("borealis")),
    ):
        void = world.put(envelope, world.end(0))
        assert isinstance(void, Void)
        evidence = pb.Evidence(disagreement=pb.DisagreementEvidence(index=void.index, run="run-2"))
        assert not judged(evidence, world).holds


def test_no_evidence_is_the_callers_fault() -> None:
    with pytest.raises(ValueError, match="no evidence"):
        judged(pb.Evidence())


@settings(max_examples=300, deadline=None)
@given(st.data())
def test_hostile_evidence_never_raises_and_never_convicts(data: st.DataObject) -> None:
    """SPEC evidence-1: without a lab's or the log's key, no bytes convict them."""
    descriptor: Any = pb.Evidence.DESCRIPTOR
    evidence: Any = data.draw(messages(descriptor))
    if evidence.WhichOneof("kind") is None:
        return
    indices = st.sampled_from([0, 1, FIRST_VOID, ACCOUNT, 2**64 - 1])
    if evidence.WhichOneof("kind") == "lab_equivocation":
        evidence.lab_equivocation.first_index = data.draw(indices)
    if evidence.WhichOneof("kind") == "disagreement":
        evidence.disagreement.index = data.draw(indices)
    assert not judged(evidence).holds


@settings(max_examples=200, deadline=None)
@given(st.integers(0, 10_000), st.integers(1, 255))
def test_one_changed_byte_ends_a_conviction_or_leaves_it(place: int, change: int) -> None:
    """SPEC evidence-1: never raises; a conviction that remains still names the guilty."""
    world = story()
    second = world.seal(other_statement(world), world.keys.lab("borealis"))
    fork = pb.LogForkEvidence(checkpoint_a=note("a"), checkpoint_b=note("b"))
    for evidence, guilty in (
        (pb.Evidence(lab_equivocation=pb.LabEquivocationEvidence(first_index=ACCOUNT, second=second)), "borealis"),
        (pb.Evidence(log_fork=fork), "log"),
    ):
        data = bytearray(evidence.SerializeToString())
        data[place % len(data)] ^= change
        changed = pb.Evidence()
        try:
            changed.ParseFromString(bytes(data))
        except DecodeError:
            continue
        if changed.WhichOneof("kind") is not None:
            verdict = judged(changed)
            assert not verdict.holds or verdict.subject == guilty
