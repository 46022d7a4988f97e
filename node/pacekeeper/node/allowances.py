"""Allowances: what growth limits and caps by commitment leave to a lab, by the log and by its own journal. Pure.

What the log does not have yet is in the journal: periods without account, and usage told after an account. Of all this
the most counts for what was used, and the least for what a growth limit is held to, so that a lab that keeps to its
gate is never undecided, let alone too much.

While much is left, jobs go on freely. Of a growth limit the second half is spread over the rest of its window; of a cap
the last tenth is approached more and more slowly; and nothing goes on once all is used.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Final, NamedTuple

from pacekeeper.node.accounts import run_total, to_estimates
from pacekeeper.node.gate import LEAD_MS, SAVE_MS, SHARE_PERCENT, Hold
from pacekeeper.node.ledger import Ledger, Run
from pacekeeper.protocol.commitments.constraints import CapLimit, Constraints, GrowthLimit, RateLimit
from pacekeeper.protocol.commitments.coverage import throughout
from pacekeeper.protocol.compute.bounds import NOTHING, Bounds, interval
from pacekeeper.protocol.documents.agreement import Agreement
from pacekeeper.protocol.documents.commitment_model import CapLimits
from pacekeeper.protocol.readings import read_estimates
from pacekeeper.protocol.replay import State
from pacekeeper.protocol.replay.commitment_caps import caps_for
from pacekeeper.protocol.replay.growth import Ahead, window_ahead
from pacekeeper.protocol.text import count_of
from pacekeeper.protocol.units import flop_to_unit, format_flop, format_time

_REACH_S: Final = 10  # of what is left under a cap, a decision gives out so much at most before the next ones

Metered = Mapping[int, Bounds]


class Allowance(NamedTuple):
    """What one limit leaves: a rate for all jobs together, or a hold; neither while much is left."""

    rate: RateLimit | None = None
    hold: Hold | None = None


def metered(ledger: Ledger, agreement: Agreement, state: State, lab: str, now_ms: int) -> dict[int, Bounds]:
    """Return what the journal has beyond the log's accounts, by period, up to the one after now."""
    known = state.labs[lab]
    latest = agreement.period_of(now_ms + agreement.timing.tolerance_ms) + 1
    without_account = {*range(known.next_period, latest + 1), *known.gaps}
    found = {period: journalled(ledger, agreement, period) for period in without_account & ledger.runs_in.keys()}
    for period in ledger.touched.keys() & known.accounts.keys():
        more = journalled(ledger, agreement, period).high - known.accounts[period].high
        found[period] = Bounds(0, max(0, more))
    return found


def journalled(ledger: Ledger, agreement: Agreement, period: int) -> Bounds:
    """Return what all runs used in a period by the journal, at least and at most."""
    total = NOTHING
    for name in ledger.runs_in.get(period, ()):
        total = total.plus(run_bounds(ledger, agreement, ledger.runs[name], period))
    return total


def run_bounds(ledger: Ledger, agreement: Agreement, run: Run, period: int) -> Bounds:
    """Return what a run used in a period by the journal, as its account will say it."""
    measures = run_total(ledger, agreement, run, (period,)).measures
    if not measures:
        return Bounds(0, flop_to_unit(sum(figure.flop for figure in run.usage[period].values())))
    return interval(*read_estimates(to_estimates(measures), {}))


def restrict(
    constraints: Constraints, state: State, lab: str, more: Metered, cumulative_gflop: int, now_ms: int
) -> tuple[Constraints, Hold | None]:
    """Return the constraints with the lowest rate that growth limits and caps leave as well, and the hold where one of
    them leaves nothing. more: as from metered; cumulative_gflop: of the job's run, its ancestors' included, at most.

    SPEC commitments-68: what growth limits and caps leave MUST be shared as a rate is, and where they leave nothing,
    training MUST hold.
    """
    found = [_of_growth(state, lab, limit, more, now_ms) for limit in constraints.growth]
    found += [_of_cap(state, lab, limit, more, cumulative_gflop, now_ms) for limit in constraints.caps]
    rates = [allowance.rate for allowance in found if allowance.rate is not None]
    if constraints.rate is not None:
        rates.append(constraints.rate)
    lowest = min(rates, key=lambda rate: rate.gflop_per_s, default=None)
    holds = [allowance.hold for allowance in found if allowance.hold is not None]
    latest = max(holds, key=lambda hold: (hold.until_ms is None, hold.until_ms or 0), default=None)
    return dataclasses.replace(constraints, rate=lowest), latest


def _of_growth(state: State, lab: str, limit: GrowthLimit, more: Metered, now_ms: int) -> Allowance:
    """What is left of the present window, under the one of these commitments that leaves least."""
    found = [_of_window(state, lab, commitment, more, now_ms) for commitment in limit.commitments]
    holding = [allowance for allowance in found if allowance.hold is not None]
    slowing = [allowance for allowance in found if allowance.rate is not None]
    if holding:
        return holding[0]
    return min(slowing, key=lambda one: one.rate.gflop_per_s if one.rate else 0, default=Allowance())


def _of_window(state: State, lab: str, commitment: str, more: Metered, now_ms: int) -> Allowance:
    agreement = state.agreement
    period = agreement.period_of(now_ms)
    window = window_ahead(state, lab, commitment, period, _ahead(state, lab, commitment, more, now_ms))
    if window is None:
        return Allowance()
    whole = window.allowance.low * SHARE_PERCENT // 100
    left, until_ms = whole - window.used.high, agreement.period_start_ms(window.end)
    if 2 * left > whole:
        return Allowance()
    said = f"{format_flop(max(0, left))} of {format_flop(window.allowance.low)} left until {format_time(until_ms)}"
    rate = max(0, left) * 1_000 // max(LEAD_MS, until_ms - now_ms)
    if rate == 0:
        return Allowance(hold=Hold(f"{commitment}: {said}", now_ms + SAVE_MS, until_ms))
    return Allowance(RateLimit(rate, (commitment,), said))


def _ahead(state: State, lab: str, commitment: str, more: Metered, now_ms: int) -> Ahead:
    totals = dict(more)
    used: dict[int, Bounds] = {}
    for period, bounds in more.items():
        attested = state.labs[lab].total(period)
        if attested is not None:
            totals[period] = attested
        if commitment in _in_force(state, lab, period, now_ms):
            used[period] = bounds if attested is None else attested.plus(bounds)
    return Ahead(totals, used)


def _in_force(state: State, participant: str, period: int, now_ms: int) -> tuple[str, ...]:
    """The commitments whose windows a period counts in, as far as is known now; planned ends are none."""
    start_ms, end_ms = state.agreement.period_start_ms(period), state.agreement.period_end_ms(period)
    return throughout(state.commitments, participant, start_ms, min(end_ms, max(now_ms, start_ms + 1)))


def _of_cap(state: State, lab: str, limit: CapLimit, more: Metered, cumulative_gflop: int, now_ms: int) -> Allowance:
    """What is left under one cap: for a run over its whole life, else in the window that the present period ends."""
    party = state.labs[lab].party
    participant = party if limit.cap.kind == "party" else lab
    meant = caps_for(limit.commitment, CapLimits((limit.cap,)), lab, party, participant)
    if not meant:
        return Allowance()
    agreement, [cap] = state.agreement, meant
    until_ms: int | None = None
    if cap.kind == "run":
        used, what = cumulative_gflop, "this run with its ancestors"
    else:
        period = agreement.period_of(now_ms)
        until_ms = agreement.period_end_ms(period)
        periods = range(period - cap.window + 1, period + 1)
        counted = [p for p in periods if p in more and limit.commitment in _in_force(state, participant, p, now_ms)]
        watch = state.commitment_watches.get((cap.id, participant))
        attested = watch.window.total(period).high if watch is not None else 0
        used = attested + sum(more[p].high for p in counted)
        who = "all labs of the party" if cap.kind == "party" else "the lab"
        what = f"{who} in {count_of(cap.window, 'period')}"
        if limit.commitment not in _in_force(state, participant, period, now_ms):
            return Allowance()
    whole = cap.limit * SHARE_PERCENT // 100
    left = whole - used
    if 10 * left > whole:
        return Allowance()
    said = f"{format_flop(max(0, left))} of {format_flop(cap.limit)} left for {what}"
    rate = max(0, left) // _REACH_S
    if rate == 0:
        return Allowance(hold=Hold(f"{cap.id}: {said}", now_ms + SAVE_MS, until_ms))
    return Allowance(RateLimit(rate, (cap.id,), said))
