"""The agenda: what a lab is to sign next for its chain. Pure: ledger, calendar and time in, at most one step out.

In this order: the next period's account once it is over and the meters have said their last; accounts promised by a
gap; corrections of accounts about which more was said afterwards. A period too old for any account becomes a gap, and
so does one of which none can be made.

Time here is `steady_ms`: the lab's clock, held between what a quorum has witnessed and how long the log may be silent.
A clock that jumps ahead therefore signs nothing early, and one that jumps back makes nothing late.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import Final, TypeAlias

from pacekeeper.node.accounts import runs_without_measure
from pacekeeper.node.ledger import Ledger
from pacekeeper.node.terms import FOUNDER, Membership
from pacekeeper.protocol import limits
from pacekeeper.protocol.documents.agreement import Agreement
from pacekeeper.v1 import statements_pb2 as pb

_MAX_GRACE_MS: Final = 1_000  # what a meter's last report of a period may take
_MAX_CLOSING_MS: Final = 60_000  # what an account may be under way


@dataclass(frozen=True)
class Attest:
    """Account for a period."""

    period: int


@dataclass(frozen=True)
class DeclareGap:
    """Say that periods have no account; both inclusive."""

    first: int
    last: int
    reason: pb.GapReason.ValueType
    note: str


@dataclass(frozen=True)
class Correct:
    """Replace the account of a period."""

    period: int


Step: TypeAlias = Attest | DeclareGap | Correct


def steady_ms(agreement: Agreement, now_ms: int, log_ms: int) -> int:
    """Return the lab's time: its clock, but not before the log's last witnessed entry nor past the log's next tick.

    SPEC node-9: nothing MUST be signed for a period by a clock that is ahead of the log's time by more than its longest
    silence and the agreement's tolerance.
    """
    timing = agreement.timing
    return min(max(now_ms, log_ms), log_ms + timing.tick_ms + timing.tolerance_ms)


def grace_ms(agreement: Agreement) -> int:
    """How long after a period's end its account waits at least for the meters' last reports."""
    return min(_MAX_GRACE_MS, agreement.calendar.due_ms // 4)


def is_closed(agreement: Agreement, period: int, now_ms: int) -> bool:
    """Whether an account of the period would come too late, with the time that it takes to get there."""
    margin = min(_MAX_CLOSING_MS, agreement.calendar.fill_in_ms // 10)
    return now_ms + margin > max(agreement.fill_in_ms(period), agreement.due_ms(period))


def next_step(
    ledger: Ledger,
    agreement: Agreement,
    now_ms: int,
    *,
    settled: Callable[[int], bool],
    held: Collection[int] = (),
    fill_in_held: bool = True,
    membership: Membership = FOUNDER,
    terms_of: Callable[[int], Agreement] | None = None,
) -> Step | None:
    """Return what to sign at a steady time, or None while there is nothing to sign.

    settled(end_ms): whether every running job has reported since a period's end. held: periods of a drill, whose
    account is withheld past its deadline and then declared late. terms_of: the agreement by which the account of a
    period is made; without it, the same for all.
    """
    # SPEC node-10: nothing MUST be signed for the chain while its last statement has no verified receipt.
    if ledger.seen is None or ledger.chain_pending is not None:
        return None
    # SPEC node-46: once what a lab that has left owes is closed, nothing more MUST be signed for its chain.
    if membership.last is not None and is_closed(agreement, membership.last, now_ms):
        return None
    period = ledger.next_period
    if period is None:
        period = first_period(agreement, ledger.seen.founded_ms, membership)

    def has_measures(period: int) -> bool:
        return not runs_without_measure(ledger, agreement if terms_of is None else terms_of(period), period)

    never = held if not fill_in_held else ()
    return (
        (_next_period(agreement, period, now_ms, settled, held, has_measures) if membership.owes(period) else None)
        or _next_fill_in(ledger, agreement, now_ms, never, has_measures)
        or _next_correction(ledger, agreement, now_ms, has_measures)
    )


def first_period(agreement: Agreement, founded_ms: int, membership: Membership = FOUNDER) -> int:
    """The period that a lab's accounts begin with: of a founder's, the one in which the agreement entered the log."""
    return max(0, agreement.period_of(founded_ms)) if membership.first is None else membership.first


def _next_period(
    agreement: Agreement,
    period: int,
    now_ms: int,
    settled: Callable[[int], bool],
    held: Collection[int],
    has_measures: Callable[[int], bool],
) -> Step | None:
    end = agreement.period_end_ms(period)
    grace = grace_ms(agreement)
    if now_ms < end + grace:
        return None
    if is_closed(agreement, period, now_ms):
        # SPEC node-11: periods that take no account any more MUST be declared a gap, so that later ones may follow.
        last = period
        while last - period < limits.MAX_GAP_PERIODS - 1 and is_closed(agreement, last + 1, now_ms):
            last += 1
        return DeclareGap(period, last, pb.GAP_REASON_UNACCOUNTED, "too old for an account when it could be made")
    if period in held:
        # SPEC node-24: a held period MUST NOT be attested before its deadline, and is then declared a late gap.
        if now_ms < agreement.due_ms(period) + grace:
            return None
        return DeclareGap(period, period, pb.GAP_REASON_LATE, "withheld in a drill")
    # The meters' last word is worth waiting for, but never until the deadline.
    if now_ms < end + max(grace, agreement.calendar.due_ms // 2) and not settled(end):
        return None
    # SPEC node-26: a period in which a run has no measure MUST NOT be attested, but declared a gap.
    if not has_measures(period):
        return DeclareGap(period, period, pb.GAP_REASON_UNACCOUNTED, "a job could not count everything")
    return Attest(period)


def _next_fill_in(
    ledger: Ledger, agreement: Agreement, now_ms: int, never: Collection[int], has_measures: Callable[[int], bool]
) -> Step | None:
    for period in sorted(ledger.owed):
        open_still = period not in never and not is_closed(agreement, period, now_ms)
        if open_still and has_measures(period):
            return Attest(period)
    return None


def _next_correction(
    ledger: Ledger, agreement: Agreement, now_ms: int, has_measures: Callable[[int], bool]
) -> Step | None:
    """SPEC node-12: what arrives after its period's account MUST be attested by a correction, while one is taken."""
    quiet = grace_ms(agreement)
    for period, raised_ms in sorted(ledger.touched.items()):
        due = now_ms >= raised_ms + quiet and not is_closed(agreement, period, now_ms)
        if due and has_measures(period):
            return Correct(period)
    return None
