"""A lab's chain: attestations, gaps and corrections, numbered and linked one to the next.

One missing period does not mute a lab: a Gap says openly that it is late or cannot be accounted for, and the chain goes
on. A late account is accepted until the period closes and stays late; a Correction replaces an account openly.
"""

from __future__ import annotations

from typing import Final

from pacekeeper.protocol.compute.bounds import NOTHING, Bounds, interval
from pacekeeper.protocol.compute.lineage import Run
from pacekeeper.protocol.errors import Code, Refused
from pacekeeper.protocol.replay.caps import judge_runs, judge_windows
from pacekeeper.protocol.replay.facts import Violation, ViolationKind
from pacekeeper.protocol.replay.state import Account, LabState, State
from pacekeeper.protocol.statements import Reading
from pacekeeper.v1 import statements_pb2 as pb

_SWEEP: Final = 8  # attestations of a lab between two looks for what can be dropped


def apply_attestation(
    state: State, statement: pb.ComputeAttestation, statement_id: bytes, found: list[Violation], reading: Reading
) -> None:
    """The account of a period, in order or filling a gap."""
    lab = state.labs[statement.lab]
    link = statement.link
    _check_link(state, lab, link)
    period = reading.period
    if period != lab.next_period and period not in lab.gaps:
        # SPEC chain-4: a period MUST follow one that is attested or declared a gap, and MUST be attested once.
        if period > lab.next_period:
            raise Refused(Code.PERIOD_SKIPPED, f"period {lab.next_period} has neither attestation nor gap")
        raise Refused(Code.PERIOD_TAKEN, f"period {period} is accounted for; a correction mends it")
    _check_over(state, period)
    if state.is_closed(period):
        raise Refused(Code.PERIOD_CLOSED, f"period {period} takes no account any more; declare a gap")
    account = _make_account(state, lab, reading, statement_id)
    # Nothing is refused from here on.
    _extend_chain(lab, link, statement_id, state.size)
    lab.attested += 1
    # SPEC chain-10: an account MUST count as late from its deadline on, and mends what is missing without undoing it.
    if period < lab.due_period:
        lab.late += 1
    if period == lab.next_period:
        lab.next_period = period + 1
    else:
        lab.gaps.discard(period)
    lab.missing.discard(period)
    lab.accounts[period] = account
    _count(state, lab, period, account.figures, account.total, found)
    _forget(state, lab)


def apply_gap(state: State, statement: pb.Gap, statement_id: bytes, _found: list[Violation], _reading: None) -> None:
    """Periods that have no account yet, said openly. It lets the chain go on and excuses nothing."""
    lab = state.labs[statement.lab]
    _check_link(state, lab, statement.link)
    first, last = statement.first_period, statement.last_period
    # SPEC chain-5: a gap MUST begin with the lab's next period and cover only periods that are over.
    if first != lab.next_period:
        code = Code.PERIOD_SKIPPED if first > lab.next_period else Code.PERIOD_TAKEN
        raise Refused(code, f"the next period is {lab.next_period}, the gap begins with {first}")
    _check_over(state, last)
    _extend_chain(lab, statement.link, statement_id, state.size)
    lab.gaps.update(range(first, last + 1))
    lab.next_period = last + 1
    _forget(state, lab)


def apply_correction(
    state: State, statement: pb.Correction, statement_id: bytes, found: list[Violation], reading: Reading
) -> None:
    """A new account in place of the one in force."""
    lab = state.labs[statement.lab]
    _check_link(state, lab, statement.link)
    period = statement.account.period
    old = lab.accounts.get(period)
    # SPEC chain-6: a correction MUST name the account in force of a period that is still open.
    if old is None or old.id != statement.corrects:
        raise Refused(Code.BAD_CORRECTION, f"that is not the account in force of period {period}")
    if state.is_closed(period):
        raise Refused(Code.PERIOD_CLOSED, f"period {period} takes no correction any more")
    account = _make_account(state, lab, reading, statement_id)
    _extend_chain(lab, statement.link, statement_id, state.size)
    lab.corrections += 1
    lab.accounts[period] = account
    change = {run: Bounds(-bounds.low, -bounds.high) for run, bounds in old.figures}
    for run, bounds in account.figures:
        change[run] = change.get(run, NOTHING).plus(bounds)
    total = Bounds(account.total.low - old.total.low, account.total.high - old.total.high)
    _count(state, lab, period, tuple(sorted(change.items())), total, found)


def attested_before(state: State, run: Run, period: int) -> Bounds:
    """What was attested for a run in the periods before one that is not closed yet."""
    low, high = run.own
    for other, account in state.labs[run.lab].accounts.items():
        if other >= period:
            for name, bounds in account.figures:
                if name == run.name:
                    low -= bounds.low
                    high -= bounds.high
    return Bounds(low, high)


def _check_link(state: State, lab: LabState, link: pb.Link) -> None:
    sequence = link.sequence
    # SPEC chain-1: sequence numbers of a lab MUST go up by one, and each MUST be used once.
    if sequence != lab.sequence + 1:
        if sequence <= lab.sequence:
            raise Refused(Code.SEQUENCE_TAKEN, f"sequence {sequence} of lab {lab.id} is on the log")
        raise Refused(Code.SEQUENCE_SKIPPED, f"the next sequence of lab {lab.id} is {lab.sequence + 1}")
    # SPEC chain-2: previous MUST be the identity of the lab's statement before.
    if link.previous != lab.head:
        raise Refused(Code.BROKEN_LINK, f"previous is not the identity of sequence {lab.sequence}")
    # SPEC chain-3: as_of MUST be no tree size to come, and not before that of the lab's statement before.
    if not lab.as_of <= link.as_of <= state.size:
        raise Refused(Code.BAD_AS_OF, f"as_of is not between {lab.as_of} and {state.size}")


def _check_over(state: State, period: int) -> None:
    # SPEC chain-7: a period MUST be over by log time plus the agreement's tolerance before it is accounted for.
    if state.agreement.period_end_ms(period) > state.last_time_ms + state.agreement.timing.tolerance_ms:
        raise Refused(Code.PERIOD_NOT_OVER, f"period {period} is not over")


def _extend_chain(lab: LabState, link: pb.Link, statement_id: bytes, index: int) -> None:
    lab.sequence = link.sequence
    lab.head = statement_id
    lab.as_of = link.as_of
    lab.last_index = index


def check_margins(state: State, estimates: object) -> None:
    """Refuse an estimate whose method the agreement does not allow, or whose margin it does not."""
    margins = state.agreement.margins
    for estimate in estimates:  # type: ignore[attr-defined]
        allowed = margins.get(estimate.method)
        # SPEC compute-8: a margin MUST be within what the agreement allows for its method.
        if allowed is None or estimate.margin_ppm > allowed:
            raise Refused(Code.MARGIN_TOO_WIDE, "the agreement does not allow that margin for that method")


def _make_account(state: State, lab: LabState, reading: Reading, statement_id: bytes) -> Account:
    figures: list[tuple[str, Bounds]] = []
    low = high = 0
    runs = state.lineage.runs
    prefix = lab.id + "/"
    allowed = state.agreement.margins
    for method, margin_ppm in reading.margins:
        # SPEC compute-8: a margin MUST be within what the agreement allows for its method.
        if margin_ppm > allowed.get(method, -1):
            raise Refused(Code.MARGIN_TOO_WIDE, "the agreement does not allow that margin for that method")
    for run, amount, margin_ppm in reading.figures:
        name = prefix + run
        # SPEC lineage-3: compute and checkpoints MUST be of a run that the lab has declared.
        if name not in runs:
            raise Refused(Code.UNKNOWN_RUN, f'lab {lab.id} has not declared run "{run}"')
        bounds = interval(amount, margin_ppm)
        figures.append((name, bounds))
        low += bounds.low
        high += bounds.high
    capacity = reading.chips * state.agreement.calendar.period_ms
    # SPEC chain-8: chip-time by category MUST add up to the pools' capacity, and that of training to the runs' sum.
    if reading.used_ms != capacity or reading.training_ms != reading.figures_ms:
        raise Refused(Code.DOES_NOT_ADD_UP, "chip-time does not add up to the pools' capacity or to the runs")
    return Account(statement_id, state.size, tuple(figures), Bounds(low, high))


def _count(
    state: State,
    lab: LabState,
    period: int,
    figures: tuple[tuple[str, Bounds], ...],
    total: Bounds,
    found: list[Violation],
) -> None:
    touched: list[Run] = []
    for name, bounds in figures:
        run = state.lineage.runs[name]
        run.own = run.own.plus(bounds)
        run.last_period = max(run.last_period, period)
        touched.append(run)
        if run.records and run.records[-1].period > period:
            _check_records(state, run, period, found)
    judge_windows(state, lab.id, period, total, found)
    if touched:
        judge_runs(state, touched, period, found)


def _check_records(state: State, run: Run, period: int, found: list[Violation]) -> None:
    """SPEC lineage-7: a checkpoint record below what is attested for the periods before it MUST become a violation."""
    for record in reversed(run.records):
        if record.period <= period:
            return
        attested = attested_before(state, run, record.period)
        if record.own.high < attested.low and record.index not in state.understated:
            state.understated.add(record.index)
            found.append(
                Violation(
                    ViolationKind.UNDERSTATED,
                    run.name,
                    record.period,
                    state.size,
                    state.last_time_ms,
                    bounds=attested,
                    limit=record.own.high,
                )
            )


def _forget(state: State, lab: LabState) -> None:
    """Drop, now and then, what no statement can refer to any more, so that memory does not grow with the log."""
    if lab.attested % _SWEEP:
        return
    accounts = lab.accounts
    while accounts:
        period = next(iter(accounts))
        if not state.is_closed(period):
            return
        del accounts[period]
        for windows in (state.lab_windows[lab.id], state.party_windows[lab.id]):
            for _, _, window in windows:
                window.forget_before(period)
