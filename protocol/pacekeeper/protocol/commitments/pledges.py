"""Conditional pledges: who is bound, when everyone may say "I am bound if enough others are".

Conditions are monotone: a larger set bound never makes one false. So there is a greatest set of pledgers whose
conditions all hold of that set itself, whatever the order in which they pledged; it is found by striking, again and
again, whoever's condition fails. Participants that are not on the roll can be bound, and do not count.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from itertools import combinations
from typing import Final, TypeAlias

_PPM: Final = 1_000_000
_WORK: Final = 20_000  # sets that are tried for a collapse


@dataclass(frozen=True, slots=True)
class Condition:
    """A conjunction of demands on the set bound: at least so many parties, so many labs that pledged themselves, all
    those named, and a share of the parties' weight in parts per million. All zero and empty is always true."""

    parties: int = 0
    labs: int = 0
    named: frozenset[str] = frozenset()
    weight_ppm: int = 0


Alternatives: TypeAlias = tuple[Condition, ...]
"""A pledge: bound if any of them holds. The empty tuple is unconditional."""


@dataclass(frozen=True, slots=True)
class Roll:
    """Who counts, frozen when the commitment is proposed: party -> weight in whole units, lab -> its party."""

    parties: Mapping[str, int]
    labs: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Collapse:
    """Whose exit makes a rule fail: minimal sets, by size and then by names; complete if there are no others."""

    sets: tuple[frozenset[str], ...]
    complete: bool


def satisfied(condition: Condition, roll: Roll, bound: Collection[str]) -> bool:
    """Whether a set bound (parties and labs by id) meets a condition."""
    members = frozenset(bound)
    parties = members & roll.parties.keys()
    total = sum(roll.parties.values())
    return (
        len(parties) >= condition.parties
        and len(members & roll.labs.keys()) >= condition.labs
        and condition.named <= members
        and (total > 0 or condition.weight_ppm == 0)
        and sum(roll.parties[party] for party in parties) * _PPM >= condition.weight_ppm * total
    )


def bound_set(roll: Roll, pledges: Mapping[str, Alternatives]) -> frozenset[str]:
    """Return the greatest set of pledgers each of whose pledges holds of that set."""
    bound = frozenset(pledges)
    while True:
        kept = frozenset(
            pledger
            for pledger in bound
            if not pledges[pledger] or any(satisfied(condition, roll, bound) for condition in pledges[pledger])
        )
        if kept == bound:
            return bound
        bound = kept


def collapse_sets(roll: Roll, pledges: Mapping[str, Alternatives], rule: Condition, limit: int = 1_000) -> Collapse:
    """Return the minimal sets of bound participants whose exit leaves a set bound that fails the rule."""
    bound = sorted(bound_set(roll, pledges))
    found: list[frozenset[str]] = []
    work = 0
    for size in range(len(bound) + 1):
        for leaving in combinations(bound, size):
            work += 1
            if work > _WORK or len(found) >= limit:
                return Collapse(tuple(found), False)
            exits = frozenset(leaving)
            if any(known <= exits for known in found):
                continue
            left = {who: pledge for who, pledge in pledges.items() if who not in exits}
            if not satisfied(rule, roll, bound_set(roll, left)):
                found.append(exits)
    return Collapse(tuple(found), True)
