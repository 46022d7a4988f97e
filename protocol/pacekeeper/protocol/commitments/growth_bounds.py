"""Growth limits between bounds: what a window certainly was, and what it may have been, where figures have margins.

Every figure is an interval, and so are the limit, what is carried and the allowance. Each of them grows with what was
used before, and shrinks with what is used in between, so that its ends follow from the ends of the others. With exact
figures all of it is what growth_windows says.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Final, NamedTuple

from pacekeeper.protocol.commitments.growth import carry, limit_of
from pacekeeper.protocol.compute.bounds import NOTHING, Bounds, Outcome
from pacekeeper.protocol.documents.commitment_model import Growth


class Carried(NamedTuple):
    """What goes on from one window into the next, between two bounds in gigaFLOP: banked, or owed and then negative."""

    low: int
    high: int


NOTHING_CARRIED: Final = Carried(0, 0)


class BoundedWindow(NamedTuple):
    """Periods [first, end): what is carried into the window, its allowance, what was used in it, and what goes on from
    it: the carried figure, and what each of its periods counts for in later baselines."""

    first: int
    end: int
    carried: Carried
    allowance: Bounds
    used: Bounds
    carries: Carried
    counts: tuple[Bounds, ...]

    @property
    def outcome(self) -> Outcome:
        """SPEC conduct-6: exceeded MUST mean that the least that was used is above the most that may be allowed, within
        that the most that was used is at most the least that is allowed."""
        if self.used.low > self.allowance.high:
            return Outcome.EXCEEDED
        return Outcome.WITHIN if self.used.high <= self.allowance.low else Outcome.INDETERMINATE


def bounded_windows(
    measure_of: Callable[[int, int], Growth],
    total: Callable[[int], Bounds],
    used: Mapping[int, Bounds],
    first: int,
    carried: Carried,
    last: int,
) -> Iterator[BoundedWindow]:
    """Yield the windows that begin with period first, up to the one that period last is in.

    measure_of: the limit of the window [first, end); all have one length and baseline. total: what a period counts for
    in a baseline, unless it is in a window yielded here and in used. used: the periods that count in windows.
    """
    counted: dict[int, Bounds] = {}

    def count(period: int) -> Bounds:
        known = counted.get(period)
        return total(period) if known is None else known

    measure = measure_of(first, first)
    before = _sum(count, first - measure.baseline, first)
    while first <= last:
        end = first + measure.window
        window = _judge(measure_of(first, end), count, used, range(first, end), before, carried)
        yield window
        counted.update(zip(range(first, end), window.counts, strict=True))
        added, left = (_sum(count, start, start + measure.window) for start in (first, first - measure.baseline))
        before = Bounds(before.low + added.low - left.low, before.high + added.high - left.high)
        carried, first = window.carries, end


def _judge(
    measure: Growth,
    count: Callable[[int], Bounds],
    used: Mapping[int, Bounds],
    periods: range,
    before: Bounds,
    carried: Carried,
) -> BoundedWindow:
    limit = Bounds(limit_of(measure, before.low), limit_of(measure, before.high))
    allowance = Bounds(max(0, limit.low + carried.low), max(0, limit.high + carried.high))
    spent = NOTHING
    counts = []
    for period in periods:
        own = used.get(period)
        if own is None:
            counts.append(count(period))
            continue
        # What is beyond the allowance is the last of the window; what fills it from the front counts.
        low, high = allowance.low - spent.high, allowance.high - spent.low
        counts.append(Bounds(min(own.low, max(0, low)), min(own.high, max(0, high))))
        spent = spent.plus(own)
    carries = Carried(
        carry(measure, limit.low, carried.low, spent.high), carry(measure, limit.high, carried.high, spent.low)
    )
    return BoundedWindow(periods.start, periods.stop, carried, allowance, spent, carries, tuple(counts))


def excess(window: BoundedWindow, used: Mapping[int, Bounds]) -> dict[int, Bounds]:
    """Return what of each period of a window is beyond the allowance, where something may be."""
    found: dict[int, Bounds] = {}
    low = high = 0
    for period in range(window.first, window.end):
        own = used.get(period, NOTHING)
        low, high = low + own.low, high + own.high
        beyond = Bounds(
            min(own.low, max(0, low - window.allowance.high)), min(own.high, max(0, high - window.allowance.low))
        )
        if beyond.high:
            found[period] = beyond
    return found


def _sum(count: Callable[[int], Bounds], start: int, stop: int) -> Bounds:
    low = high = 0
    for period in range(start, stop):
        bounds = count(period)
        low += bounds.low
        high += bounds.high
    return Bounds(low, high)
