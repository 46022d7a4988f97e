"""How commitments stood between two entries, and would ahead of the head, against a log that goes on to say so."""

from __future__ import annotations

from typing import Any

import pytest
from covenant import Covenant

from pacekeeper.protocol import limits
from pacekeeper.protocol.commitments.transitions import Phase
from pacekeeper.protocol.envelope import read_entry
from pacekeeper.protocol.errors import Code, Refused
from pacekeeper.protocol.replay import State, apply, genesis
from pacekeeper.protocol.replay.outlook import stand_at


def replayed(world: Covenant, until_ms: int) -> tuple[State, int | None]:
    """The state after the last entry that is not after a time, and the time of the next."""
    state = genesis(world.entries[0])
    for entry in world.entries[1:]:
        time_ms, _ = read_entry(entry)
        if time_ms > until_ms:
            return state, time_ms
        apply(state, entry)
    return state, None


def looked_at(world: Covenant, time_ms: int) -> State:
    state, next_ms = replayed(world, time_ms)
    stand_at(state, time_ms, next_ms)
    return state


def standings(state: State) -> Any:
    """Everything about the commitments but the count of deadlines, and which entry brought a thing out."""
    described = {ident: standing.describe() for ident, standing in state.commitments.standings().items()}
    for each in described.values():
        del each["due"]
    moments = [(m.time_ms, m.what, m.who, m.phase) for one in state.commitments.standings() for m in
               state.commitments.timeline(one)]  # fmt: skip
    return described, moments


def pledged(at_offset: int = 0, **terms: Any) -> tuple[Covenant, int]:
    """A covenant with two pledges, the second of them its last entry."""
    world = Covenant(**terms)
    at = world.start(1) + 10_000 + at_offset
    world.to(at)
    world.covenant(at)
    return world, at


def test_ahead_of_the_head_what_would_happen_is_what_happens_when_nothing_is_said() -> None:
    """SPEC commitments-75: delay, entry, expiry, each from the pledge on and as the ticking log has it."""
    for offset in (0, 9_999, 10_000, 10_001, 30_000, 45_000, 310_000):
        world, at = pledged(term={"length": "300 s"})
        foreseen = looked_at(world, at + offset)
        assert foreseen.last_time_ms == world.state.last_time_ms
        world.to(at + offset)
        assert standings(foreseen) == standings(world.state), offset
    assert world.phase() is Phase.ENDED


def test_a_pledge_deadline_ahead_is_judged_with_the_clean_periods_that_there_will_be() -> None:
    """SPEC commitments-75: labs are taken to give the accounts that they owe."""
    world = Covenant(entry={"clean_periods": 2})
    at = world.start(1) + 10_000
    world.to(at)
    world.propose(at)
    for who in ("norland", "sudland"):
        world.pledge(who, at)
    assert world.phase() is Phase.OPEN, "one clean period is not two"
    assert looked_at(world, world.start(3) - 1).commitments.standing("halt").phase is Phase.OPEN
    assert looked_at(world, world.start(3)).commitments.standing("halt").phase is Phase.PENDING
    for period in (1, 2):
        world.to(world.end(period))
        world.attest("borealis", period, {"run-1": 0})
    world.to(world.start(3) + 1)
    assert world.phase() is looked_at(world, world.start(3) + 1).commitments.standing("halt").phase


def test_between_two_entries_what_the_later_one_brings_out_counts_from_its_own_time() -> None:
    """SPEC commitments-75: the delay's end lies between two ticks."""
    world, at = pledged()
    world.to(at + 60_000)
    for offset, phase in (
        (0, Phase.PENDING),
        (9_999, Phase.PENDING),
        (10_000, Phase.IN_FORCE),
        (59_999, Phase.IN_FORCE),
    ):
        state = looked_at(world, at + offset)
        assert state.commitments.standing("halt").phase is phase
        twin, _ = pledged()
        twin.to(at + offset)
        assert standings(state) == standings(twin.state)


def test_in_a_silence_nothing_falls_due_since_the_next_entry_moves_it() -> None:
    """SPEC commitments-75, replay-4: the log was away from before the delay's end."""
    world, at = pledged()
    world.tick(at + 200_000)
    assert world.phase() is Phase.PENDING, "moved by the silence's length"
    for offset in (10_000, 150_000):
        assert looked_at(world, at + offset).commitments.standing("halt").phase is Phase.PENDING


def test_a_time_outside_and_a_life_too_long_to_play(monkeypatch: pytest.MonkeyPatch) -> None:
    world, at = pledged()
    state, _ = replayed(world, at)
    with pytest.raises(ValueError, match="between"):
        stand_at(state, at - 1, None)
    with pytest.raises(ValueError, match="between"):
        stand_at(state, at + 5, at + 5)
    monkeypatch.setattr(limits, "MAX_SIMULATED", 1)
    with pytest.raises(Refused) as caught:
        stand_at(state, at + 10**12, None)
    assert caught.value.code is Code.TOO_LARGE
