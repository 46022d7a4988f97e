"""The gate: whether a job may take its next step, from what the log says and how late it is. Pure.

    decide(constraints, now_ms, log_ms=..., cumulative_gflop=..., jobs=3)  ->  Proceed | Throttle | Hold

It tightens by the lab's own clock or the log's, whichever is further, and early enough for a decision to get to a loop;
it loosens only by entries of the log, for nothing that is planned ends in the constraints before its end is a fact
there. Past the lease the commitment says what holds: nothing goes on, or everything as was last known, never without.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, TypeAlias

from pacekeeper.protocol.commitments.constraints import Constraints
from pacekeeper.protocol.commitments.constraints import Hold as Pause
from pacekeeper.protocol.units import FLOP_PER_UNIT, format_flop, format_time

LEAD_MS: Final = 3_000  # a meter asks once a second, and its last report is attributed as a whole
SAVE_MS: Final = 30_000  # for saving, where nothing bites at a known time
END_MS: Final = 30_000  # for ending, of a command that was asked to
ENDING_MS: Final = LEAD_MS + SAVE_MS + END_MS  # commitments-71 leaves as much
SHARE_PERCENT: Final = 98  # of a rate, so that neither rounding nor the step that crosses a boundary makes a breach


@dataclass(frozen=True, slots=True)
class Proceed:
    """The next step may be taken."""


@dataclass(frozen=True, slots=True)
class Throttle:
    """Steps may be taken, at this rate for this job."""

    flop_per_s: int
    reason: str


@dataclass(frozen=True, slots=True)
class Hold:
    """No step may be taken. save_by_ms: by when the job is to have saved. until_ms: when something planned changes
    this, if so far known. stand_by: the daemon only has to find out; what runs is stopped, and not ended."""

    reason: str
    save_by_ms: int = 0
    until_ms: int | None = None
    stand_by: bool = False


Decision: TypeAlias = Proceed | Throttle | Hold


def decide(
    constraints: Constraints,
    now_ms: int,
    *,
    log_ms: int,
    cumulative_gflop: int,
    jobs: int,
    own_flop_per_s: int = 0,
    others_flop_per_s: int = 0,
    fixed_gflop_per_s: int | None = None,
    spent: Hold | None = None,
) -> Decision:
    """Say what one job may do.

    constraints: as they will be lead_ms() after now_ms, which is the later of the lab's clock and the log's time.
    log_ms: log time of the newest cosigned entry. cumulative_gflop: of the job's run, its ancestors' included, at most.
    jobs: how many share the lab's rate; own_ and others_flop_per_s: what this one and the others have of it so far.
    fixed_gflop_per_s: what the job counts per second whatever it does, where only
    its chips' time is counted. spent: what holds since a growth limit or cap leaves nothing (allowances.py).
    """
    return (
        _lease_over(constraints, now_ms, log_ms, fixed_gflop_per_s)
        or _paused(constraints, now_ms, cumulative_gflop, fixed_gflop_per_s)
        or spent
        or _slowed(constraints, now_ms, jobs, own_flop_per_s, others_flop_per_s, fixed_gflop_per_s)
        or Proceed()
    )


def lead_ms(fixed_gflop_per_s: int | None) -> int:
    """How long before something bites a job is to be told of it: what counts by its chips' time counts until it has
    saved and ended."""
    return LEAD_MS if fixed_gflop_per_s is None else ENDING_MS


def _lease_over(constraints: Constraints, now_ms: int, log_ms: int, fixed_gflop_per_s: int | None) -> Hold | None:
    """SPEC node-30: past its lease a commitment MUST hold training, or leave it under the last known constraints; what
    has to be ended for that MUST have ended by then."""
    lease = constraints.lease
    if lease is None or not lease.hold:
        return None
    ends_ms = log_ms + lease.lease_ms
    if now_ms <= ends_ms - (0 if fixed_gflop_per_s is None else ENDING_MS):
        return None
    reason = f"the lease ends at {format_time(ends_ms)}: nothing newer than {format_time(log_ms)} came from the log"
    return Hold(reason, save_by_ms=ends_ms + SAVE_MS if fixed_gflop_per_s is None else ends_ms - LEAD_MS - END_MS)


def _paused(constraints: Constraints, now_ms: int, cumulative_gflop: int, fixed_gflop_per_s: int | None) -> Hold | None:
    """SPEC node-29: a run above a pause's limit MUST be held from the pause's beginning, and so early that a decision
    takes effect before the pause bites; one whose job has to be ended for it, so early that it has ended by then."""
    ahead_ms = lead_ms(fixed_gflop_per_s)
    begun = [
        hold
        for hold in constraints.holds
        if cumulative_gflop > hold.above_gflop and (hold.from_ms <= now_ms or hold.enforced_ms <= now_ms + ahead_ms)
    ]
    if not begun:
        return None
    first = min(begun, key=lambda hold: (hold.enforced_ms, hold.above_gflop))
    save_by_ms = first.enforced_ms - (LEAD_MS if fixed_gflop_per_s is None else LEAD_MS + END_MS)
    return Hold(_describe(first), save_by_ms, constraints.next_change_ms)


def _describe(pause: Pause) -> str:
    names = ", ".join(pause.commitments)
    return f"{names}: runs above {format_flop(pause.above_gflop)} pause, saved by {format_time(pause.enforced_ms)}"


def _slowed(
    constraints: Constraints, now_ms: int, jobs: int, own: int, others: int, fixed_gflop_per_s: int | None
) -> Decision | None:
    """SPEC node-31: a slow-down's rate MUST be divided among the jobs that run, MUST NOT be given away twice while they
    come and go, and what cannot slow down MUST hold."""
    rate = constraints.rate
    if rate is None:
        return None
    whole = rate.gflop_per_s * FLOP_PER_UNIT * SHARE_PERCENT // 100
    share = whole // max(1, jobs)
    because = f", {rate.because}" if rate.because else ""
    shared = f"{_per_second(rate.gflop_per_s)} for the lab, shared among {max(1, jobs)}"
    reason = f"{', '.join(rate.commitments)}: {shared}{because}"
    if fixed_gflop_per_s is not None and fixed_gflop_per_s * FLOP_PER_UNIT > share:
        counts = f"this job's chip-time counts as {_per_second(fixed_gflop_per_s)} and cannot be slowed down"
        return Hold(f"{reason}; {counts}", now_ms + SAVE_MS, constraints.next_change_ms)
    if share == 0:
        return Hold(reason, now_ms + SAVE_MS, constraints.next_change_ms)
    # A newcomer waits for what the others have too much: they are told so when they report next.
    granted = max(min(share, whole - others), min(share, own))
    if granted <= 0:
        return Hold(f"{reason}; this job's share is not free yet", now_ms + SAVE_MS, stand_by=True)
    return Throttle(granted, reason)


def _per_second(gflop_per_s: int) -> str:
    return f"{format_flop(gflop_per_s)}/s"
