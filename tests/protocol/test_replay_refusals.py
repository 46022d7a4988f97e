"""Every refusal that the replay can make: its exact code, and nothing else changed but the record of it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from agreements import build_document, edit
from world import World, digest, statement_id

from pacekeeper.protocol import limits
from pacekeeper.protocol.envelope import encode_entry
from pacekeeper.protocol.errors import Code, Refused
from pacekeeper.protocol.replay import Applied, Void, genesis
from pacekeeper.protocol.statements import seal
from pacekeeper.v1 import envelope_pb2
from pacekeeper.v1 import statements_pb2 as pb

Entry = envelope_pb2.Envelope | bytes


def prepared() -> World:
    """Two labs; borealis has runs and a record, has attested period 0, and period 1 is a gap. Period 2 is over."""
    world = World(period="10 s", fill_in="60 s")
    for lab, run in (("borealis", "run-1"), ("borealis", "run-2"), ("meridian", "run-1")):
        assert isinstance(world.declare(lab, run, at=world.start(0)), Applied)
    assert isinstance(world.record("borealis", "run-1", "weights", 0, 10, 600, at=world.start(0)), Applied)
    world.to(world.end(0))
    assert isinstance(world.attest("borealis", 0, {"run-1": 500}), Applied)
    world.to(world.end(1))
    assert isinstance(world.gap("borealis", 1, 1, at=world.end(1)), Applied)
    world.to(world.end(2))
    return world


def by_lab(world: World, statement: Any, lab: str = "borealis") -> envelope_pb2.Envelope:
    return world.seal(statement, world.keys.lab(lab))


def attestation(world: World, period: int = 2, **change: Any) -> pb.ComputeAttestation:
    figures = change.pop("figures", {"run-1": 5})
    statement = pb.ComputeAttestation(
        agreement=world.agreement.fingerprint,
        lab="borealis",
        link=world.link("borealis"),
        account=world.account(period, figures, change.pop("margin_ppm", 0)),
    )
    for name, value in change.items():
        setattr(statement.link, name, value)
    return statement


def gap(world: World, first: int, last: int) -> pb.Gap:
    return pb.Gap(
        agreement=world.agreement.fingerprint,
        lab="borealis",
        link=world.link("borealis"),
        first_period=first,
        last_period=last,
        reason=pb.GAP_REASON_LATE,
    )


def correction(world: World, period: int, corrects: bytes) -> pb.Correction:
    return pb.Correction(
        agreement=world.agreement.fingerprint,
        lab="borealis",
        link=world.link("borealis"),
        account=world.account(period, {"run-1": 5}),
        corrects=corrects,
    )


def record(world: World, **change: Any) -> pb.CheckpointRecord:
    fields: dict[str, Any] = {"run": "run-1", "digest": digest("w2"), "period": 2, "steps": 11}
    amount = change.pop("amount", 700)
    margin = change.pop("margin_ppm", 0)
    fields.update(change)
    return pb.CheckpointRecord(
        agreement=world.agreement.fingerprint,
        lab="borealis",
        estimates=[pb.Estimate(method=pb.METHOD_FRAMEWORK_COUNT, amount=amount, margin_ppm=margin)],
        **fields,
    )


def finding(world: World, **change: Any) -> pb.Finding:
    fields: dict[str, Any] = {"party": "norland", "as_of": 1}
    fields.update(change)
    return pb.Finding(
        agreement=world.agreement.fingerprint,
        rule="void-entry",
        subject="log",
        severity=pb.SEVERITY_ANOMALY,
        evidence=pb.Evidence(void_entry=pb.VoidEntryEvidence(index=1, code="bad-tick")),
        **fields,
    )


def by_verifier(world: World, statement: Any, party: str = "norland") -> envelope_pb2.Envelope:
    return world.seal(statement, world.keys.verifier_statement(party))


def forged(world: World, statement: Any) -> envelope_pb2.Envelope:
    envelope = by_lab(world, statement)
    signature = bytearray(envelope.signatures[0].signature)
    signature[40] ^= 1
    envelope.signatures[0].signature = bytes(signature)
    return envelope


def other_agreement(statement: Any) -> Any:
    statement.agreement = digest("another")
    return statement


def of_lab(statement: Any, lab: str) -> Any:
    statement.lab = lab
    return statement


def unbalanced(world: World, training: int) -> pb.ComputeAttestation:
    statement = attestation(world)
    statement.account.time[0].chip_ms += training
    statement.account.time[1].chip_ms -= 1
    return statement


def by_method(world: World, method: Any) -> pb.ComputeAttestation:
    statement = attestation(world)
    estimate = statement.account.figures[0].estimates[0]
    estimate.method, estimate.margin_ppm = method, 600_001
    return statement


def repeated_finding(world: World) -> envelope_pb2.Envelope:
    assert isinstance(world.put(by_verifier(world, finding(world)), world.end(2)), Applied)
    return by_verifier(world, finding(world, as_of=2))


def closed(make: Callable[[World], Any]) -> Callable[[World], Entry]:
    """A statement about period 0 or 1 made once those are closed; later periods are declared gaps."""

    def later(world: World) -> Entry:
        world.to(world.end(7) + 1)
        return by_lab(world, make(world))

    return later


def account_id(world: World, period: int) -> bytes:
    return world.state.labs["borealis"].accounts[period].id


def _bare(statement: pb.Finding) -> pb.Finding:
    statement.ClearField("evidence")
    return statement


def _shortened(world: World) -> envelope_pb2.Envelope:
    envelope = by_lab(world, attestation(world))
    envelope.signatures[0].signature = envelope.signatures[0].signature[:63]
    return envelope


def _retyped(world: World, name: str) -> envelope_pb2.Envelope:
    envelope = by_lab(world, attestation(world))
    envelope.payload_type = "application/vnd.pacekeeper.v1." + name
    return envelope


def _at(statement: pb.Gap, sequence: int) -> pb.Gap:
    statement.link.sequence = sequence
    return statement


def _as_of_before(world: World) -> Entry:
    statement = attestation(world, as_of=world.state.size)
    assert isinstance(world.put_chain("borealis", statement, world.end(2)), Applied)
    world.to(world.end(3))
    return by_lab(world, attestation(world, 3, as_of=statement.link.as_of - 1))


def _future(world: World) -> Entry:
    """Period 2 is attested; period 3 ends later than log time and the tolerance of 10 s."""
    assert isinstance(world.attest("borealis", 2, {}, at=world.end(2)), Applied)
    assert isinstance(world.attest("borealis", 3, {}, at=world.end(2)), Applied)
    return by_lab(world, attestation(world, 4))


def _earlier_record(world: World) -> Entry:
    assert isinstance(world.put(by_lab(world, record(world)), world.end(2)), Applied)
    return by_lab(world, record(world, digest=digest("w3"), steps=12, period=1))


def _below_account(world: World) -> Entry:
    assert isinstance(world.attest("borealis", 2, {"run-2": 100}, at=world.end(2)), Applied)
    return by_lab(world, record(world, run="run-2", amount=99, period=3))


# (rule, why, code, the entry's bytes or an envelope to sequence)
CASES: list[tuple[str, str, Code, Callable[[World], Entry]]] = [
    ("replay-2", "nothing", Code.MISSING_SIGNATURE, lambda w: b""),
    ("replay-2", "noise", Code.NOT_CANONICAL, lambda w: b"\xff\x00noise"),
    ("replay-2", "a time of no calendar", Code.BAD_FIELD, lambda w: encode_entry(2**60, by_lab(w, attestation(w)))),
    ("replay-2", "an entry too large", Code.TOO_LARGE, lambda w: bytes(limits.MAX_ENTRY_BYTES + 1)),
    ("replay-2", "half a signature", Code.MALFORMED, _shortened),
    ("replay-2", "no such statement", Code.UNKNOWN_PAYLOAD_TYPE, lambda w: _retyped(w, "Estimate")),
    ("replay-2", "another statement's bytes", Code.NOT_CANONICAL, lambda w: _retyped(w, "Tick")),
    ("replay-2", "a bad shape", Code.BAD_FIELD, lambda w: by_lab(w, of_lab(attestation(w), "Borealis"))),
    ("replay-2", "no evidence", Code.BAD_EVIDENCE, lambda w: by_verifier(w, _bare(finding(w)))),
    ("replay-3", "time runs back", Code.TIME_RUNS_BACK, lambda w: encode_entry(w.end(2) - 1, w.sealed_tick())),
    (
        "replay-6",
        "a second founding",
        Code.NOT_FIRST,
        lambda w: seal(pb.Agreement(document=w.document), w.keys.parties()),
    ),
    ("replay-6", "another agreement", Code.WRONG_AGREEMENT, lambda w: by_lab(w, other_agreement(attestation(w)))),
    (
        "replay-6",
        "a stranger",
        Code.UNKNOWN_SIGNER,
        lambda w: w.seal(attestation(w), World(salt="x").keys.lab("borealis")),
    ),
    (
        "replay-6",
        "two signatures",
        Code.WRONG_ROLE,
        lambda w: seal(attestation(w), [w.keys.lab("borealis"), w.keys.log_statement]),
    ),
    ("replay-6", "another lab", Code.WRONG_ROLE, lambda w: by_lab(w, attestation(w), "meridian")),
    ("replay-6", "a party's key", Code.WRONG_ROLE, lambda w: w.seal(finding(w), w.keys.party("norland"))),
    ("replay-6", "another party", Code.WRONG_ROLE, lambda w: by_verifier(w, finding(w), "sudland")),
    (
        "replay-6",
        "a lab's tick",
        Code.WRONG_ROLE,
        lambda w: by_lab(w, pb.Tick(agreement=w.agreement.fingerprint, index=w.state.size)),
    ),
    ("replay-6", "no such lab", Code.UNKNOWN_LAB, lambda w: by_lab(w, of_lab(attestation(w), "nowhere"))),
    ("replay-6", "a forgery", Code.BAD_SIGNATURE, lambda w: forged(w, attestation(w))),
    ("replay-7", "a tick elsewhere", Code.BAD_TICK, lambda w: w.sealed_tick(w.state.size + 1)),
    ("replay-7", "a tick again", Code.BAD_TICK, lambda w: w.sealed_tick(w.state.size - 1)),
    ("replay-8", "a finding again", Code.DUPLICATE, repeated_finding),
    ("replay-8", "a finding of tomorrow", Code.BAD_AS_OF, lambda w: by_verifier(w, finding(w, as_of=w.state.size + 1))),
    ("chain-1", "a sequence again", Code.SEQUENCE_TAKEN, lambda w: by_lab(w, attestation(w, sequence=2))),
    ("chain-1", "a sequence too far", Code.SEQUENCE_SKIPPED, lambda w: by_lab(w, attestation(w, sequence=4))),
    ("chain-1", "a gap out of sequence", Code.SEQUENCE_TAKEN, lambda w: by_lab(w, _at(gap(w, 2, 2), 2))),
    ("chain-2", "a broken link", Code.BROKEN_LINK, lambda w: by_lab(w, attestation(w, previous=digest("x")))),
    ("chain-3", "a tree to come", Code.BAD_AS_OF, lambda w: by_lab(w, attestation(w, as_of=w.state.size + 1))),
    ("chain-3", "a tree before", Code.BAD_AS_OF, _as_of_before),
    ("chain-4", "a period skipped", Code.PERIOD_SKIPPED, lambda w: by_lab(w, attestation(w, 3))),
    ("chain-4", "a period again", Code.PERIOD_TAKEN, lambda w: by_lab(w, attestation(w, 0))),
    ("chain-5", "a gap too far on", Code.PERIOD_SKIPPED, lambda w: by_lab(w, gap(w, 3, 3))),
    ("chain-5", "a gap over an account", Code.PERIOD_TAKEN, lambda w: by_lab(w, gap(w, 0, 2))),
    ("chain-5", "a gap over a gap", Code.PERIOD_TAKEN, lambda w: by_lab(w, gap(w, 1, 2))),
    ("chain-5", "a gap to come", Code.PERIOD_NOT_OVER, lambda w: by_lab(w, gap(w, 2, 4))),
    ("chain-6", "a correction of nothing", Code.BAD_CORRECTION, lambda w: by_lab(w, correction(w, 2, digest("x")))),
    ("chain-6", "a correction of a gap", Code.BAD_CORRECTION, lambda w: by_lab(w, correction(w, 1, account_id(w, 0)))),
    ("chain-6", "a correction of another", Code.BAD_CORRECTION, lambda w: by_lab(w, correction(w, 0, digest("x")))),
    ("chain-7", "a period to come", Code.PERIOD_NOT_OVER, _future),
    ("chain-8", "time that is not there", Code.DOES_NOT_ADD_UP, lambda w: by_lab(w, unbalanced(w, 0))),
    ("chain-8", "training beside the runs", Code.DOES_NOT_ADD_UP, lambda w: by_lab(w, unbalanced(w, 1))),
    ("chain-11", "too late and of no run", Code.UNKNOWN_RUN, closed(lambda w: attestation(w, 1, figures={"run-9": 5}))),
    ("chain-9", "a record too late", Code.PERIOD_CLOSED, closed(lambda w: record(w, period=1))),
    ("compute-8", "a wide margin", Code.MARGIN_TOO_WIDE, lambda w: by_lab(w, attestation(w, margin_ppm=50_001))),
    ("compute-8", "a wide margin by chips", Code.MARGIN_TOO_WIDE, lambda w: by_lab(w, by_method(w, 2))),
    (
        "compute-8",
        "a wide margin of a record",
        Code.MARGIN_TOO_WIDE,
        lambda w: by_lab(w, record(w, margin_ppm=50_001)),
    ),
    ("lineage-1", "a run again", Code.RUN_EXISTS, lambda w: by_lab(w, w.declaration("borealis", "run-1"))),
    (
        "lineage-1",
        "a parent that is no record",
        Code.UNKNOWN_PARENT,
        lambda w: by_lab(w, w.declaration("borealis", "r", parents=[1])),
    ),
    (
        "lineage-1",
        "a parent to come",
        Code.UNKNOWN_PARENT,
        lambda w: by_lab(w, w.declaration("borealis", "r", parents=[w.state.size])),
    ),
    (
        "lineage-3",
        "an account of no run",
        Code.UNKNOWN_RUN,
        lambda w: by_lab(w, attestation(w, figures={"nowhere": 5})),
    ),
    ("lineage-3", "a record of no run", Code.UNKNOWN_RUN, lambda w: by_lab(w, record(w, run="nowhere"))),
    ("lineage-2", "no more steps", Code.CHECKPOINT_REGRESSES, lambda w: by_lab(w, record(w, steps=10))),
    ("lineage-2", "less compute", Code.CHECKPOINT_REGRESSES, lambda w: by_lab(w, record(w, amount=599))),
    ("lineage-2", "an earlier period", Code.CHECKPOINT_REGRESSES, _earlier_record),
    ("lineage-2", "below its account", Code.CHECKPOINT_REGRESSES, _below_account),
    ("lineage-2", "a period to come", Code.PERIOD_NOT_OVER, lambda w: by_lab(w, record(w, period=5))),
]


@pytest.mark.parametrize(("rule", "why", "code", "make"), CASES, ids=[f"{case[0]}: {case[1]}" for case in CASES])
def test_a_refused_entry_leaves_only_its_record(
    rule: str, why: str, code: Code, make: Callable[[World], Entry]
) -> None:
    """SPEC replay-2, SPEC replay-6, SPEC replay-7, SPEC replay-8, SPEC chain-1, SPEC chain-2, SPEC chain-3,
    SPEC chain-4, SPEC chain-5, SPEC chain-6, SPEC chain-7, SPEC chain-8, SPEC chain-9, SPEC compute-8, SPEC lineage-1,
    SPEC lineage-2, SPEC lineage-3.
    """
    world = prepared()
    entry = make(world)
    if not isinstance(entry, bytes):
        entry = encode_entry(world.state.last_time_ms, entry)
    before: dict[str, Any] = world.state.describe()
    voids = list(before["voids"])
    outcome = world.put_entry(entry)
    assert isinstance(outcome, Void), why
    assert outcome.code is code
    assert outcome.message
    assert not outcome.message.endswith(".")
    after: dict[str, Any] = world.state.describe()
    before["size"] += 1
    before["voids"] = [*voids, [outcome.index, code]]
    assert after == before
    assert world.state.void_count == len(voids) + 1
    assert world.replayed().digest() == world.state.digest()


def test_the_log_goes_on_after_a_void() -> None:
    """SPEC replay-2: it never blocks the tail, and the same statement made well is taken."""
    world = prepared()
    for entry in (b"", encode_entry(world.end(2), forged(world, attestation(world)))):
        assert isinstance(world.put_entry(entry), Void)
    assert isinstance(world.put_chain("borealis", attestation(world), world.end(2)), Applied)


def test_a_void_entry_still_lets_time_go_on() -> None:
    """SPEC replay-2, SPEC replay-3: deadlines fire up to the time of an entry that is then refused."""
    world = prepared()
    world.to(world.due(2) - 1)
    before = len(world.state.violations)
    outcome = world.put(world.sealed_tick(0), world.due(2))
    assert isinstance(outcome, Void)
    assert [v.kind for v in outcome.violations] == ["period-missing"] * 2
    assert world.state.violations[before:] == outcome.violations
    assert world.state.last_time_ms == world.due(2)


def test_a_period_just_over_by_the_tolerance_may_be_attested() -> None:
    """SPEC chain-7: a lab's clock may be ahead of the log's by the agreement's tolerance and no more."""
    world = World(period="60 s", tick="5 s")
    edge = world.end(0) - world.agreement.timing.tolerance_ms
    world.to(edge - 1)
    assert isinstance(early := world.attest("borealis", 0, {}, at=edge - 1), Void)
    assert early.code is Code.PERIOD_NOT_OVER
    assert isinstance(world.attest("borealis", 0, {}, at=edge), Applied)


def test_voids_are_listed_to_a_limit_and_counted_beyond() -> None:
    world = World()
    for _ in range(10_003):
        world.put_entry(b"")
    assert (len(world.state.voids), world.state.void_count, world.state.size) == (10_000, 10_003, 10_004)


def founding(world: World, **change: Any) -> bytes:
    signers = change.get("signers", world.keys.parties())
    envelope = seal(change.get("statement", pb.Agreement(document=world.document)), signers)
    if "tamper" in change:
        envelope.signatures[change["tamper"]].signature = bytes(64)
    return encode_entry(world.start(0), envelope)


def test_a_log_begins_with_its_agreement_signed_by_every_party_and_nobody_else() -> None:
    """SPEC replay-1."""
    world = World()
    parties = world.keys.parties()
    assert genesis(founding(world)).digest() == genesis(world.entries[0]).digest()
    broken = edit(world.document, "quorum = 3", "quorum = 9")[0]
    cases: list[tuple[Code, dict[str, Any]]] = [
        (Code.NOT_FIRST, {"statement": pb.Tick(agreement=world.agreement.fingerprint)}),
        (Code.MISSING_SIGNATURE, {"signers": parties[:3]}),
        (Code.MISSING_SIGNATURE, {"signers": []}),
        (Code.UNKNOWN_SIGNER, {"signers": [*parties, world.keys.lab("borealis")]}),
        (Code.UNKNOWN_SIGNER, {"signers": [*parties, world.keys.verifier_statement("norland")]}),
        (Code.BAD_SIGNATURE, {"tamper": 2}),
        (Code.BAD_DOCUMENT, {"statement": pb.Agreement(document=broken)}),
        (Code.BAD_DOCUMENT, {"statement": pb.Agreement(document=b"# Nothing")}),
        (Code.BAD_FIELD, {"statement": pb.Agreement()}),
    ]
    for code, change in cases:
        with pytest.raises(Refused) as caught:
            genesis(founding(world, **change))
        assert caught.value.code is code, change
    with pytest.raises(Refused) as caught:
        genesis(b"")
    assert caught.value.code is Code.MISSING_SIGNATURE


def test_the_rules_version_is_the_agreements() -> None:
    """SPEC replay-9: an agreement under rules that this code does not have founds nothing."""
    document, keys = build_document()
    document, _ = edit(document, "rules = 4", "rules = 5")
    with pytest.raises(Refused) as caught:
        genesis(encode_entry(0, seal(pb.Agreement(document=document), keys.parties())))
    assert caught.value.code is Code.BAD_DOCUMENT
    assert World().agreement.rules_version == 4


def test_a_statement_of_another_agreement_stays_there() -> None:
    """SPEC replay-6: labs may keep their keys for two agreements; a statement counts under the one it names."""
    here, there = World(title="Here"), World(title="There")
    envelope = here.seal(here.declaration("borealis", "run-1"), here.keys.lab("borealis"))
    assert here.keys.lab("borealis").public == there.keys.lab("borealis").public
    assert isinstance(here.put(envelope, here.start(0)), Applied)
    outcome = there.put(envelope, there.start(0))
    assert isinstance(outcome, Void)
    assert outcome.code is Code.WRONG_AGREEMENT
    assert statement_id(envelope) not in {there.state.labs["borealis"].head}
