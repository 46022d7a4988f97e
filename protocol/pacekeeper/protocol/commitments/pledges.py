"""Pledges: "I am bound if the set bound satisfies this", and whose exit would let that set collapse.

A pledge is a list of alternatives, each a conjunction of demands: so many parties, so many labs, these by name, such
a share of the weight. A demand asks for more participants and never for fewer, so conditions are monotone. The set
bound is the greatest fixed point: start with every pledger, strike those whose pledge fails, repeat. It is unique, no
order matters, and pledges that wait for each other activate together:

    roll = Roll({"arda": 1, "belan": 1}, {})
    pledges = {"arda": (Condition(parties=2),), "belan": (Condition(named=frozenset({"arda"})),)}
    bound_set(roll, pledges) == {"arda", "belan"}
    collapse_sets(roll, pledges, Condition(parties=1)).sets == ({"arda"}, {"belan"})

Rules: specs/pledges.md. The search for collapse sets is in collapse.py, over bits instead of names.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Final, TypeAlias

from pacekeeper.protocol.commitments.collapse import WORK, minimal_exits
from pacekeeper.protocol.commitments.system import Demand, System, members

_PPM: Final = 1_000_000


@dataclass(frozen=True, slots=True)
class Condition:
    """A conjunction of demands on the set bound: at least so many parties and labs, all of those named, and a share.

    weight_ppm: of the roll's total weight, in millionths. Where every demand is zero or empty, it always holds.
    """

    parties: int = 0
    labs: int = 0
    named: frozenset[str] = frozenset()
    weight_ppm: int = 0

    def __post_init__(self) -> None:
        # SPEC pledges-1: a negative demand would ask for nothing, and hide a mistake.
        if min(self.parties, self.labs, self.weight_ppm) < 0:
            raise ValueError("a condition demands no negative number")


Alternatives: TypeAlias = tuple[Condition, ...]
"""A pledge. SPEC pledges-3: it holds if any alternative does; the empty tuple is unconditional."""


@dataclass(frozen=True, slots=True)
class Roll:
    """Who counts, as it was when the commitment was proposed. parties: id to weight in units; labs: id to its party.

    SPEC pledges-5: who is not on the roll can be bound and named, and MUST NOT count.
    """

    parties: Mapping[str, int]
    labs: Mapping[str, str]

    def __post_init__(self) -> None:
        # SPEC pledges-1: with a negative weight more participants could satisfy less.
        if min(self.parties.values(), default=0) < 0:
            raise ValueError("a weight is not negative")

    @property
    def weight(self) -> int:
        """The weight of all parties together."""
        return sum(self.parties.values())


@dataclass(frozen=True, slots=True)
class Collapse:
    """Whose exit makes a rule fail. sets: minimal by inclusion, ordered by size and then by names.

    complete: there are no others. Otherwise the search was cut, and every minimal set with up to `listed` members is
    there, while of larger ones some may be missing: see collapse_sets.
    """

    sets: tuple[frozenset[str], ...]
    complete: bool
    listed: int = 0


def satisfied(condition: Condition, roll: Roll, bound: Collection[str]) -> bool:
    """Return whether a set of bound participants meets every demand of a condition.

    SPEC pledges-2: a share of the weight MUST be compared in exact integers, and of no weight there is no share.
    """
    members = frozenset(bound)
    parties = members & roll.parties.keys()
    return (
        len(parties) >= condition.parties
        and len(members & roll.labs.keys()) >= condition.labs
        and condition.named <= members
        and sum(roll.parties[party] for party in parties) >= _units(condition.weight_ppm, roll.weight)
    )


def bound_set(roll: Roll, pledges: Mapping[str, Alternatives]) -> frozenset[str]:
    """Return the greatest set of pledgers each of whose pledges holds in it.

    SPEC pledges-4: it MUST be the greatest fixed point. Each alternative fails at most once and is looked at when it
    does, so the time is that of sorting all demands, however long the chain in which one strikes the next.
    """
    fall = _Fall(roll, pledges)
    fall.settle()
    return frozenset(fall.alive)


class _Fall:
    """Strikes pledgers until the others hold. Counts only go down, so each list of demands is walked once."""

    def __init__(self, roll: Roll, pledges: Mapping[str, Alternatives]) -> None:
        self._roll = roll
        self.alive = set(pledges)
        self._parties = len(pledges.keys() & roll.parties.keys())
        self._labs = len(pledges.keys() & roll.labs.keys())
        self._weight = sum(roll.parties.get(name, 0) for name in pledges)
        self._owners: list[str] = []
        self._failed: list[bool] = []
        self._hopes = {name: len(alternatives) for name, alternatives in pledges.items()}
        self._namers: dict[str, list[int]] = {}
        self._struck: list[str] = []
        by_parties: list[tuple[int, int]] = []
        by_labs: list[tuple[int, int]] = []
        by_weight: list[tuple[int, int]] = []
        total = roll.weight
        for owner, alternatives in pledges.items():
            for condition in alternatives:
                number = len(self._owners)
                self._owners.append(owner)
                self._failed.append(False)
                by_parties.append((condition.parties, number))
                by_labs.append((condition.labs, number))
                by_weight.append((_units(condition.weight_ppm, total), number))
                for name in condition.named:
                    self._namers.setdefault(name, []).append(number)
        self._demands = (sorted(by_parties), sorted(by_labs), sorted(by_weight))
        for name in self._namers.keys() - self.alive:
            self._lose(name)

    def settle(self) -> None:
        """Strike until no pledge of those left fails."""
        while True:
            for level, demands in zip((self._parties, self._labs, self._weight), self._demands, strict=True):
                while demands and demands[-1][0] > level:
                    self._fail(demands.pop()[1])
            if not self._struck:
                return
            name = self._struck.pop()
            self.alive.remove(name)
            self._parties -= name in self._roll.parties
            self._labs -= name in self._roll.labs
            self._weight -= self._roll.parties.get(name, 0)
            self._lose(name)

    def _lose(self, name: str) -> None:
        for number in self._namers.get(name, ()):
            self._fail(number)

    def _fail(self, number: int) -> None:
        if self._failed[number]:
            return
        self._failed[number] = True
        owner = self._owners[number]
        self._hopes[owner] -= 1
        if not self._hopes[owner]:
            self._struck.append(owner)


def collapse_sets(
    roll: Roll, pledges: Mapping[str, Alternatives], rule: Condition, limit: int = 1_000, work: int = WORK
) -> Collapse:
    """Return the minimal sets of bound participants whose exit leaves a set bound that fails the rule.

    An exit takes the pledges away, and then the fixed point is taken again. A rule that fails with everyone has
    collapsed already: the empty set. Each set returned is minimal, and if the result is complete there is no other.

    If it is not complete, more than `limit` exist or the search has done its work, in the units of collapse.WORK. Then
    every minimal set that is smaller than the largest one returned is returned too: what is missing is no easier. One
    exception: where the work was done before any was found, a single set is returned that may not be the smallest, or
    with more than 300 participants perhaps none. To find the smallest is as hard as any search; the bound is on work.

    SPEC pledges-6, SPEC pledges-7, SPEC pledges-8: minimal, honest about what is missing, and of no order.
    SPEC pledges-9: whatever the pledges, the work MUST be bounded.
    """
    if limit < 0 or work < 0:
        raise ValueError("a limit is not negative")
    bound = bound_set(roll, pledges)
    if not satisfied(rule, roll, bound):
        return Collapse((frozenset(),), True)
    names = sorted(bound)
    bit = {name: 1 << place for place, name in enumerate(names)}
    total = roll.weight
    parties = sum(bit[name] for name in names if name in roll.parties)
    labs = sum(bit[name] for name in names if name in roll.labs)
    weights = [roll.parties.get(name, 0) for name in names]
    whole = (parties.bit_count(), labs.bit_count(), sum(weights))
    demands = []
    for name in names:
        # What does not hold with everyone never will.
        possible = (_demand(condition, bit, total) for condition in pledges[name] if condition.named <= bound)
        demands.append([demand for demand in possible if all(map(int.__le__, demand[:3], whole))])
    system = System(parties, labs, weights, demands)
    found, listed, complete = minimal_exits(system, _demand(rule, bit, total), limit, work)
    sets = [sorted(names[place] for place in members(mask)) for mask in found]
    ordered = tuple(frozenset(each) for each in sorted(sets, key=lambda each: (len(each), each)))
    return Collapse(ordered, complete, 0 if complete else listed)


def _demand(condition: Condition, bit: Mapping[str, int], total: int) -> Demand:
    named = sum(bit[name] for name in condition.named)
    return Demand(condition.parties, condition.labs, _units(condition.weight_ppm, total), named)


def _units(ppm: int, total: int) -> int:
    """Return the least weight that is such a share of the total; of nothing there is no share."""
    if not total:
        return min(ppm, 1)
    return -(-ppm * total // _PPM)
