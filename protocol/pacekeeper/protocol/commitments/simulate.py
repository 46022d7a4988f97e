"""Foresight: what a commitment would do, before anybody signs it. The engine's own code, on planned statements.

foresight = foresee(terms, members, proposer, proposed_ms, steps, until_ms)
foresight.bound, foresight.timeline, foresight.collapse, foresight.gates["borealis"]
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final

from pacekeeper.protocol.commitments.constraints import Constraints
from pacekeeper.protocol.commitments.player import Player, Step
from pacekeeper.protocol.commitments.pledges import Alternatives, Collapse, collapse_sets
from pacekeeper.protocol.commitments.registry import Registry
from pacekeeper.protocol.commitments.standing import Moment, Standing
from pacekeeper.protocol.commitments.transitions import Phase
from pacekeeper.protocol.documents.commitment_model import Commitment, Members
from pacekeeper.protocol.errors import Refused

MAX_COLLAPSE_SETS: Final = 1_000
MAX_CHANGES: Final = 10_000  # of one lab's constraints, in one simulation


@dataclass(frozen=True, slots=True)
class Foresight:
    """What would happen. bound: participant -> from when, at the end. refused: (step, why). collapse: the minimal sets
    of the bound whose exit would make the entry rule fail, by the pledges as they stand at the end, or with which it
    was in force last. gates: lab -> what it may do from each time at which that changes. standing: at the end."""

    timeline: tuple[Moment, ...]
    refused: tuple[tuple[Step, Refused], ...]
    phase: Phase
    bound: Mapping[str, int]
    unbound: tuple[str, ...]
    collapse: Collapse
    gates: Mapping[str, tuple[Constraints, ...]]
    standing: Standing


def foresee(
    terms: Commitment, members: Members, proposer: str, proposed_ms: int, steps: Sequence[Step], until_ms: int
) -> Foresight:
    """Propose a commitment, play the planned steps and let time run to until_ms. Raises Refused for the proposal.

    SPEC commitments-40: foresight MUST be the engine's own state after the planned statements.
    """
    registry = Registry(members)
    player = Player(registry)
    refusal = player.put(proposed_ms, lambda index, time_ms: registry.propose(terms, proposer, index, time_ms))
    if refusal is not None:
        raise refusal
    standing = registry.standing(terms.id)
    gates = {lab: [registry.constraints_on(lab, proposed_ms)] for lab in sorted(members.labs)}
    pledges: dict[str, Alternatives] = {}
    refused = []
    ordered = sorted(steps, key=lambda step: step.time_ms)
    for step in [*ordered, None]:
        target_ms = until_ms if step is None else min(step.time_ms, until_ms)
        _watch(player, gates, target_ms)
        if step is not None and step.time_ms <= until_ms:
            refusal = player.play(replace(step, commitment=step.commitment or terms.id))
            if refusal is not None:
                refused.append((step, refusal))
            _look(player, gates, step.time_ms)
        if not standing.over:
            pledges = dict(standing.pledges)
    bound = {} if standing.over else dict(sorted(standing.bound.items()))
    return Foresight(
        timeline=registry.timeline(terms.id),
        refused=tuple(refused),
        phase=standing.phase,
        bound=bound,
        unbound=tuple(sorted(standing.pledges.keys() - standing.bound.keys())),
        collapse=collapse_sets(standing.roll, pledges, terms.entry.rule, MAX_COLLAPSE_SETS),
        gates={lab: tuple(seen) for lab, seen in gates.items()},
        standing=standing,
    )


def _watch(player: Player, gates: dict[str, list[Constraints]], until_ms: int) -> None:
    """Let time run, and look at every lab's constraints whenever something planned changes them or falls due."""
    while player.now_ms < until_ms:
        moments = [seen[-1].next_change_ms for seen in gates.values()]
        moments.append(player.next_deadline_ms())
        target_ms = min(
            [time_ms for time_ms in moments if time_ms is not None and time_ms > player.now_ms], default=until_ms
        )
        player.advance(min(target_ms, until_ms))
        _look(player, gates, player.now_ms)


def _look(player: Player, gates: dict[str, list[Constraints]], now_ms: int) -> None:
    for lab, seen in gates.items():
        now = player.registry.constraints_on(lab, now_ms)
        last = seen[-1]
        if replace(now, now_ms=0, next_change_ms=None) != replace(last, now_ms=0, next_change_ms=None):
            if len(seen) < MAX_CHANGES:
                seen.append(now)
        else:
            seen[-1] = replace(now, now_ms=last.now_ms)
