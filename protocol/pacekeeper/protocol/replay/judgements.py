"""What caps say to whom, and what a lab did under a commitment."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final, NamedTuple

from pacekeeper.protocol.commitments.growth_bounds import NOTHING_CARRIED, Carried
from pacekeeper.protocol.compute.bounds import Bounds, Outcome
from pacekeeper.protocol.compute.window import SlidingWindow
from pacekeeper.protocol.documents.agreement import Cap
from pacekeeper.protocol.replay.facts import ViolationKind

_NO_END: Final = 2**63 - 1


def with_matter(found: set[int] | frozenset[int], matter: int) -> set[int]:
    """Return a set of matters with one more in it: the same set, unless it was the empty one that all begin with."""
    if isinstance(found, frozenset):
        return {*found, matter}
    found.add(matter)
    return found


class Undecided(NamedTuple):
    """A matter that an interval around the cap's limit leaves open: the period by which it became so, the interval,
    and the limit."""

    since: int
    bounds: Bounds
    limit: int


@dataclass(slots=True)
class CapStatus:
    """What a cap says to one subject.

    outcome, since: at present, that is in the latest window; since which period it has been so. A matter is one window,
    named by its last period, or a run's whole life, named 0. undecided: matters that wait to be narrowed. exceeded,
    unresolved: matters that were found so, each stretch of neighbours with one violation. (Most subjects never have
    any, and there is one of these for every run: an empty set of its own would be most of what it takes.)
    """

    outcome: Outcome
    since: int
    measured: Callable[[], Bounds]
    undecided: dict[int, Undecided] = field(default_factory=dict)
    exceeded: set[int] | frozenset[int] = frozenset()
    unresolved: set[int] | frozenset[int] = frozenset()

    @property
    def bounds(self) -> Bounds:
        """What the cap is about, at present."""
        return self.measured()

    @property
    def is_clear(self) -> bool:
        """Whether there is nothing to note as long as the cap is not passed."""
        return self.outcome is Outcome.WITHIN and not self.undecided


@dataclass(slots=True)
class Watch:
    """A window that a cap judges. clear_to: up to this total there is nothing to note; below zero if not known.

    first, last: what was before or is after does not count. earlier: (until, cap), the limits of windows that end
    before a period, in the order of time.
    """

    kind: ViolationKind
    cap: Cap
    subject: str
    window: SlidingWindow
    clear_to: int = -1
    first: int = 0
    last: int = _NO_END
    earlier: tuple[tuple[int, Cap], ...] = ()

    @property
    def goes_on(self) -> bool:
        """Whether the cap is in force on its subject."""
        return self.last == _NO_END

    def amend(self, cap: Cap, first: int) -> None:
        """Let another limit count for windows that end in a period or later."""
        if cap.limit != self.cap.limit:
            self.earlier = (*self.earlier, (first, self.cap))
            self.clear_to = -1
        self.cap = cap

    def cap_at(self, period: int) -> Cap:
        """The cap whose limit is that of the window which ends with a period."""
        return next((cap for until, cap in self.earlier if period < until), self.cap)

    def lowest_limit(self) -> int:
        """The lowest limit that any window here may be judged by."""
        return min(cap.limit for cap in (self.cap, *(cap for _, cap in self.earlier)))


@dataclass(slots=True)
class RunCap:
    """A cap on runs. cap: as it is for runs that go on, none once it is gone. earlier: (until, cap), what it was for
    runs with no compute in a period from until on; none where it was not there yet."""

    id: str
    cap: Cap | None
    earlier: tuple[tuple[int, Cap | None], ...] = ()

    def amend(self, cap: Cap | None, first: int) -> None:
        """Let another limit, other subjects or nothing count for runs with compute in a period or later."""
        if cap != self.cap:
            self.earlier = (*self.earlier, (first, self.cap))
            self.cap = cap

    def cap_at(self, period: int) -> Cap | None:
        """The cap as it is for runs whose last compute is in a period."""
        return next((cap for until, cap in self.earlier if period < until), self.cap)

    def versions(self) -> list[Cap]:
        """All that it is or was."""
        return [cap for cap in (self.cap, *(cap for _, cap in self.earlier)) if cap is not None]


@dataclass(slots=True)
class Conduct:
    """What a lab did that a commitment does not allow, or only within a budget.

    spent: period -> gigaFLOP beyond the measure, at least so much. undecided: periods of which more can only be said
    once their account is split. exceeding: periods whose account in force is too much. convicted: periods with a
    violation.
    """

    spent: dict[int, int] = field(default_factory=dict)
    undecided: set[int] = field(default_factory=set)
    exceeding: set[int] = field(default_factory=set)
    convicted: set[int] = field(default_factory=set)


@dataclass(slots=True)
class Course:
    """A lab's windows under one growth limit. What is closed is folded into a few figures.

    first: the period with which the first window begins that is not closed. carried: what goes into it. used: period ->
    what counts in windows from there on. discounted: periods of which less counts in baselines than was used. waiting:
    windows whose close is a deadline. convicted: windows with a violation. spent: period -> gigaFLOP beyond its
    window's allowance, at least so much, where there is a budget for it; spent_before: that of all periods before.
    clear_window, clear_to: the last window that was judged, and up to what use there is nothing to note in it unless
    something before it changes.
    """

    first: int
    window: int
    carried: Carried = NOTHING_CARRIED
    used: dict[int, Bounds] = field(default_factory=dict)
    discounted: dict[int, Bounds] = field(default_factory=dict)
    waiting: set[int] = field(default_factory=set)
    convicted: set[int] = field(default_factory=set)
    spent: dict[int, int] = field(default_factory=dict)
    spent_before: int = 0
    clear_window: int = -1
    clear_to: int = -1

    def is_clear(self, period: int) -> bool:
        """Whether a change in a period leaves nothing to note."""
        first, end = self.clear_window, self.clear_window + self.window
        if first < 0 or not first <= period < end:
            return False
        return sum(self.used[one].high for one in range(first, end) if one in self.used) <= self.clear_to

    def window_of(self, period: int) -> int:
        """Return the first period of the window that a period is in."""
        return period - (period - self.first) % self.window
