"""Growth limits in numbers: what a lab may use in each window, given what it used before.

Windows of equal length follow each other, with no seam at which twice the limit could be spent that the next window's
baseline would not show. Unused allowance is banked up to a share of the limit, and an overrun is owed. What was used
beyond an allowance is in no later baseline: nobody raises its limit by breaking it.

Example: a 10 % growth limit on windows of one period with a baseline of one period, from 100 gigaFLOP, allows 110.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from pacekeeper.protocol.documents.commitment_model import Growth
from pacekeeper.protocol.units import PPM


class Window(NamedTuple):
    """Periods [first, end): limit, what is carried into it (a debt is negative), what is allowed, and what was used."""

    first: int
    end: int
    limit: int
    carried: int
    allowance: int
    used: int

    @property
    def overrun(self) -> int:
        """How much was used beyond the allowance."""
        return max(0, self.used - self.allowance)


def growth_windows(measure: Growth, used: Mapping[int, int], first: int, last: int) -> list[Window]:
    """Return the windows that begin with period first, up to the one that period last is in.

    used: period -> gigaFLOP, for the baseline of the first window on; a period that is absent counts as zero.
    SPEC commitments-44: limits MUST be rounded up, debts too, and an allowance is not below zero.
    """
    windows: list[Window] = []
    counted = dict(used)
    carried = 0
    start = first
    while start <= last:
        end = start + measure.window
        limit = limit_of(measure, sum(counted.get(period, 0) for period in range(start - measure.baseline, start)))
        spent = sum(used.get(period, 0) for period in range(start, end))
        window = Window(start, end, limit, carried, max(0, limit + carried), spent)
        windows.append(window)
        _discount(counted, window)
        carried = carry(measure, limit, carried, spent)
        start = end
    return windows


def _discount(counted: dict[int, int], window: Window) -> None:
    """Take a window's overrun off what its last periods count for."""
    excess = window.overrun
    for period in range(window.end - 1, window.first - 1, -1):
        if not excess:
            return
        taken = min(excess, counted.get(period, 0))
        counted[period] = counted.get(period, 0) - taken
        excess -= taken


def limit_of(measure: Growth, before: int) -> int:
    """Return the limit of a window, from what its baseline counts for."""
    grown = -(-before * (PPM + measure.growth_ppm) * measure.window // (measure.baseline * PPM))
    return max(measure.floor_gflop, grown)


def carry(measure: Growth, limit: int, carried: int, used: int) -> int:
    """Return what goes on from a window into the next: banked, owed by this one, or owed from before and not worked
    off. It never falls when limit or carried grow, nor when less is used."""
    allowance = max(0, limit + carried)
    overrun, owed = max(0, used - allowance), max(0, -(limit + carried))
    if overrun or owed:
        return -(owed + -(-overrun * measure.debt_ppm // PPM))
    return min(allowance - used, limit * measure.banking_ppm // PPM)
