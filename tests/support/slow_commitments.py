"""An independent, slow model of a commitment without triggers: no indexes, no deadlines, no table.

It keeps the statements that were made and, whenever it is asked, lives through every day again from the first. The set
bound is the union of all sets of pledgers that support themselves, found by trying every subset. One unit of time is a
day; what falls due on a day does so before that day's statements.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from itertools import combinations

PARTIES = ("norland", "sudland", "westmere")
LABS = {"borealis": "norland", "zephyr": "westmere"}


@dataclass(frozen=True)
class Demand:
    """What a pledge asks of the set bound."""

    parties: int = 0
    labs: int = 0
    named: frozenset[str] = frozenset()

    def holds(self, bound: Iterable[str]) -> bool:
        bound = set(bound)
        return (
            len([who for who in bound if who in PARTIES]) >= self.parties
            and len([who for who in bound if who in LABS]) >= self.labs
            and all(name in bound for name in self.named)
        )


@dataclass(frozen=True)
class Terms:
    """A commitment's terms, in days."""

    rule: Demand
    limit: int
    by: int
    delay: int
    length: int
    cut_off: int
    leave: int | None
    may_step_back: bool
    lifters: int
    anyone: bool
    ramp: int  # days of its one stage; 0: none
    releases: bool


@dataclass
class Day:
    """How a commitment stands at the end of a day."""

    phase: str = "open"
    pledges: dict[str, tuple[Demand, ...]] = field(default_factory=dict)
    bound: dict[str, int] = field(default_factory=dict)
    entry: int | None = None
    ends: int | None = None
    ramp_ends: int | None = None
    leaving: dict[str, int] = field(default_factory=dict)
    votes: set[str] = field(default_factory=set)

    @property
    def live(self) -> bool:
        return self.phase in ("pending", "in-force")


Statement = tuple[int, str, str, tuple[Demand, ...]]


def supported(pledges: Mapping[str, tuple[Demand, ...]]) -> set[str]:
    """The union of all sets of pledgers in each of which everyone's demand holds."""
    best: set[str] = set()
    for size in range(len(pledges) + 1):
        for group in combinations(sorted(pledges), size):
            if all(not pledges[who] or any(demand.holds(group) for demand in pledges[who]) for who in group):
                best |= set(group)
    return best


class SlowCommitment:
    """One commitment: what was said, and what follows."""

    def __init__(self, terms: Terms) -> None:
        self.terms = terms
        self.said: list[Statement] = []

    def say(self, day: int, action: str, who: str, demands: tuple[Demand, ...] = ()) -> bool:
        """Make a statement; whether it is accepted."""
        accepted = self._apply(self.stand(day), (day, action, who, demands))
        if accepted:
            self.said.append((day, action, who, demands))
        return accepted

    def stand(self, today: int) -> Day:
        """Live through every day up to today."""
        state = Day()
        for day in range(today + 1):
            self._fall_due(state, day)
            for statement in self.said:
                if statement[0] == day:
                    assert self._apply(state, statement)
                    self._enter(state, day)
        return state

    def limit_on(self, lab: str, today: int) -> int | None:
        """The limit that holds for a lab today."""
        state = self.stand(today)
        if state.phase != "in-force":
            return None
        for who in (lab, LABS[lab]):
            if who in state.bound and state.bound[who] <= today:
                return self.terms.limit * (2 if state.ramp_ends is not None else 1)
        return None

    def _fall_due(self, state: Day, day: int) -> None:
        self._enter(state, day)
        if state.phase == "in-force" and day == state.ends:
            state.phase = "ended"
        if day == self.terms.by:
            if state.phase == "open":
                state.phase = "failed"
            elif state.live:
                state.pledges = {who: demand for who, demand in state.pledges.items() if who in state.bound}
        if state.phase == "in-force" and day == state.ramp_ends:
            state.phase = "ended"
        for who in [who for who, leaves in state.leaving.items() if leaves == day]:
            if state.live and who in state.leaving:
                self._leave(state, who, day)

    def _enter(self, state: Day, day: int) -> None:
        """Without a delay, entry follows the statement at once."""
        if state.phase == "pending" and day == state.entry:
            state.phase, state.ends = "in-force", day + self.terms.length

    def _apply(self, state: Day, statement: Statement) -> bool:
        day, action, who, demands = statement
        match action:
            case "pledge":
                return self._pledge(state, day, who, demands)
            case "withdraw":
                return self._withdraw(state, day, who)
            case "lift":
                if (
                    state.phase != "in-force"
                    or who not in state.bound
                    or state.ramp_ends is not None
                    or who in state.votes
                ):
                    return False
                state.votes.add(who)
                self._count(state, day)
            case "breach":
                if (
                    state.phase == "in-force"
                    and self.terms.releases
                    and (who in state.bound or LABS.get(who) in state.bound)
                ):
                    state.phase = "ended"
        return True

    def _pledge(self, state: Day, day: int, who: str, demands: tuple[Demand, ...]) -> bool:
        if who in state.pledges or state.phase in ("ended", "failed"):
            return False
        if day >= self.terms.by and who not in supported({**state.pledges, who: demands}):
            return False
        state.pledges[who] = demands
        self._settle(state, day)
        return True

    def _withdraw(self, state: Day, day: int, who: str) -> bool:
        if who not in state.pledges or state.phase in ("ended", "failed") or who in state.leaving:
            return False
        waiting = state.phase == "open" or (state.live and who not in state.bound)
        early = state.phase == "pending" and state.entry is not None and day < state.entry - self.terms.cut_off
        if waiting or early:
            if not self.terms.may_step_back:
                return False
            self._leave(state, who, day)
            return True
        if self.terms.leave is None:
            return False
        assert state.entry is not None
        state.leaving[who] = max(day + self.terms.leave, state.entry)
        return True

    def _leave(self, state: Day, who: str, day: int) -> None:
        state.pledges.pop(who, None)
        state.bound.pop(who, None)
        state.leaving.pop(who, None)
        state.votes.discard(who)
        self._settle(state, day)

    def _settle(self, state: Day, day: int) -> None:
        bound = supported(state.pledges)
        if state.phase == "open":
            if bound and self.terms.rule.holds(bound):
                state.phase, state.entry = "pending", day + self.terms.delay
                state.bound = dict.fromkeys(bound, state.entry)
            return
        if not state.live:
            return
        assert state.entry is not None
        for who in bound - state.bound.keys():
            state.bound[who] = max(state.entry, day + self.terms.delay)
        for who in set(state.bound) - bound:
            del state.bound[who]
            state.votes.discard(who)
            state.leaving.pop(who, None)
            if day >= self.terms.by:
                del state.pledges[who]
        enough = self.terms.rule.holds(bound) or (self.terms.anyone and state.phase == "in-force")
        if not bound or not enough:
            state.phase = "failed" if state.phase == "pending" else "ended"
        else:
            self._count(state, day)

    def _count(self, state: Day, day: int) -> None:
        if state.phase != "in-force" or state.ramp_ends is not None or not state.votes:
            return
        if len([who for who in state.votes if who in PARTIES]) >= self.terms.lifters or state.votes >= set(state.bound):
            if self.terms.ramp:
                state.ramp_ends = day + self.terms.ramp
            else:
                state.phase = "ended"
