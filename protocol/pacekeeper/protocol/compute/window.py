"""Sliding windows: the compute of the last W periods, at every period's end.

A window of W periods that ends with period e covers e - W + 1 to e. Sliding rather than fixed windows leave no seam at
which twice the cap could be spent. Periods arrive in order nearly always; a late account changes every window that has
it, and each of those is returned to be judged again.
"""

from __future__ import annotations

from itertools import takewhile

from pacekeeper.protocol.compute.bounds import NOTHING, Bounds


class SlidingWindow:
    """Totals of one subject under one window length. Values are kept until they are dropped by `forget_before`."""

    __slots__ = ("_high", "_low", "_values", "latest", "length")

    def __init__(self, length: int) -> None:
        if length < 1:
            raise ValueError("a window has at least one period")
        self.length = length
        self.latest = -1
        self._values: dict[int, tuple[int, int]] = {}
        self._low = self._high = 0  # always of the window that ends with `latest`

    def extend(self, period: int, low: int, high: int) -> int | None:
        """Add to the latest period or to the one after it, and return the latest window's upper bound.

        None, and nothing is added, for any other period: see add. Nearly every account takes this way.
        """
        ahead = period - self.latest
        values = self._values
        if ahead == 1:
            values[period] = (low, high)
            self.latest = period
            leaving = values.get(period - self.length)
            if leaving is not None:
                low -= leaving[0]
                high -= leaving[1]
        elif ahead == 0:
            before = values[period]
            values[period] = (before[0] + low, before[1] + high)
        else:
            return None
        self._low += low
        self._high += high
        return self._high

    def add(self, period: int, change: tuple[int, int]) -> list[tuple[int, Bounds]]:
        """Add (low, high) to a period, negative for a correction; return (end, total) of every known window with it.

        SPEC compute-4: a change to a period MUST be judged in every window that contains it and has begun.
        """
        low, high = change
        if self.extend(period, low, high) is not None:
            return [(period, self.present())]
        before = self._values.get(period, NOTHING)
        self._values[period] = (before[0] + low, before[1] + high)
        if period > self.latest:
            self.latest = period
            self._low, self._high = self._total(period)
            return [(period, self.present())]
        if period > self.latest - self.length:
            self._low += low
            self._high += high
        return [(end, self.total(end)) for end in range(period, min(period + self.length - 1, self.latest) + 1)]

    def present(self) -> Bounds:
        """Return the total of the window that ends with the latest period."""
        return Bounds(self._low, self._high)

    def total(self, end: int) -> Bounds:
        """Return the total of the window that ends with a period."""
        return self.present() if end == self.latest else self._total(end)

    def forget_before(self, period: int) -> None:
        """Drop values that only windows ending before period contain; they are kept in order of arrival."""
        values, last = self._values, period - self.length
        # One look along the dict for all: each new one would pass over whatever was deleted at its beginning.
        for oldest in list(takewhile(last.__ge__, values)):
            del values[oldest]

    def _total(self, end: int) -> Bounds:
        low = high = 0
        for period, value in self._values.items():
            if end - self.length < period <= end:
                low += value[0]
                high += value[1]
        return Bounds(low, high)
