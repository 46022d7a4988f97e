"""Participants and their conditions as bits: one integer for all who are left, one for all alternatives that failed.

Bit i of a mask is participant i, all of whom are bound at first. Taking the fixed point anew after an exit is then a
few operations on integers a round, whatever the number of participants. The search for collapse sets does little else.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator, Sequence
from typing import Final, NamedTuple

_PASSES: Final = 8  # simplification may stop early: it is never wrong, only less simple


class Demand(NamedTuple):
    """At least so many parties, labs and units of weight, and all of the named ones, as a mask."""

    parties: int
    labs: int
    weight: int
    named: int


class State(NamedTuple):
    """Who is left. lost: alternatives that named somebody who is not. Then what is left of each count."""

    alive: int
    lost: int
    parties: int
    labs: int
    weight: int


class WorkSpentError(Exception):
    """The search has done what it may."""


def members(mask: int) -> Iterator[int]:
    """Yield the places of the bits that are set, in order."""
    while mask:
        low = mask & -mask
        yield low.bit_length() - 1
        mask ^= low


def holds(goal: Demand, state: State) -> bool:
    """Return whether those left meet a demand."""
    return not (
        goal.named & ~state.alive
        or state.parties < goal.parties
        or state.labs < goal.labs
        or state.weight < goal.weight
    )


class System:
    """Participants and their alternatives, compiled: one bit for each alternative, in planes of one bit a participant.

    A participant is struck when its bit is set in every plane. Who has fewer alternatives than there are planes has
    the others set from the start; who has none is never struck.
    """

    def __init__(self, parties: int, labs: int, weights: Sequence[int], demands: Sequence[list[Demand]]) -> None:
        self.parties, self.labs, self.weights, self.demands = parties, labs, weights, demands
        self.size = size = len(weights)
        planes = max(map(len, demands), default=0)
        self.shifts = [size * plane for plane in range(1, planes)]
        self.naming = [0] * size
        self.several = 0
        filler = 0
        levels: tuple[dict[int, int], dict[int, int], dict[int, int]] = ({}, {}, {})
        for place, alternatives in enumerate(demands):
            for plane in range(planes if alternatives else 0):
                bit = 1 << (plane * size + place)
                if plane >= len(alternatives):
                    filler |= bit
                    continue
                if len(alternatives) > 1:
                    self.several |= bit
                demand = alternatives[plane]
                for level, asked in zip(levels, demand[:3], strict=True):
                    level[asked] = level.get(asked, 0) | bit
                for other in members(demand.named):
                    self.naming[other] |= bit
        self._steps = [_falling(level) for level in levels]
        self._named = sum(1 << place for place, naming in enumerate(self.naming) if naming)
        self._heavy = sum(1 << place for place, weight in enumerate(weights) if weight)
        self.start = State((1 << size) - 1, filler, parties.bit_count(), labs.bit_count(), sum(weights))

    def strike(self, state: State, struck: int, budget: list[int]) -> State:
        """Return the greatest fixed point below a state after some more have left it."""
        alive, lost, parties, labs, weight = state
        (party_steps, party_fails), (lab_steps, lab_fails), (weight_steps, weight_fails) = self._steps
        spent = 1
        while True:
            if struck:
                alive ^= struck
                spent += struck.bit_count()
                parties -= (struck & self.parties).bit_count()
                labs -= (struck & self.labs).bit_count()
                for place in members(struck & self._heavy):
                    weight -= self.weights[place]
                for place in members(struck & self._named):
                    lost |= self.naming[place]
            fails = (
                lost
                | party_fails[bisect_right(party_steps, parties)]
                | lab_fails[bisect_right(lab_steps, labs)]
                | weight_fails[bisect_right(weight_steps, weight)]
            )
            struck = alive & fails
            for shift in self.shifts:
                struck &= fails >> shift
            if not struck:
                break
        spend(budget, spent)
        return State(alive, lost, parties, labs, weight)

    def count_fails(self, state: State) -> int:
        """Return the alternatives that fail by the counts of a state, whoever is left."""
        (party_steps, party_fails), (lab_steps, lab_fails), (weight_steps, weight_fails) = self._steps
        return (
            party_fails[bisect_right(party_steps, state.parties)]
            | lab_fails[bisect_right(lab_steps, state.labs)]
            | weight_fails[bisect_right(weight_steps, state.weight)]
        )

    def floors(self, state: State) -> tuple[int, int, int]:
        """Return how far each count of a state can go down before an alternative fails that does not now."""
        found = []
        for (steps, _), now in zip(self._steps, state[2:], strict=True):
            at = bisect_right(steps, now)
            found.append(steps[at - 1] if at else 0)
        return found[0], found[1], found[2]


def spend(budget: list[int], units: int) -> None:
    """Take from what work is left."""
    budget[0] -= units
    if budget[0] < 0:
        raise WorkSpentError


def _falling(level: dict[int, int]) -> tuple[list[int], list[int]]:
    """Return the thresholds, ascending, and for each place among them the alternatives that ask for more."""
    steps = sorted(level)
    fails = [0]
    for step in reversed(steps):
        fails.append(fails[-1] | level[step])
    return steps, fails[::-1]


def simplified(system: System, rule: Demand, essential: int) -> tuple[System, Demand]:
    """Return a system and a rule that fail after the same exits, with fewer conditions and more in the rule.

    essential: those without whom the rule fails. As long as it holds they are bound, and so their conditions hold.
    """
    rule = rule._replace(named=rule.named | essential)
    demands = [list(alternatives) for alternatives in system.demands]
    for _ in range(_PASSES):
        before = rule
        for place, alternatives in enumerate(demands):
            # Nobody waits for themselves, nor, as long as the rule holds, for those whom it needs.
            known = rule.named | 1 << place
            open_ones = sorted({each._replace(named=each.named & ~known) for each in alternatives})
            # What the rule implies cannot fail before the rule does, and after that nobody asks.
            if any(_implies(rule, each._replace(named=0)) for each in open_ones if not each.named):
                open_ones = []
            kept = [one for one in open_ones if not any(one != other and _implies(one, other) for other in open_ones)]
            if len(kept) == 1 and rule.named >> place & 1:
                rule = _both(rule, kept[0])
                kept = []
            demands[place] = kept
        if rule == before:
            break
    return System(system.parties, system.labs, system.weights, demands), rule


def _both(one: Demand, other: Demand) -> Demand:
    return Demand(
        max(one.parties, other.parties),
        max(one.labs, other.labs),
        max(one.weight, other.weight),
        one.named | other.named,
    )


def _implies(demand: Demand, other: Demand) -> bool:
    return all(map(int.__ge__, demand[:3], other[:3])) and not other.named & ~demand.named
