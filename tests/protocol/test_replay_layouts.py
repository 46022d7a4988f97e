"""What the replay remembers to read faster changes nothing that it says."""

from __future__ import annotations

import copy
from functools import cache

from hypothesis import given, settings
from hypothesis import strategies as st
from wire import damaged
from world import World

from pacekeeper.protocol.envelope import encode_entry, parse_entry
from pacekeeper.protocol.layouts import Layout
from pacekeeper.protocol.readings import AttestationReading
from pacekeeper.protocol.replay import State, apply, genesis
from pacekeeper.protocol.replay.labs import LabState
from pacekeeper.protocol.statements import read_statement
from pacekeeper.v1 import envelope_pb2
from pacekeeper.v1 import statements_pb2 as pb


def story() -> World:
    """Forty periods of two labs, with one that lies, one that is late, and repeats."""
    world = World(fill_in="60 s", caps=[{"id": "run", "kind": "run", "limit": "1e15 FLOP"}])
    for lab in ("borealis", "meridian"):
        world.declare(lab, "run-1", at=world.start(0))
    for period in range(40):
        world.to(world.end(period))
        if period == 1:
            for lab in ("borealis", "meridian"):
                world.state.labs[lab].as_of = 1  # a number that is not zero, and so is written from here on
        for lab in ("borealis", "meridian"):
            world.attest(lab, period, {"run-1": 50_000 + 1_000 * period})
    return world


@cache
def told() -> World:
    return story()


def replayed(entries: list[bytes]) -> tuple[State, list[object]]:
    state = genesis(entries[0])
    outcomes: list[object] = []
    for entry in entries[1:]:
        outcome = apply(state, entry)
        outcomes.append(getattr(outcome, "code", None) or getattr(outcome, "id", None))
        outcomes.append(list(outcome.violations))
    return state, outcomes


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_a_replay_is_the_same_without_layouts(data: st.DataObject) -> None:
    """SPEC envelope-6, SPEC replay-12: the same state, outcomes and refusals, of sound and of damaged entries."""
    entries = list(told().entries)
    for _ in range(data.draw(st.integers(0, 4))):
        place = data.draw(st.integers(1, len(entries) - 1))
        match data.draw(st.integers(0, 2)):
            case 0:
                entries[place] = data.draw(damaged(entries[place]))
            case 1:
                entries.insert(place, entries[data.draw(st.integers(1, len(entries) - 1))])
            case _:
                del entries[place]
    state, outcomes = replayed(entries)
    learn, LabState.learn = LabState.learn, lambda *_: None  # type: ignore[method-assign]
    try:
        plain_state, plain_outcomes = replayed(entries)
    finally:
        LabState.learn = learn  # type: ignore[method-assign]
    assert outcomes == plain_outcomes
    assert state.describe() == plain_state.describe()


def test_a_replay_learns_layouts_and_forgets_them() -> None:
    """SPEC envelope-6: from the second of a size on, and never more than a few."""
    state, outcomes = replayed(told().entries)
    assert any(outcomes)
    layouts = state.labs["borealis"].layouts
    assert any(isinstance(layout, Layout) for layout in layouts.values())
    lab = copy.copy(state.labs["borealis"])
    last = parse_entry(told().entries[-1]).envelope
    said = read_statement(last.payload_type, last.payload)[1]
    assert isinstance(said, AttestationReading)
    for number in range(40):
        for _ in range(3):
            lab.learn(last.payload + b"\x12" * 2 * number, said)
        assert len(lab.layouts) <= len(lab.sizes) <= 8


def test_a_layout_does_not_vouch_for_a_signature() -> None:
    """SPEC replay-6: an attestation that fits is void all the same when it is not signed, or by another lab."""
    world = told()
    state, _ = replayed(world.entries[:-1])
    entry = parse_entry(world.entries[-1])
    lab = state.labs["meridian"]
    assert isinstance(lab.layouts[len(entry.envelope.payload)], Layout)
    forged = envelope_pb2.Entry.FromString(world.entries[-1])
    forged.envelope.signatures[0].signature = bytes(64)
    outcome = apply(copy.deepcopy(state, {id(state.agreement): state.agreement}), forged.SerializeToString())
    assert getattr(outcome, "code", None) == "bad-signature"
    statement = pb.ComputeAttestation.FromString(entry.envelope.payload)
    swapped = world.seal(statement, world.keys.lab("borealis"))
    outcome = apply(state, encode_entry(entry.sequenced_at_ms, swapped))
    assert getattr(outcome, "code", None) == "wrong-role"
