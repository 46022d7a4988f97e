"""The pace of a job that may go on at a rate: a token bucket that a step draws on after it was made.

A step's operations are known when it is done, so the bucket may go below zero, and the next step waits until it is not.
What was not used does not pile up beyond a moment's worth: a job that stood still does not catch up in a burst.

Example: pace.set_rate(1_000); a step of 500 operations just begun and done: pace.wait_s(500) == 0.5
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Final

BURST_S: Final = 0.1  # how long the rate may have been unused and still be made good


class Pace:
    """One job's bucket. now: seconds of a clock that never jumps."""

    def __init__(self, now: Callable[[], float] = time.monotonic) -> None:
        self._now = now
        self._rate: int | None = None
        self._level = 0.0  # operations that may be made; below zero for those that were made too early
        self._filled = 0.0
        self._drawn: int | None = None  # the job's total when it was last drawn on

    @property
    def rate(self) -> int | None:
        """Operations per second, or None without a limit."""
        return self._rate

    def set_rate(self, flop_per_s: int | None) -> None:
        """Take another rate from now on. What is owed from before stays owed, at the new rate."""
        if flop_per_s == self._rate:
            return
        self._fill()
        if self._rate is None or flop_per_s is None:
            self._level, self._drawn = 0.0, None
        self._rate = flop_per_s

    def wait_s(self, total: int) -> float:
        """Draw what the job's total has grown by; return how long it has to wait before its next step, 0 for not.

        The first draw after a rate was set is free: that step was begun without one.
        """
        if self._rate is None:
            return 0.0
        self._fill()
        if self._drawn is not None:
            self._level -= total - self._drawn
        self._drawn = total
        # Only now: what came in while the step was under way has paid for it first.
        self._level = min(self._level, BURST_S * self._rate)
        return max(0.0, -self._level / self._rate)

    def _fill(self) -> None:
        now = self._now()
        if self._rate is not None:
            self._level += (now - self._filled) * self._rate
        self._filled = now
