"""What caps say to whom, and what a lab did under a commitment."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import NamedTuple

from pacekeeper.protocol.commitments.growth_bounds import NOTHING_CARRIED, Carried
from pacekeeper.protocol.compute.bounds import Bounds, Outcome
from pacekeeper.protocol.compute.window import SlidingWindow
from pacekeeper.protocol.documents.agreement import Cap
from pacekeeper.protocol.replay.facts import ViolationKind


def with_matter(found: set[int] | frozenset[int], matter: int) -> set[int]:
    """Return a set of matters with one more in it: the same set, unless it was the empty one that all begin with."""
    if isinstance(found, frozenset):
        return {*found, matter}
    found.add(matter)
    return found


class Undecided(NamedTuple):
    """A matter that an interval around the cap leaves open: the period by which it became so, and the interval."""

    since: int
    bounds: Bounds


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
    """A window that a cap judges. clear_to: up to this total there is nothing to note; below zero if not known."""

    kind: ViolationKind
    cap: Cap
    subject: str
    window: SlidingWindow
    clear_to: int = -1


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
