"""What a lab may do: the strictest of all commitments that bind it, and where figures have to be split.

A span is the time during which one commitment's measure holds for one participant: it begins, bites once the wind-down
is over, and ends. Constraints are what the spans of a lab, its party's among them, say at a moment. Pauses with other
thresholds do not take each other's place, so each run is held by the one that bites first; rates take the lowest.

Example: registry.constraints_on("borealis", now_ms).hold_for(2 * 10**15)
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from pacekeeper.protocol.documents.commitment_model import (
    CapLimits,
    Exemption,
    Growth,
    Lease,
    Measure,
    Pause,
    SlowDown,
)
from pacekeeper.protocol.documents.model import Cap


@dataclass(frozen=True, slots=True)
class Span:
    """One commitment's measure for one participant: [from_ms, until_ms), open-ended with None; it bites from
    enforced_ms on."""

    commitment: str
    measure: Measure
    exemptions: tuple[Exemption, ...]
    from_ms: int
    enforced_ms: int
    until_ms: int | None


@dataclass(frozen=True, slots=True)
class Hold:
    """Runs above the limit hold, with their checkpoints saved, from enforced_ms on."""

    above_gflop: int
    from_ms: int
    enforced_ms: int
    commitments: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class RateLimit:
    """All training of the lab together, in gigaFLOP per second. because: where it follows from what is left."""

    gflop_per_s: int
    commitments: tuple[str, ...]
    because: str = ""


@dataclass(frozen=True, slots=True)
class GrowthLimit:
    """A lab's compute from window to window."""

    measure: Growth
    commitments: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class CapLimit:
    """A cap besides those of the agreement."""

    cap: Cap
    commitment: str


@dataclass(frozen=True, slots=True)
class ExemptBudget:
    """A category that goes on within a budget, per window of periods or, with 0, in all."""

    category: str
    window: int
    budget_gflop: int
    commitments: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Constraints:
    """What binds a lab at a moment. holds ascend by limit; rate counts only what bites already. next_change_ms: when
    something planned begins, bites or ends, unless an entry comes first. lease: the shortest of all that the lab or its
    party has pledged to, in force or not; None if none is stated.
    """

    now_ms: int
    holds: tuple[Hold, ...] = ()
    rate: RateLimit | None = None
    growth: tuple[GrowthLimit, ...] = ()
    caps: tuple[CapLimit, ...] = ()
    exempt: tuple[ExemptBudget, ...] = ()
    lease: Lease | None = None
    next_change_ms: int | None = None

    def hold_for(self, cumulative_gflop: int) -> Hold | None:
        """Return the hold that bites first on a run with so much compute, its ancestors' included."""
        over = [hold for hold in self.holds if cumulative_gflop > hold.above_gflop]
        return min(over, key=lambda hold: (hold.enforced_ms, hold.above_gflop), default=None)


def strictest(spans: Iterable[Span], now_ms: int) -> Constraints:
    """Return what several spans say together at a moment.

    SPEC commitments-27: where several commitments bind a lab, the strictest MUST hold, and a category is exempt only
    within the budgets of all that constrain it.
    """
    known = [span for span in spans if span.until_ms is None or now_ms < span.until_ms]
    begun = sorted((span for span in known if span.from_ms <= now_ms), key=lambda span: span.commitment)
    changes = [
        time_ms
        for span in known
        for time_ms in (span.from_ms, span.enforced_ms, span.until_ms)
        if time_ms is not None and time_ms > now_ms
    ]
    return Constraints(
        now_ms=now_ms,
        holds=_holds(begun),
        rate=_rate(begun, now_ms),
        growth=_growth(begun),
        caps=tuple(
            CapLimit(cap, span.commitment)
            for span in begun
            if isinstance(span.measure, CapLimits)
            for cap in span.measure.caps
        ),
        exempt=_exempt(begun),
        next_change_ms=min(changes, default=None),
    )


def boundaries(spans: Iterable[Span], start_ms: int, end_ms: int) -> tuple[int, ...]:
    """Return the times strictly inside [start, end) at which something begins, bites or ends, ascending.

    SPEC commitments-28: figures MUST be split at each such boundary inside their period.
    """
    times = {time_ms for span in spans for time_ms in (span.from_ms, span.enforced_ms, span.until_ms) if time_ms}
    return tuple(sorted(time_ms for time_ms in times if start_ms < time_ms < end_ms))


def _holds(begun: list[Span]) -> tuple[Hold, ...]:
    """One hold for each limit and moment, without those that a lower and no later one makes idle."""
    found: dict[tuple[int, int], list[Span]] = {}
    for span in begun:
        if isinstance(span.measure, Pause):
            found.setdefault((span.measure.above_gflop, span.enforced_ms), []).append(span)
    holds: list[Hold] = []
    for (above, enforced_ms), spans in sorted(found.items()):
        if not holds or enforced_ms < min(hold.enforced_ms for hold in holds):
            names = tuple(dict.fromkeys(span.commitment for span in spans))
            holds.append(Hold(above, min(span.from_ms for span in spans), enforced_ms, names))
    return tuple(holds)


def _rate(begun: list[Span], now_ms: int) -> RateLimit | None:
    rates = [
        (span.measure.rate_gflop_per_s, span.commitment)
        for span in begun
        if isinstance(span.measure, SlowDown) and span.enforced_ms <= now_ms
    ]
    if not rates:
        return None
    lowest = min(rates)[0]
    return RateLimit(lowest, tuple(dict.fromkeys(name for rate, name in rates if rate == lowest)))


def _growth(begun: list[Span]) -> tuple[GrowthLimit, ...]:
    found: dict[Growth, list[str]] = {}
    for span in begun:
        if isinstance(span.measure, Growth):
            found.setdefault(span.measure, []).append(span.commitment)
    return tuple(GrowthLimit(measure, tuple(dict.fromkeys(names))) for measure, names in found.items())


def _exempt(begun: list[Span]) -> tuple[ExemptBudget, ...]:
    constraining = [span for span in begun if not isinstance(span.measure, CapLimits)]
    if not constraining:
        return ()
    shared = set.intersection(*({exemption.category for exemption in span.exemptions} for span in constraining))
    budgets: dict[tuple[str, int], list[tuple[int, str]]] = {}
    for span in constraining:
        for exemption in span.exemptions:
            if exemption.category in shared:
                key = (exemption.category, exemption.window)
                budgets.setdefault(key, []).append((exemption.budget_gflop, span.commitment))
    return tuple(
        ExemptBudget(
            category,
            window,
            min(found)[0],
            tuple(dict.fromkeys(name for budget, name in found if budget == min(found)[0])),
        )
        for (category, window), found in sorted(budgets.items())
    )
