"""The log's own statement key: rotated while it sequences, replaced by the parties, and not at hand."""

from __future__ import annotations

from pathlib import Path

import pytest
from agreements import signing_key
from key_world import KeyWorld

from pacekeeper.client.keyfiles import create_key
from pacekeeper.client.successors import KeyFiles
from pacekeeper.log.sequencer import Conditions, Plan, Sequenced, Sequencer
from pacekeeper.log.voice import StatementKeys
from pacekeeper.protocol.envelope import encode, parse_entry
from pacekeeper.protocol.errors import Code, Refused
from pacekeeper.protocol.keys import SigningKey
from pacekeeper.protocol.replay import Applied, State, apply
from pacekeeper.protocol.statements import seal


def sequencer(world: KeyWorld, *keys: SigningKey, paths: tuple[Path, ...] = ()) -> Sequencer:
    voice = StatementKeys(KeyFiles(keys, paths))
    return Sequencer(world.state, voice, lambda ids: {}, lambda lab, sequence: None)


def step(log: Sequencer, *envelopes: bytes, at: int) -> Plan:
    return log.step(envelopes, at, Conditions())


def signers(plan: Plan) -> list[bytes]:
    return [parse_entry(entry).envelope.signatures[0].key_id for entry in plan.entries]


def replays(state: State, world: KeyWorld, *plans: Plan) -> None:
    """Anyone who replays what was committed reaches the sequencer's state, with nothing void."""
    again = world.replayed()
    for plan in plans:
        for entry in plan.entries:
            assert isinstance(apply(again, entry), Applied)
    assert again.digest() == state.digest()


def test_the_log_ticks_with_its_next_key_from_the_rotation_on() -> None:
    """SPEC log-30."""
    world = KeyWorld()
    old, new = world.key("log", "log"), world.next_key("log", "log")
    log = sequencer(world, old, new)
    at = world.now
    rotation = encode(seal(world.rotation("log", "log", new.public), [old, new]))
    first = step(log, rotation, at=at)
    [outcome] = first.outcomes
    assert isinstance(outcome, Sequenced)
    second = step(log, at=at + world.agreement.timing.tick_ms)
    assert signers(first)[0] == old.key_id
    assert signers(second) == [new.key_id]
    replays(world.state, KeyWorld(), first, second)


def test_the_parties_replace_it_with_its_own_last_tick() -> None:
    """SPEC log-30, SPEC keys-13."""
    world, fresh = KeyWorld(), KeyWorld()
    for one in (world, fresh):
        one.decide(("log", "log", 2), by=("sudland", "westmere", "eastholm"))
    old, new = world.key("log", "log"), world.next_key("log", "log")
    log = sequencer(world, old, new)
    first = step(log, at=world.now + 10_000)
    second = step(log, at=world.now + world.agreement.timing.tick_ms)
    assert signers(first) == [old.key_id]
    assert signers(second) == [new.key_id]
    replays(world.state, fresh, first, second)


def test_a_key_that_turns_up_in_its_file_is_used(tmp_path: Path) -> None:
    """SPEC log-30."""
    world = KeyWorld()
    path = tmp_path / "statement.next.key"
    old = world.key("log", "log")
    log = sequencer(world, old, paths=(path,))
    new = create_key(path)
    rotation = encode(seal(world.rotation("log", "log", new.public), [old, new]))
    step(log, rotation, at=world.now)
    assert signers(step(log, at=world.now + world.agreement.timing.tick_ms)) == [new.key_id]


def test_a_log_without_its_key_stops(tmp_path: Path) -> None:
    """SPEC log-30: and says which key it needs."""
    world = KeyWorld()
    old, new = world.key("log", "log"), world.next_key("log", "log")
    log = sequencer(world, old, paths=(tmp_path / "statement.next.key",))
    step(log, encode(seal(world.rotation("log", "log", new.public), [old, new])), at=world.now)
    with pytest.raises(Refused, match="in force is its number 2, and no key file holds it") as refused:
        step(log, at=world.now + world.agreement.timing.tick_ms)
    assert refused.value.code == Code.KEY_RETIRED


def test_a_wrong_key_from_the_beginning_is_unsafe() -> None:
    """SPEC log-30, SPEC log-24."""
    with pytest.raises(Refused) as refused:
        StatementKeys(KeyFiles([signing_key("another")])).key_for(KeyWorld().state)
    assert refused.value.code == Code.UNSAFE_STATE
