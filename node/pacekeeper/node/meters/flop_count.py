"""What one count of a step's operations says, whichever framework it came from.

Convention "matmul and convolution, MAC = 2": a matrix product of M x K by K x N is 2*M*N*K, a convolution is its
equivalent products, attention is its two products forward and four backward with nothing halved for causality, what
is recomputed is counted again, and element-wise work is none but is listed.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

# SPEC metering-16: an operation without a formula that moves this many elements or more could hide a matrix product.
LARGE_ELEMENTS: Final = 65_536


@dataclass(frozen=True, slots=True)
class FlopCount:
    """Operations of one call, with a histogram of every primitive by number of executions.

    unknown has those without a formula that are not known to be free; reasons has why the count is incomplete.
    """

    flop: int
    by_primitive: Mapping[str, int] = field(default_factory=dict)
    unknown: Mapping[str, int] = field(default_factory=dict)
    reasons: tuple[str, ...] = ()

    @property
    def complete(self) -> bool:
        """Whether nothing large went uncounted."""
        return not self.reasons


class Tally:
    """A count being made."""

    def __init__(self) -> None:
        self.flop = 0
        self.by_primitive: Counter[str] = Counter()
        self.unknown: Counter[str] = Counter()
        self.reasons: list[str] = []

    def count(self, primitive: str, flop: int = 0, times: int = 1) -> None:
        """Take an operation with a known cost, executed so many times."""
        self.by_primitive[primitive] += times
        self.flop += flop * times

    def miss(self, primitive: str, elements: int, times: int = 1) -> None:
        """Take an operation without a formula whose largest operand has so many elements."""
        self.by_primitive[primitive] += times
        self.unknown[primitive] += times
        if elements >= LARGE_ELEMENTS:
            self.fail(f"no formula for {primitive}")

    def fail(self, reason: str) -> None:
        """Record why the count is incomplete."""
        if reason not in self.reasons:
            self.reasons.append(reason)

    def result(self) -> FlopCount:
        return FlopCount(self.flop, dict(self.by_primitive), dict(self.unknown), tuple(self.reasons))
