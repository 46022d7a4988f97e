"""Foresight: the engine on planned statements, whose exit would collapse it, and what each gate would be told."""

from __future__ import annotations

from itertools import chain, combinations

import pytest
from commitments import MEMBERS, START_MS, TRIGGERS, Play, build_commitment, compiled, pledge_if

from pacekeeper.protocol.commitments.player import Player, Step
from pacekeeper.protocol.commitments.pledges import bound_set, satisfied
from pacekeeper.protocol.commitments.registry import Registry
from pacekeeper.protocol.commitments.simulate import foresee
from pacekeeper.protocol.commitments.transitions import Phase
from pacekeeper.protocol.documents.commitment_members import roll_of
from pacekeeper.protocol.errors import Refused

DAY = 86_400_000


def pledge(day: int, who: str, **demands: object) -> Step:
    return Step(START_MS + day * DAY, "pledge", who, alternatives=pledge_if(**demands) if demands else ())


PLAN = [
    pledge(1, "norland", parties=3),
    pledge(2, "sudland", named={"norland"}),
    pledge(3, "westmere"),
    pledge(3, "nobody"),
    pledge(4, "eastholm", parties=4, labs=1),
    pledge(5, "zephyr"),
]


def test_foresight_is_the_engines_own_state() -> None:
    """SPEC commitments-40."""
    terms = compiled(build_commitment(entry={"parties": 3}))
    foresight = foresee(terms, MEMBERS, "norland", START_MS, PLAN, START_MS + 30 * DAY)
    registry = Registry(MEMBERS)
    player = Player(registry)
    player.put(START_MS, lambda index, now: registry.propose(terms, "norland", index, now))
    for step in PLAN:
        player.play(Step(step.time_ms, step.action, step.who, "pause", step.alternatives))
    player.advance(START_MS + 30 * DAY)
    assert foresight.timeline == registry.timeline("pause")
    assert foresight.phase is Phase.IN_FORCE
    assert foresight.bound == dict(sorted(registry.standing("pause").bound.items()))
    assert [(step.who, refusal.code) for step, refusal in foresight.refused] == [("nobody", "unknown-participant")]


def test_each_gate_is_told_what_changes_and_when() -> None:
    """SPEC commitments-40."""
    terms = compiled(build_commitment(term={"length": "20 d"}))
    plan = [pledge(1, "norland"), pledge(1, "sudland"), pledge(2, "zephyr")]
    gates = foresee(terms, MEMBERS, "norland", START_MS, plan, START_MS + 60 * DAY).gates
    assert [((seen.now_ms - START_MS) // DAY, len(seen.holds)) for seen in gates["borealis"]] == [
        (0, 0),
        (11, 1),
        (31, 0),
    ]
    assert [((seen.now_ms - START_MS) // DAY, len(seen.holds)) for seen in gates["zephyr"]] == [
        (0, 0),
        (12, 1),
        (31, 0),
    ]


def test_the_sets_whose_exit_collapses_it_are_those_that_brute_force_finds() -> None:
    """SPEC commitments-40."""
    terms = compiled(build_commitment(entry={"parties": 2}, more=TRIGGERS))
    plan = PLAN[:3] + PLAN[4:]
    foresight = foresee(terms, MEMBERS, "norland", START_MS, plan, START_MS + 30 * DAY)
    roll = roll_of(terms, MEMBERS)
    pledges = {step.who: step.alternatives for step in plan}
    bound = sorted(bound_set(roll, pledges))
    subsets = [frozenset(each) for each in chain.from_iterable(combinations(bound, n) for n in range(len(bound) + 1))]
    failing = [
        exits
        for exits in subsets
        if not satisfied(terms.entry.rule, roll, bound_set(roll, {w: p for w, p in pledges.items() if w not in exits}))
    ]
    minimal = {exits for exits in failing if not any(other < exits for other in failing)}
    assert set(foresight.collapse.sets) == minimal
    assert foresight.collapse.complete
    assert foresight.phase is Phase.IN_FORCE, "nobody reports, in either family"


def test_a_plan_that_does_not_suffice_says_who_would_not_be_bound() -> None:
    terms = compiled(build_commitment())
    plan = [pledge(1, "norland", parties=3), pledge(1, "sudland")]
    foresight = foresee(terms, MEMBERS, "norland", START_MS, plan, START_MS + 2 * DAY)
    assert (foresight.phase, foresight.bound, foresight.unbound) == (Phase.OPEN, {}, ("norland", "sudland"))
    assert foresight.collapse.sets == (frozenset(),)


def test_a_proposal_that_would_be_refused_is_refused() -> None:
    with pytest.raises(Refused):
        foresee(compiled(build_commitment()), MEMBERS, "nobody", START_MS, [], START_MS + DAY)


def test_a_players_time_does_not_run_back_and_actions_are_known() -> None:
    player = Play(build_commitment()).at("5 d").player
    with pytest.raises(ValueError, match="run back"):
        player.play(Step(START_MS, "pledge", "norland", "pause"))
    with pytest.raises(ValueError, match="no action"):
        player.play_all([Step(player.now_ms, "dance", "norland", "pause")])
