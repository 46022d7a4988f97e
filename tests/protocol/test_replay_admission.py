"""The log's decision and the replay's are one: what is admitted replays, what is refused would have been void.

Random histories are written the way a log does it, with `admit`, and replayed with `apply`; a refusal changes nothing.
"""

from __future__ import annotations

import copy
from typing import Any, TypeAlias

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from world import World, digest, statement_id

from pacekeeper.protocol.envelope import encode_entry, read_envelope
from pacekeeper.protocol.errors import Code, Refused
from pacekeeper.protocol.replay import Applied, State, Void, admit, apply
from pacekeeper.v1 import envelope_pb2
from pacekeeper.v1 import statements_pb2 as pb

LABS = ("borealis", "meridian")
CAPS = [
    {"id": "run", "kind": "run", "limit": "2e12 FLOP"},
    {"id": "lab", "kind": "lab", "limit": "1e12 FLOP", "window": "2 periods"},
    {"id": "party", "kind": "party", "limit": "1.2e12 FLOP", "window": "3 periods"},
]
Step: TypeAlias = tuple[str, int, int, int, str]


def clone(state: State) -> State:
    return copy.deepcopy(state, {id(state.agreement): state.agreement})


def chain_statement(world: World, lab: str, kind: str, number: int, twist: str) -> Any:
    state = world.state.labs[lab]
    link = pb.Link(sequence=state.sequence + 1, previous=state.head, as_of=max(state.as_of, world.state.size - number))
    common: dict[str, Any] = {"agreement": world.agreement.fingerprint, "lab": lab, "link": link}
    declared = [run.name.removeprefix(f"{lab}/") for run in world.state.lineage.runs.values() if run.lab == lab]
    figures = dict.fromkeys(["run-9"] if number == 8 else declared[: number % 3], 200 * number)
    period = state.next_period + (number == 9)
    if kind == "fill" and state.gaps:
        period = min(state.gaps)
    if kind == "gap":
        last = state.next_period + number % 3
        return pb.Gap(**common, first_period=period, last_period=last, reason=pb.GAP_REASON_UNACCOUNTED)
    margin = 60_000 if twist == "margin" else 50_000 * (number % 2)
    if kind == "correct" and state.accounts:
        period = sorted(state.accounts)[number % len(state.accounts)]
        corrects = state.accounts[period].id
        return pb.Correction(**common, account=world.account(period, figures, margin), corrects=corrects)
    return pb.ComputeAttestation(**common, account=world.account(period, figures, margin))


def statement_of(world: World, kind: str, lab: str, number: int, twist: str) -> Any:
    if kind == "declare":
        records = sorted(world.state.lineage.records)
        parents = records[-(number % 3) :] if number % 3 else []
        return world.declaration(lab, f"run-{number % 4}", initial=f"w{number}", parents=parents)
    if kind == "record":
        return pb.CheckpointRecord(
            agreement=world.agreement.fingerprint,
            lab=lab,
            run=f"run-{number % 4}",
            digest=digest(f"w{number % 7}"),
            period=max(0, world.agreement.period_of(world.state.last_time_ms) - number % 3),
            steps=world.state.size * (number != 8),
            estimates=[pb.Estimate(method=pb.METHOD_FRAMEWORK_COUNT, amount=world.state.size * 10 * number)],
        )
    if kind == "finding":
        return pb.Finding(
            agreement=world.agreement.fingerprint,
            party="norland",
            rule="void-entry",
            subject="log",
            severity=pb.SEVERITY_ANOMALY,
            as_of=max(0, world.state.size - number + 3),
            evidence=pb.Evidence(void_entry=pb.VoidEntryEvidence(index=number)),
        )
    if kind == "tick":
        return pb.Tick(agreement=world.agreement.fingerprint, index=world.state.size + (number == 9))
    return chain_statement(world, lab, kind, number, twist)


def envelope_of(world: World, step: Step) -> envelope_pb2.Envelope:
    kind, lab_number, number, _, twist = step
    lab = LABS[lab_number]
    statement = statement_of(world, kind, lab, number, twist)
    if twist == "agreement":
        statement.agreement = digest("another")
    if twist == "link" and hasattr(statement, "link"):
        statement.link.previous = digest("broken")
        statement.link.sequence = max(2, statement.link.sequence)
    signer = {"finding": world.keys.verifier_statement("norland"), "tick": world.keys.log_statement}.get(kind)
    key = world.keys.lab(LABS[1 - lab_number]) if twist == "signer" else signer or world.keys.lab(lab)
    envelope = world.seal(statement, key)
    if twist == "signature":
        envelope.signatures[0].signature = bytes(64)
    return envelope


KINDS = ["declare", "attest", "attest", "attest", "gap", "fill", "correct", "record", "finding", "tick"]
TWISTS = [*[""] * 25, "agreement", "link", "signer", "signature", "margin"]
STEPS = st.lists(
    st.tuples(
        st.sampled_from(KINDS),
        st.integers(0, 1),
        st.integers(0, 9),
        st.sampled_from([0, 0, 1, 400, 1_000, 3_000, 10_000, 30_000]),
        st.sampled_from(TWISTS),
    ),
    max_size=40,
)


@settings(max_examples=100, deadline=None)
@given(STEPS)
def test_admission_and_replay_are_one_decision(steps: list[Step]) -> None:
    """SPEC replay-11, SPEC replay-2: same state from admit and apply; a refusal has no effect, and the same code."""
    world = World(labs=[2, 0, 0, 0], caps=CAPS, fill_in="120 s", indeterminate_periods=1)
    said: list[envelope_pb2.Envelope] = []
    for step in steps:
        at = world.state.last_time_ms + step[3]
        while world.needs_tick(at):
            tick, tick_ms = world.sealed_tick(), at
            if step[2] % 4:  # no silence
                tick_ms = min(at, world.state.last_time_ms + world.agreement.timing.tick_ms)
            admit(world.state, read_envelope(tick), tick_ms)
            world.entries.append(encode_entry(tick_ms, tick))
        envelope = envelope_of(world, step)
        before = world.state.describe()
        void = apply(clone(world.state), encode_entry(at, envelope))
        if isinstance(void, Void):
            with pytest.raises(Refused) as caught:
                admit(world.state, read_envelope(envelope), at)
            assert (void.code, void.message) == (caught.value.code, caught.value.message)
            assert world.state.describe() == before
            continue
        outcome = admit(world.state, read_envelope(envelope), at)
        world.entries.append(encode_entry(at, envelope))
        assert outcome.violations == void.violations
        assert outcome.id == void.id == statement_id(envelope)
        said.append(envelope)
        assert isinstance(apply(clone(world.state), encode_entry(at, envelope)), Void), "SPEC replay-13: at once"
    for envelope in said:  # and later
        assert isinstance(apply(clone(world.state), encode_entry(world.state.last_time_ms, envelope)), Void)
    again = world.replayed()
    assert again.void_count == 0
    assert again.digest() == world.state.digest()
    assert again.violations == world.state.violations


@settings(max_examples=60, deadline=None)
@given(STEPS)
def test_the_same_entries_give_the_same_state_voids_included(steps: list[Step]) -> None:
    """SPEC replay-12: whatever the log lets in, every replay reaches the same state, whenever it stops and goes on."""
    world = World(labs=[2, 0, 0, 0], caps=CAPS, fill_in="120 s", indeterminate_periods=1)
    sizes = [1]
    for step in steps:
        world.put(envelope_of(world, step), world.state.last_time_ms + step[3])
        sizes.append(world.state.size)
    assert sizes == list(range(1, len(steps) + 2)), "every entry takes its index, void or not"
    assert world.replayed().digest() == world.state.digest()
    times = [violation.index for violation in world.state.violations]
    assert times == sorted(times)


def test_a_tick_is_refused_without_letting_anything_fall_due() -> None:
    """SPEC replay-11: a wrong tick at a deadline's time fires no deadline and notes no silence."""
    world = World()
    world.to(world.due(0) - 1)
    before = world.state.describe()
    for at in (world.due(0), world.due(3)):
        for envelope in (
            world.sealed_tick(7),
            world.seal(pb.Tick(agreement=digest("x"), index=world.state.size), world.keys.log_statement),
            world.seal(pb.Tick(agreement=world.agreement.fingerprint), world.keys.lab("borealis")),
        ):
            with pytest.raises(Refused):
                admit(world.state, read_envelope(envelope), at)
            assert world.state.describe() == before


def test_admission_wants_a_tick_before_what_changes_by_time_alone() -> None:
    """SPEC replay-11: a deadline or a silence is a fact of the log, not of whoever submits next."""
    world = World()
    envelope = world.seal(world.declaration("borealis", "run-1"), world.keys.lab("borealis"))
    world.to(world.due(0) - 1)
    before = world.state.describe()
    for at in (world.due(0), world.state.last_time_ms + 1_001):
        with pytest.raises(ValueError, match="tick"):
            admit(world.state, read_envelope(envelope), at)
    with pytest.raises(ValueError, match="run back"):
        admit(world.state, read_envelope(envelope), world.state.last_time_ms - 1)
    with pytest.raises(ValueError, match="run back"):
        admit(world.state, read_envelope(world.sealed_tick()), world.state.last_time_ms - 1)
    assert world.state.describe() == before
    assert isinstance(world.admit(envelope, world.due(0)), Applied)
    refused = world.admit(envelope, world.due(0) + 5_000)
    assert isinstance(refused, Refused)
    assert refused.code is Code.RUN_EXISTS
    assert world.replayed().digest() == world.state.digest()
