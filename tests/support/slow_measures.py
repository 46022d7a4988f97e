"""Independent, slow models of growth limits and of caps by commitment: all windows from the first, at every question.

Plain dictionaries of exact figures, nothing folded and nothing remembered.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from fractions import Fraction
from math import ceil, floor

MILLION = 1_000_000


def growth_overruns(
    *,
    window: int,
    baseline: int,
    growth_ppm: int,
    floor_gflop: int,
    banking_ppm: int,
    debt_ppm: int,
    totals: Mapping[int, int],
    under: Collection[int],
    first: int,
    last: int,
) -> list[tuple[int, int, int]]:
    """Return (first period, allowance, what was used beyond it) of each window from first to the one that last is in.

    totals: what was used in each period; under: the periods in which the limit was in force.
    """
    counts = dict(totals)
    balance = 0
    found = []
    for start in range(first, last + 1, window):
        mean = Fraction(sum(counts.get(period, 0) for period in range(start - baseline, start)), baseline)
        limit = max(floor_gflop, ceil(mean * window * (1 + Fraction(growth_ppm, MILLION))))
        left = allowance = max(0, limit + balance)
        beyond = 0
        for period in range(start, start + window):
            if period in under:
                counts[period] = min(left, totals.get(period, 0))
                left -= counts[period]
                beyond += totals.get(period, 0) - counts[period]
        found.append((start, allowance, beyond))
        unpaid = max(0, -(limit + balance))
        if beyond or unpaid:
            balance = -unpaid - ceil(Fraction(beyond * debt_ppm, MILLION))
        else:
            balance = min(left, floor(Fraction(limit * banking_ppm, MILLION)))
    return found


def windows_over(
    limit: int, window: int, totals: Mapping[int, int], under: Collection[int], latest: int
) -> frozenset[int]:
    """Return the periods with which a window ends that is over a cap, up to the latest period with an account."""
    return frozenset(
        end
        for end in range(latest + 1)
        if sum(totals.get(period, 0) for period in range(end - window + 1, end + 1) if period in under) > limit
    )
