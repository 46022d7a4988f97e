"""Vectors for other replays: short logs, what each entry did, and the facts and state that they end in.

PACEKEEPER_WRITE_VECTORS=1 writes the files anew; without it they must be as the code says.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from typing import Any

import pytest
from agreements import signing_key
from covenant import Covenant
from key_world import KeyWorld
from membership_world import acts
from vectors import VECTORS, check_json
from world import World, digest

from pacekeeper.protocol.envelope import encode_entry
from pacekeeper.protocol.replay import Applied, apply, genesis
from pacekeeper.protocol.statements import seal
from pacekeeper.v1 import statements_pb2 as pb

SLOW = {"period": "100 s", "due": "200 s", "tick": "100 s", "fill_in": "500 s", "parties": 1, "quorum": 1}


def refusals() -> World:
    """Entries that a log must not let in: each is void with its code, and the log goes on."""
    world = World(**SLOW)
    lab = world.keys.lab("borealis")
    start = world.start(0)
    world.declare("borealis", "run-1", at=start)
    world.declare("borealis", "run-1", at=start)
    world.put(world.seal(world.declaration("borealis", "run-2"), world.keys.lab("meridian")), start)
    world.put(world.seal(world.declaration("borealis", "run-2", parents=[1]), lab), start)
    forged = world.seal(world.declaration("borealis", "run-2"), lab)
    forged.signatures[0].signature = bytes(64)
    world.put(forged, start)
    elsewhere = world.declaration("borealis", "run-2")
    elsewhere.agreement = digest("another agreement")
    world.put(world.seal(elsewhere, lab), start)
    world.put_entry(b"")
    world.put_entry(b"\x08\x01\x08\x02")
    padded = world.seal(world.declaration("borealis", "run-2"), lab)
    padded.payload += b"\x40\x00"
    world.put(padded, start)
    world.attest("borealis", 0, {}, at=start)
    world.tick(world.end(0))
    world.put_entry(encode_entry(start, world.sealed_tick()))
    world.put(world.sealed_tick(3), world.end(0))
    world.attest("borealis", 1, {}, at=world.end(0))
    world.attest("borealis", 0, {"run-9": 5}, at=world.end(0))
    world.attest("borealis", 0, {"run-1": 5}, at=world.end(0), margin_ppm=50_001)
    world.attest("borealis", 0, {"run-1": 5}, at=world.end(0), margin_ppm=50_000)
    world.attest("borealis", 0, {"run-1": 5}, at=world.end(0))
    return world


def deadlines() -> World:
    """A missing period, a gap that excuses nothing, a late account, and a silence that moves what falls due in it."""
    world = World(**SLOW)
    world.to(world.end(0))
    world.attest("borealis", 0, {})
    world.to(world.end(1))
    world.gap("borealis", 1, 1, at=world.end(1))
    world.to(world.due(1))
    world.attest("borealis", 1, {}, at=world.due(1))
    world.tick(world.due(1) + 1_000)
    away = world.state.last_time_ms
    world.tick(away + 350_000)
    for period in range(2, 6):
        world.attest("borealis", period, {}, at=away + 350_000)
    world.to(world.due(4) + 350_000)
    return world


def caps() -> World:
    """A sliding window that is exceeded across the calendar's seam; an undecided one left alone, and one narrowed."""
    world = World(**SLOW, caps=[{"id": "lab", "kind": "lab", "limit": "1e12 FLOP", "window": "2 periods"}])
    world.declare("borealis", "run-1", at=world.start(0))
    world.declare("meridian", "run-1", at=world.start(0))
    for period, amount in enumerate([0, 600, 401, 0]):
        world.to(world.end(period))
        world.attest("borealis", period, {"run-1": amount})
        world.attest("meridian", period, {"run-1": 1000 if period == 0 else 0}, margin_ppm=50_000)
    old = world.state.labs["meridian"].accounts[0].id
    world.correct("meridian", 0, {"run-1": 1000}, old, at=world.end(3))
    world.attest("borealis", 4, {"run-1": 1000}, at=world.end(4) - 10_000, margin_ppm=50_000)
    for period in range(5, 9):
        world.to(world.end(period))
        for lab in ("borealis", "meridian"):
            if period > 5 or lab == "borealis":
                world.attest(lab, world.state.labs[lab].next_period, {}, at=world.end(period))
    world.to(world.due(7))
    return world


def lineage() -> World:
    """One training as three runs, linked by digest; a merge; a record that links back; another lab's useless claim."""
    world = World(**SLOW, caps=[{"id": "run", "kind": "run", "limit": "1e12 FLOP"}])
    world.declare("borealis", "part-1", at=world.start(0))
    world.record("borealis", "part-1", "one", 0, 1, 450, at=world.start(0))
    world.declare("borealis", "part-2", at=world.start(0), initial="one")
    world.declare("borealis", "part-3", at=world.start(0), initial="two")
    world.declare("meridian", "claim", at=world.start(0))
    world.record("meridian", "claim", "two", 0, 1, 10**6, at=world.start(0))
    world.to(world.end(0))
    world.attest("borealis", 0, {"part-1": 450, "part-2": 400, "part-3": 200})
    world.record("borealis", "part-2", "two", 1, 1, 400, at=world.end(0))
    records = sorted(world.state.lineage.records)
    world.declare("borealis", "soup", at=world.end(0), parents=[records[0], records[2]])
    world.record("borealis", "part-1", "low", 1, 2, 449, at=world.end(0))
    world.record("borealis", "part-1", "fair", 1, 2, 455, at=world.end(0))
    world.to(world.end(1))
    world.attest("borealis", 1, {"soup": 150})
    old = world.state.labs["borealis"].accounts[0].id
    world.correct("borealis", 0, {"part-1": 460, "part-2": 400, "part-3": 200}, old, at=world.end(1))
    return world


def commitments() -> World:
    """A conditional pause: in force with the last pledge, trained through, lifted; and what is refused beside it."""
    world = Covenant()
    at = world.start(1)
    world.propose(at)
    world.propose(at)
    world.pledge("norland", at, alternatives=[pb.Condition(parties=2)])
    world.pledge("westmere", at, digest=bytes(32))
    world.pledge("sudland", at + 1_000)
    world.pledge("sudland", at + 1_000)
    world.to(world.end(1))
    world.split(1, 0, 2, splits=(11_000, 31_000), at=world.end(1), amount=70)
    world.to(world.end(2))
    world.attest("borealis", 2, {"run-1": 30})
    world.leave("sudland", world.end(2))
    world.lift("norland", world.end(2))
    world.lift("sudland", world.end(2) + 5_000)
    world.to(world.end(3))
    world.attest("borealis", 3, {"run-1": 30})
    return world


def growth_limits() -> World:
    """Growth: a window too much, its debt worked off in the next, a late account, and an interval left undecided."""
    terms = {"window": "2 periods", "baseline": "2 periods", "growth": "10 %", "floor": "1e11 FLOP", "debt": "100 %"}
    world = Covenant({"fill_in": "250 s"}, measure={"growth": {**terms, "banking": "10 %"}})
    world.covenant(world.start(1))
    for period, amount in ((1, 0), (2, 600), (3, 100), (4, 300)):
        world.to(world.end(period))
        world.attest("borealis", period, {"run-1": amount})
    world.to(world.end(5))
    world.gap("borealis", 5, 5, at=world.end(5))
    world.to(world.end(6))
    world.attest("borealis", 6, {"run-1": 700})
    world.attest("borealis", 5, {"run-1": 386}, at=world.end(6))
    world.to(world.end(7))
    world.attest("borealis", 7, {"run-1": 55}, margin_ppm=50_000)
    for period in (8, 9):
        world.to(world.end(period))
        world.attest("borealis", period, {})
    world.to(world.agreement.fill_in_ms(7) + 1)
    return world


def commitment_caps() -> World:
    """Caps by commitment: what was before is not held against anybody, what comes after the end neither."""
    caps = [
        {"id": "lab", "kind": "lab", "limit": "1e11 FLOP", "window": "2 periods"},
        {"id": "together", "kind": "party", "limit": "1.2e11 FLOP", "window": "1 period"},
        {"id": "run", "kind": "run", "limit": "1.1e12 FLOP"},
    ]
    own = [{"id": "lab", "kind": "lab", "limit": "1e12 FLOP", "window": "2 periods"}]
    world = Covenant({"caps": own}, measure={"cap": caps})
    world.covenant(world.start(1))
    for period, amount in enumerate((300, 60, 41, 0, 130, 0, 0), start=1):
        world.to(world.end(period))
        world.attest("borealis", period, {"run-1": amount})
    world.to(world.end(8))
    world.attest("borealis", 8, {"run-1": 100}, margin_ppm=50_000)
    world.to(world.end(9))
    for who in ("norland", "sudland"):
        world.lift(who, world.end(9))
    world.attest("borealis", 9, {"run-1": 0})
    world.to(world.end(10))
    world.attest("borealis", 10, {"run-1": 500})
    world.to(world.due(9) + 1)
    return world


def keys() -> World:
    """A lab rotates its key, with and without proof of the new one; another's is replaced, and its thief is late."""
    world = KeyWorld()
    old, new = world.key("lab", "borealis"), world.next_key("lab", "borealis")
    rotation = world.rotation("lab", "borealis", new.public)
    world.put(seal(rotation, [old]), world.now)
    world.put(seal(world.rotation("lab", "borealis", new.public, 3), [old, new]), world.now)
    neighbours = world.key("lab", "meridian")
    world.put(seal(world.rotation("lab", "borealis", neighbours.public), [old, neighbours]), world.now)
    world.rotate("lab", "borealis")
    world.put(world.seal(world.declaration("borealis", "run-2"), old), world.now)
    world.say(world.declaration("borealis", "run-2"), "lab", "borealis")
    stolen = world.key("lab", "meridian")
    document = world.replacement(("lab", "meridian", 2))
    world.propose(document, "sudland")
    world.rotate("lab", "meridian")
    for who in ("norland", "westmere", "eastholm"):
        world.pledge(document, who)
    world.done(("lab", "meridian", 2))
    world.put(world.seal(world.declaration("meridian", "run-2"), stolen), world.now)
    world.say(world.declaration("meridian", "run-2"), "lab", "meridian")
    world.decide(("lab", "borealis", 3), by=("norland", "westmere", "eastholm"), ident="overtaken")
    world.decide(
        ("lab", "borealis", 3),
        by=("norland", "westmere", "eastholm"),
        ident="first",
        delay="5 s",
        keys=[signing_key("another").public],
    )
    world.tick(world.now + 10_000)
    return world


STORIES: dict[str, Callable[[], World]] = {
    "refusals": refusals,
    "deadlines": deadlines,
    "caps": caps,
    "lineage": lineage,
    "commitments": commitments,
    "acts": acts,
    "growth": growth_limits,
    "commitment-caps": commitment_caps,
    "keys": keys,
}
# What each story is there to show; the files have the rest.
SHOWN = {
    "refusals": {"run-exists", "wrong-role", "unknown-parent", "bad-signature", "wrong-agreement", "missing-signature"}
    | {"not-canonical", "time-runs-back", "bad-tick", "period-not-over", "period-skipped", "unknown-run"}
    | {"margin-too-wide", "period-taken"},
    "deadlines": {"period-missing"},
    "caps": {"lab-cap-exceeded", "cap-unresolved"},
    "lineage": {"run-cap-exceeded", "checkpoint-regresses", "checkpoint-understated"},
    "acts": {"unknown-signer", "unknown-participant", "not-owed", "margin-too-wide", "bad-commitment", "period-missing"}
    | {"lab-cap-exceeded"},
    "commitments": {"pause-breached", "commitment-exists", "bad-commitment", "pledge-exists"},
    "growth": {"growth-exceeded", "growth-unresolved"},
    "commitment-caps": {"lab-cap-exceeded", "party-cap-exceeded", "run-cap-exceeded", "cap-unresolved"},
    "keys": {"missing-signature", "bad-epoch", "key-used", "key-retired", "replacement-pending"},
}


def replayed(name: str) -> dict[str, Any]:
    world = STORIES[name]()
    state = genesis(world.entries[0])
    outcomes: list[dict[str, Any]] = [{"id": "", "statement": "Agreement"}]
    for entry in world.entries[1:]:
        outcome = apply(state, entry)
        if isinstance(outcome, Applied):
            outcomes.append({"id": outcome.id, "statement": type(outcome.statement).DESCRIPTOR.name})
        else:
            outcomes.append({"void": outcome.code})
    del outcomes[0]["id"]
    return {
        "why": " ".join((STORIES[name].__doc__ or "").split()),
        "entries": world.entries,
        "outcomes": outcomes,
        "violations": [dataclasses.asdict(violation) for violation in state.violations],
        "state": state.describe(),
        "digest": state.digest(),
    }


@pytest.mark.parametrize("name", sorted(STORIES))
def test_replay_vectors_are_as_the_code_says(name: str) -> None:
    """SPEC replay-12."""
    story = replayed(name)
    shown = {outcome["void"] for outcome in story["outcomes"] if "void" in outcome}
    shown |= {violation["kind"] for violation in story["violations"]}
    assert SHOWN[name] <= shown, "the story tells what it is there for"
    check_json(VECTORS / "replay" / f"{name}.json", story)


@pytest.mark.parametrize("name", sorted(STORIES))
def test_a_vector_file_alone_replays_to_its_digest(name: str) -> None:
    """SPEC replay-12: from nothing but the bytes in the file, as another implementation would."""
    story = json.loads((VECTORS / "replay" / f"{name}.json").read_text())
    first, *rest = (bytes.fromhex(entry) for entry in story["entries"])
    state = genesis(first)
    for entry, outcome in zip(rest, story["outcomes"][1:], strict=True):
        found = apply(state, entry)
        expected = outcome.get("void") or outcome["id"]
        assert (found.id.hex() if isinstance(found, Applied) else found.code) == expected
    assert state.digest().hex() == story["digest"]
    assert pb.Agreement.DESCRIPTOR.name == story["outcomes"][0]["statement"]
