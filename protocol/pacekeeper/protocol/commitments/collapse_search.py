"""One level of the search for collapse sets: the exits of one size after which one demand fails.

How it stands in the whole is told in collapse.py. A `Search` knows what each exit does by itself, which of two
participants could change places, and at the last exit of a set whose could do more than it does by itself.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterator
from heapq import nlargest
from itertools import groupby

from pacekeeper.protocol.commitments.system import Demand, State, System, holds, members, spend


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
