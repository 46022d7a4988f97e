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
from heapq import nlargest
from itertools import combinations, groupby
from typing import Final

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
WORK: Final = 33_000  # some 15 to 40 ms with 200 participants
SOME_WORK: Final = 200_000  # with 300 participants each of whom drags all others along, one set is still found


class Search:
    """The exits after which one demand fails, size by size.

    essential: left out, being known. alone: what each exit does by itself, shared by searches. deeper: there may be
    larger ones.
    """

    def __init__(
        self, system: System, goal: Demand, essential: int, alone: dict[int, State], budget: list[int]
    ) -> None:
        self._system, self._goal, self._budget = system, goal, budget
        self.deeper = True
        self._known: list[int] = []
        relevant, counted = self._relevant()
        self._alone: dict[int, State] = {}
        for place in members(relevant & ~essential):
            if place not in alone:
                alone[place] = system.strike(system.start, 1 << place, budget)
            self._alone[place] = alone[place]
        spend(budget, 3 * len(self._alone))
        self._order, self._next, self.classes = self._classes(relevant, counted)
        self._worst: dict[tuple[int, int], tuple[int, int, int]] = {}
        # What could be hit among several alternatives, and who is left to go, from each place of the order on.
        self._hit, self._rest = [0], [0]
        for place in reversed(self._order):
            self._hit.append(self._hit[-1] | self._alone[place].lost & system.several)
            self._rest.append(self._rest[-1] | 1 << place)
        self._hit.reverse()
        self._rest.reverse()
        self._hitting = self._hitters()
        # The first of each class from each place of the order on; and whose exit alone leaves less of each count.
        self._firsts = [0]
        for at in reversed(range(len(self._order))):
            self._firsts.append(1 << self._order[at] | self._firsts[len(self._order) - self._next[at]])
        self._firsts.reverse()
        self._leaving = [self._by_what_is_left(measure) for measure in (2, 3, 4)]

    def _hitters(self) -> dict[int, int]:
        """Return who by itself makes each alternative fail of those who have several, as a mask for its bit."""
        hitting: dict[int, int] = {}
        hits = 0
        once = self._system.several & ~self._system.start.lost
        for place, state in self._alone.items():
            lost = state.lost & once
            hits += lost.bit_count()
            for bit in members(lost):
                hitting[bit] = hitting.get(bit, 0) | 1 << place
        spend(self._budget, hits // 2)
        return hitting

    def _by_what_is_left(self, measure: int) -> tuple[list[int], list[int]]:
        """Return how much of a count each exit leaves by itself, ascending, and masks of those before each place."""
        ordered = sorted((state[measure], place) for place, state in self._alone.items())
        masks = [0]
        for _, place in ordered:
            masks.append(masks[-1] | 1 << place)
        return [left for left, _ in ordered], masks

    def _relevant(self) -> tuple[int, tuple[bool, bool, bool]]:
        """Return whom the goal depends on, over any number of conditions, and which counts."""
        system = self._system
        weighty = sum(1 << place for place, weight in enumerate(system.weights) if weight)
        masks = (system.parties, system.labs, weighty)
        counted, mask, done = [False] * 3, self._goal.named, 0
        fresh: list[Demand] = [self._goal]
        while fresh:
            for demand in fresh:
                mask |= demand.named
                for measure in range(3):
                    if demand[measure] and not counted[measure]:
                        counted[measure] = True
                        mask |= masks[measure]
            fresh = [demand for place in members(mask & ~done) for demand in system.demands[place]]
            done = mask
        return mask, (counted[0], counted[1], counted[2])

    def _classes(self, relevant: int, counted: tuple[bool, bool, bool]) -> tuple[list[int], list[int], dict[int, int]]:
        """Return the candidates, the worst first, where the next class begins for each, and each one's class as a mask.

        Two are of one class if they drag each other along, or if nothing that matters tells them apart.
        """
        system = self._system
        owners = sum(relevant << plane * system.size for plane in range(1 + len(system.shifts)))
        dragging: dict[int, int] = {}
        for state in self._alone.values():
            dragging[state.alive] = dragging.get(state.alive, 0) + 1
        groups: dict[object, int] = {}
        for place, state in self._alone.items():
            key: object = state.alive
            if dragging[state.alive] == 1:
                roles = (system.parties >> place & 1, system.labs >> place & 1, system.weights[place])
                shown = tuple(role if use else 0 for role, use in zip(roles, counted, strict=True))
                key = (shown, tuple(system.demands[place]), system.naming[place] & owners)
            groups[key] = groups.get(key, 0) | 1 << place
        classes = {place: mask for mask in groups.values() for place in members(mask)}

        def rank(place: int) -> tuple[int, int, int, int]:
            lead = (classes[place] & -classes[place]).bit_length()
            struck = tuple(
                getattr(system.start, n) - getattr(self._alone[place], n) for n in ("parties", "labs", "weight")
            )
            main = sum(loss for loss, asked in zip(struck, self._goal[:3], strict=True) if asked)
            return -main, (self._alone[place].alive & relevant).bit_count(), lead, place

        order = sorted(self._alone, key=rank)
        following, at = [], 0
        for _, group in groupby(order, key=classes.__getitem__):
            at += (count := len(list(group)))
            following += [at] * count
        return order, following, classes

    def level(self, size: int) -> Iterator[int]:
        """Yield the sets of this size, one for each choice of how many of each class, its first ones standing for all.

        To be asked for every size in turn, from 2 on.
        """
        self.deeper = False
        smaller = list(self._known)
        stack = [(self._system.start, 0, 0, size)]
        while stack:
            state, gone, at, more = stack.pop()
            while at < len(self._order) and not state.alive >> self._order[at] & 1:
                at = self._next[at]
            if at == len(self._order) or (size > 2 and more > 1 and self._out_of_reach(state, at, more)):
                continue
            if more == 1:
                for place in self._last(state, at):
                    exits = gone | 1 << place
                    spend(self._budget, 1 + len(smaller) // 16)
                    if not any(exits & each == each for each in smaller):
                        self._known.append(exits)
                        yield exits
                continue
            stack.append((state, gone, self._next[at], more))
            bit = 1 << self._order[at]
            after = self._system.strike(state, bit, self._budget)
            if holds(self._goal, after):
                stack.append((after, gone | bit, at + 1, more - 1))

    def _out_of_reach(self, state: State, at: int, more: int) -> bool:
        """Return whether no such number of exits from here on can break the goal; note it if a larger one could."""
        if (worst := self._worst.get((at, more))) is None:
            spend(self._budget, len(self._order) - at)
            start, rest = self._system.start, [self._alone[place] for place in self._order[at:]]
            worst = self._worst[at, more] = (
                sum(nlargest(more, (start.parties - each.parties for each in rest))),
                sum(nlargest(more, (start.labs - each.labs for each in rest))),
                sum(nlargest(more, (start.weight - each.weight for each in rest))),
            )
        alive, lost, parties, labs, weight = state
        most = State(alive, lost | self._hit[at], parties - worst[0], labs - worst[1], weight - worst[2])
        if not holds(self._goal, self._system.strike(most, 0, self._budget)):
            return False
        self._look_deeper(state, self._rest[at])
        return True

    def _partners(self, state: State) -> int:
        """Return whose exit now could do more than it does by itself, as a mask.

        Nobody else's breaks the goal: it would by itself. Alone, an exit lowers the counts by so much at most; as long
        as no count then comes below one that somebody asks for, only one can fall who has several alternatives, some of
        which have failed and all others of which this exit makes fail.
        """
        system, partners, seen = self._system, 0, 0
        floors = map(max, system.floors(state), self._goal[:3])
        for floor, now, before, (lefts, masks) in zip(floors, state[2:], system.start[2:], self._leaving, strict=True):
            partners |= masks[bisect_left(lefts, floor - now + before)]
        failed = state.lost | system.count_fails(state)
        for bit in members(failed & system.several & ~system.start.lost):
            owner = bit % system.size
            if seen >> owner & 1 or not state.alive >> owner & 1:
                continue
            seen |= 1 << owner
            mask = -1
            for at in range(owner, system.size * (1 + len(system.shifts)), system.size):
                if not failed >> at & 1:
                    mask &= self._hitting.get(at, 0)
            partners |= mask
        spend(self._budget, 6 + 2 * seen.bit_count())
        return partners

    def _look_deeper(self, state: State, rest: int) -> None:
        """Note whether larger sets are worth a search: not if the goal survives the exit of all who could follow."""
        if not self.deeper:
            self.deeper = not holds(self._goal, self._system.strike(state, rest & state.alive, self._budget))

    def _last(self, state: State, at: int) -> list[int]:
        """Return those any one of whom breaks the goal by leaving now: the first of each class stands for it."""
        rest = self._rest[at]
        found = []
        groups = [list(members(self._firsts[at] & state.alive & self._partners(state)))]
        while groups:
            group = groups.pop()
            if holds(self._goal, self._system.strike(state, sum(1 << place for place in group), self._budget)):
                continue
            if len(group) == 1:
                found += group
                rest &= ~self.classes[group[0]]
            else:
                groups += [group[len(group) // 2 :], group[: len(group) // 2]]
        self._look_deeper(state, rest)
        return found


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
