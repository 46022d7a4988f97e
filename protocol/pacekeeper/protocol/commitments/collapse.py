"""The search for collapse sets: which smallest exits make a rule fail.

It goes by size, so what it finds first is smallest, and it makes the question smaller before it asks it:

1. Whoever's exit alone ends the rule is *essential*. In any state in which the rule holds they are bound, so their own
   single conditions are demands of the rule too, and an alternative that these demands imply cannot fail earlier.
2. The rule fails where one of its demands does: each demand is a goal of its own, about those on whom it depends.
3. Participants that could change places without anyone noticing are a class: only how many of them leave matters, and
   "any 46 of these 100" is found once and then spelt out.
4. For each size, a depth-first search over classes. A branch is left when even an over-estimate of what its remaining
   exits can strike keeps the goal; at the last exit only those are tried who could do more than they do by themselves,
   whole groups at once, halved only if one breaks it.

The over-estimate: r exits strike at most what the r worst would strike alone, and besides whoever then misses a count,
and whoever has several alternatives of which each misses one or could be hit. For counts, weights and pledges that name
within one alternative it is close; with many names in many alternatives it is not, and there the work runs out first.

SPEC pledges-9: work MUST be bounded; it is counted, and the search stops where it is.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterator
from itertools import combinations
from typing import Final

from pacekeeper.protocol.commitments.collapse_search import Search
from pacekeeper.protocol.commitments.system import (
    Demand,
    State,
    System,
    WorkSpentError,
    holds,
    members,
    simplified,
    spend,
)

# A unit: taking one fixed point, striking one participant in it, or comparing one set with sixteen others.
WORK: Final = 29_000  # some 10 to 40 ms with 200 participants
SOME_WORK: Final = 200_000  # with 300 participants each of whom drags all others along, one set is still found


def minimal_exits(system: System, rule: Demand, limit: int, work: int) -> tuple[list[int], int, bool]:
    """Return minimal sets of exits after which a rule that holds now fails; up to which size none is missing; and
    whether none is missing at all."""
    if not any(rule):
        return [], system.size, True  # it demands nothing
    found: list[int] = []
    listed = [0]
    try:
        for exits in _all(system, rule, [work], listed):
            found.append(exits)
            if len(found) > limit:
                return found[:limit], listed[0], False
    except WorkSpentError:
        return found or _some(system, rule)[:limit], listed[0], False
    return found, system.size, True


def _all(system: System, rule: Demand, budget: list[int], listed: list[int]) -> Iterator[int]:
    """Yield every minimal set, by size. listed[0] is the size up to which all have been yielded."""
    system, rule = simplified(system, rule, 0)
    essential = 0
    for exits in _alone(system, rule, budget):
        essential |= exits
        yield exits
    listed[0] = 1
    system, rule = simplified(system, rule, essential)
    alone: dict[int, State] = {}
    searches = [Search(system, goal, essential, alone, budget) for goal in _goals(system, rule)]
    smaller: list[int] = []
    size = 2
    while searches := [search for search in searches if search.deeper]:
        fresh: set[int] = set()
        for search in searches:
            for one in search.level(size):
                for exits in _spread(one, search.classes):
                    spend(budget, 1 + len(smaller) // 16)
                    # Minimal for one demand is not yet minimal for all of them.
                    if exits not in fresh and not any(exits & each == each for each in smaller):
                        fresh.add(exits)
                        yield exits
        smaller += sorted(fresh)
        listed[0] = size
        size += 1


def _alone(system: System, rule: Demand, budget: list[int]) -> Iterator[int]:
    """Yield each participant whose exit alone ends the rule."""
    harmless = 0
    for place in range(system.size):
        if harmless >> place & 1:
            continue
        after = system.strike(system.start, 1 << place, budget)
        if holds(rule, after):
            harmless |= system.start.alive & ~after.alive  # whom it struck strikes no more than it does
        else:
            yield 1 << place


def _goals(system: System, rule: Demand) -> Iterator[Demand]:
    """Yield the demands of a rule one by one: it fails where one of them does."""
    nothing = Demand(0, 0, 0, 0)
    needed = rule.named  # those whose staying meets a count already: then it adds nothing to their own demands
    if (needed & system.parties).bit_count() < rule.parties:
        yield nothing._replace(parties=rule.parties)
    if (needed & system.labs).bit_count() < rule.labs:
        yield nothing._replace(labs=rule.labs)
    if sum(system.weights[place] for place in members(needed)) < rule.weight:
        yield nothing._replace(weight=rule.weight)
    for place in members(needed):
        if system.demands[place]:
            yield nothing._replace(named=1 << place)


def _spread(exits: int, classes: dict[int, int]) -> Iterator[int]:
    """Yield the sets with as many of each class as this one has, this one first."""
    counts: dict[int, int] = {}
    for place in members(exits):
        counts[classes[place]] = counts.get(classes[place], 0) + 1
    groups = [([1 << place for place in members(mask)], count) for mask, count in counts.items()]
    open_ones = [(bits, count) for bits, count in groups if count < len(bits)]
    heads = [sum(sum(bits) for bits, count in groups if count == len(bits))]
    if not open_ones:
        yield heads[0]
        return
    choices = [combinations(*open_ones[0])]
    while choices:
        chosen = next(choices[-1], None)
        if chosen is None:
            heads.pop()
            choices.pop()
        elif len(choices) == len(open_ones):
            yield heads[-1] | sum(chosen)
        else:
            heads.append(heads[-1] | sum(chosen))
            choices.append(combinations(*open_ones[len(choices)]))


def _some(system: System, rule: Demand) -> list[int]:
    """Return one minimal set, or none if that is too much work too: the shortest row that ends it, then thinned out."""
    budget = [SOME_WORK]

    def ends(exits: int) -> bool:
        return not holds(rule, system.strike(system.start, exits, budget))

    def nearness(place: int) -> tuple[int, int, int]:
        after = system.strike(system.start, 1 << place, budget)
        left = (after.parties, after.labs, after.weight)
        shares = [(has - asked) * 1_000_000 // asked for has, asked in zip(left, rule[:3], strict=True) if asked]
        return min(shares, default=0), after.alive.bit_count(), place

    try:
        row = sorted(range(system.size), key=nearness)
        length = bisect_left(range(system.size), True, key=lambda count: ends(sum(1 << place for place in row[:count])))
        exits = sum(1 << place for place in row[:length])
        for place in reversed(row[:length]):
            if ends(exits & ~(1 << place)):
                exits &= ~(1 << place)
    except WorkSpentError:
        return []
    return [exits]
