"""Any bytes at all: the replay gives Applied or Void, and goes on."""

from __future__ import annotations

import copy
from functools import cache
from typing import Any

from agreements import signing_key
from hypothesis import given, settings
from hypothesis import strategies as st
from wire import damaged, messages, misspelt
from world import World

from pacekeeper.protocol.envelope import encode_entry, parse_entry
from pacekeeper.protocol.errors import Refused
from pacekeeper.protocol.replay import Applied, State, Void, apply, genesis
from pacekeeper.protocol.statements import STATEMENTS, seal
from pacekeeper.v1 import envelope_pb2
from pacekeeper.v1 import statements_pb2 as pb


@cache
def story() -> World:
    """A history with one entry of every kind."""
    world = World(fill_in="60 s", caps=[{"id": "run", "kind": "run", "limit": "1e12 FLOP"}])
    world.declare("borealis", "run-1", at=world.start(0))
    world.record("borealis", "run-1", "weights", 0, 1, 900, at=world.start(0) + 1)
    world.declare("borealis", "run-2", at=world.start(0) + 2, initial="weights")
    world.to(world.end(0))
    world.attest("borealis", 0, {"run-1": 800, "run-2": 150}, margin_ppm=50_000)
    world.to(world.end(1))
    world.gap("borealis", 1, 1, at=world.end(1))
    world.correct("borealis", 0, {"run-1": 700}, world.state.labs["borealis"].accounts[0].id, at=world.end(1))
    finding = pb.Finding(
        agreement=world.agreement.fingerprint,
        party="norland",
        rule="void-entry",
        subject="log",
        severity=pb.SEVERITY_ANOMALY,
        evidence=pb.Evidence(void_entry=pb.VoidEntryEvidence(index=1, code="bad-tick")),
    )
    world.put(world.seal(finding, world.keys.verifier_statement("norland")), world.end(1))
    new = signing_key("borealis' second")
    rotation = pb.KeyRotation(
        agreement=world.agreement.fingerprint, role=pb.KEY_ROLE_LAB, holder="borealis", epoch=2, key=new.public
    )
    world.put(seal(rotation, [world.keys.lab("borealis"), new]), world.end(1))
    world.to(world.end(2))
    assert world.state.void_count == 0
    return world


def fresh(state: State) -> State:
    return copy.deepcopy(state, {id(state.agreement): state.agreement})


def is_total(state: State, entry: bytes) -> Applied | Void:
    size, time_ms = state.size, state.last_time_ms
    outcome = apply(state, entry)
    assert isinstance(outcome, Applied | Void)
    assert outcome.index == size
    assert state.size == size + 1
    assert state.last_time_ms >= time_ms
    return outcome


@settings(max_examples=400)
@given(st.lists(st.binary(max_size=120), max_size=5))
def test_noise_is_void(entries: list[bytes]) -> None:
    """SPEC replay-2."""
    state = fresh(story().state)
    before: dict[str, Any] = state.describe()
    for entry in entries:
        assert isinstance(is_total(state, entry), Void)
    after: dict[str, Any] = state.describe()
    for name in ("size", "voids"):
        before.pop(name), after.pop(name)
    assert after == before


@settings(max_examples=250, deadline=None)
@given(st.data())
def test_a_history_with_damaged_entries_never_stops(data: st.DataObject) -> None:
    """SPEC replay-2, SPEC replay-12: and all replays of it agree."""
    entries = list(story().entries[1:])
    descriptor: Any = envelope_pb2.Entry.DESCRIPTOR
    for _ in range(data.draw(st.integers(1, 4))):
        place = data.draw(st.integers(0, len(entries) - 1))
        if data.draw(st.booleans()):
            entries[place] = data.draw(damaged(entries[place]))
        else:
            intact = parse_entry(story().entries[1 + place]).SerializeToString(deterministic=True)
            entries[place] = data.draw(misspelt(descriptor, intact))
    states = [genesis(story().entries[0]) for _ in range(2)]
    for entry in entries:
        one, other = (is_total(state, entry) for state in states)
        assert type(one) is type(other)
    assert states[0].digest() == states[1].digest()


@settings(max_examples=400, deadline=None)
@given(st.data())
def test_any_signed_statement_is_applied_or_void(data: st.DataObject) -> None:
    """SPEC replay-2: every field of every statement at its extremes, signed by any key that the agreement has."""
    world = story()
    message_class = STATEMENTS[data.draw(st.sampled_from(sorted(STATEMENTS)))]
    statement: Any = data.draw(messages(message_class.DESCRIPTOR))
    if "agreement" in message_class.DESCRIPTOR.fields_by_name:
        statement.agreement = world.agreement.fingerprint
    for name, value in (("lab", "borealis"), ("run", "run-1"), ("party", "norland")):
        if name in message_class.DESCRIPTOR.fields_by_name and data.draw(st.integers(0, 3)):
            setattr(statement, name, value)
    keys = [world.keys.lab("borealis"), world.keys.log_statement, world.keys.verifier_statement("norland")]
    envelope = seal(statement, [data.draw(st.sampled_from(keys))])
    at = world.state.last_time_ms + data.draw(st.sampled_from([0, 1, 1_000, 60_000, 2**40]))
    state = fresh(world.state)
    before: dict[str, Any] = state.describe()
    outcome = is_total(state, encode_entry(at, envelope))
    if isinstance(outcome, Void) and at == world.state.last_time_ms:
        after: dict[str, Any] = state.describe()
        assert {name for name in after if after[name] != before[name]} == {"size", "voids"}
    is_total(state, b"")


@settings(max_examples=150, deadline=None)
@given(st.data())
def test_no_damaged_founding_founds_another_log(data: st.DataObject) -> None:
    """SPEC replay-1: it is refused, or it is the same agreement at another time."""
    founding = story().entries[0]
    changed = data.draw(damaged(founding))
    try:
        state = genesis(changed)
    except Refused:
        return
    assert state.agreement.fingerprint == story().agreement.fingerprint
    assert parse_entry(changed).envelope == parse_entry(founding).envelope


def test_times_at_the_end_of_the_calendar() -> None:
    """SPEC replay-2: a log that leaps to the last moment of the year 9999 has a long silence and no violations."""
    state = fresh(story().state)
    before = len(state.violations)
    tick = story().seal(pb.Tick(agreement=state.agreement.fingerprint, index=state.size), story().keys.log_statement)
    assert isinstance(apply(state, encode_entry(253_402_300_799_999, tick)), Applied)
    assert len(state.violations) == before
    assert isinstance(apply(state, encode_entry(253_402_300_800_000, tick)), Void)
