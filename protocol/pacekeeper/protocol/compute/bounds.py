"""Intervals of compute: what a figure with a margin says, and what a cap says to it.

An estimate of amount a with margin m (parts per million) says that the truth lies in [a(1 - m), a(1 + m)], rounded
outwards to whole gigaFLOP. Bounds add linearly: errors of one lab's method do not cancel.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Final, NamedTuple

from pacekeeper.protocol.units import PPM


class Bounds(NamedTuple):
    """A closed interval of gigaFLOP, 0 <= low <= high."""

    low: int
    high: int

    def plus(self, other: Bounds) -> Bounds:
        return Bounds(self.low + other.low, self.high + other.high)


NOTHING: Final = Bounds(0, 0)
_new: Final = tuple.__new__  # a NamedTuple's own constructor costs twice as much


class Outcome(StrEnum):
    """What a cap says to an interval."""

    WITHIN = "within"
    EXCEEDED = "exceeded"
    INDETERMINATE = "indeterminate"


def interval(amount: int, margin_ppm: int) -> Bounds:
    """Return the interval of an estimate: amount in gigaFLOP, margin in parts per million (at most 10^6).

    SPEC compute-1: bounds MUST be rounded outwards, down for the lower and up for the upper.
    """
    spread = -(-amount * margin_ppm // PPM)
    return _new(Bounds, (amount - spread, amount + spread))


def compare(bounds: Bounds, limit: int) -> Outcome:
    """Compare an interval with a cap of limit gigaFLOP.

    SPEC compute-3: within MUST mean high <= limit, exceeded low > limit, and anything else indeterminate.
    """
    if bounds.high <= limit:
        return Outcome.WITHIN
    return Outcome.EXCEEDED if bounds.low > limit else Outcome.INDETERMINATE
