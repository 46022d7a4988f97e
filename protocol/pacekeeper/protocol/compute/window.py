"""Sliding windows: the compute of the last W periods, at every period's end.

A window of W periods that ends with period e covers e - W + 1 to e. Sliding rather than fixed windows leave no seam at
which twice the cap could be spent. Periods arrive in order nearly always; a late account changes every window that has
it, and each of those is returned to be judged again.
"""

from __future__ import annotations

from pacekeeper.protocol.compute.bounds import NOTHING, Bounds


class SlidingWindow:
    """Totals of one subject under one window length. Values are kept until they are dropped by `forget_before`."""

    __slots__ = ("_sum", "_values", "latest", "length")

    def __init__(self, length: int) -> None:
        if length < 1:
            raise ValueError("a window has at least one period")
        self.length = length
        self.latest = -1
        self._values: dict[int, Bounds] = {}
        self._sum = NOTHING  # always that of the window that ends with `latest`

    def add(self, period: int, change: tuple[int, int]) -> list[tuple[int, Bounds]]:
        """Add (low, high) to a period, negative for a correction; return (end, total) of every known window with it.

        SPEC compute-4: a change to a period MUST be judged in every window that contains it and has begun.
        """
        low, high = change
        current = self._values.get(period, NOTHING)
        self._values[period] = Bounds(current.low + low, current.high + high)
        latest = self.latest
        if period > latest:
            self.latest = period
            if period == latest + 1:
                leaving = self._values.get(period - self.length, NOTHING)
                self._sum = Bounds(self._sum.low + low - leaving.low, self._sum.high + high - leaving.high)
            else:
                self._sum = self._total(period)
            return [(period, self._sum)]
        if period > latest - self.length:
            self._sum = Bounds(self._sum.low + low, self._sum.high + high)
        if period == latest:
            return [(period, self._sum)]
        return [(end, self.total(end)) for end in range(period, min(period + self.length - 1, latest) + 1)]

    def total(self, end: int) -> Bounds:
        """Return the total of the window that ends with a period."""
        return self._sum if end == self.latest else self._total(end)

    def forget_before(self, period: int) -> None:
        """Drop values that only windows ending before period contain; they are kept in order of arrival."""
        values = self._values
        while values and (oldest := next(iter(values))) <= period - self.length:
            del values[oldest]

    def _total(self, end: int) -> Bounds:
        low = high = 0
        for period, value in self._values.items():
            if end - self.length < period <= end:
                low += value.low
                high += value.high
        return Bounds(low, high)
