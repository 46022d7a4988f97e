"""Cost: each event touches its own commitment only, and a lab's constraints cost what binds it. Counted, not timed."""

from __future__ import annotations

import sys
from collections.abc import Callable

from commitments import START_MS, build_commitment

from pacekeeper.protocol.commitments.player import Player, Step
from pacekeeper.protocol.commitments.registry import Registry
from pacekeeper.protocol.documents.commitment import compile_commitment
from pacekeeper.protocol.documents.commitment_model import Commitment, Members

DAY = 86_400_000
PARTIES = [f"p{number}" for number in range(20)]
MEMBERS = Members(frozenset(PARTIES), {f"l{number}": PARTIES[number % 20] for number in range(40)})


def calls(act: Callable[[], object]) -> int:
    """How many Python and C functions are called by an act."""
    count = 0

    def profile(*_: object) -> None:
        nonlocal count
        count += 1

    sys.setprofile(profile)
    try:
        act()
    finally:
        sys.setprofile(None)
    return count


def terms_of(number: int) -> list[Commitment]:
    return [
        compile_commitment(build_commitment(ident=f"c{each}", entry={"parties": 5}), MEMBERS) for each in range(number)
    ]


def pledged(terms: list[Commitment]) -> Player:
    """Ten pledges to each commitment, five of which suffice; all in force on day 15, and over on day 400."""
    player = Player(Registry(MEMBERS))
    registry = player.registry
    for each in terms:
        player.put(START_MS, lambda index, now, each=each: registry.propose(each, "p0", index, now))  # type: ignore[misc]
    for order, each in enumerate(terms):
        for step in range(10):
            player.play(Step(START_MS + DAY, "pledge", PARTIES[(order + step) % 20], each.id))
    player.advance(START_MS + 15 * DAY)
    player.advance(START_MS + 400 * DAY)
    return player


def test_cost_grows_with_the_statements_and_not_faster() -> None:
    few, many = terms_of(40), terms_of(160)
    assert calls(lambda: pledged(many)) < 1.1 * 4 * calls(lambda: pledged(few))


def test_a_labs_constraints_cost_what_binds_it_now() -> None:
    few, many = pledged(terms_of(40)).registry, pledged(terms_of(160)).registry
    now_ms = START_MS + 401 * DAY
    assert calls(lambda: many.constraints_on("l0", now_ms)) == calls(lambda: few.constraints_on("l0", now_ms))
    assert calls(lambda: many.boundaries("l0", now_ms, now_ms + DAY)) < 30
