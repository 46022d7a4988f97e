"""A lab's chain: attestations, gaps and corrections, numbered and linked one to the next.

One missing period does not mute a lab: a Gap says openly that it is late or cannot be accounted for, and the chain goes
on. A late account counts until the period closes and stays late; a Correction replaces an account openly. What comes
after the period has closed still takes its place, since its number can never be signed again, and counts for nothing.
"""

from __future__ import annotations

from collections.abc import Mapping
from itertools import takewhile
from typing import Final

from pacekeeper.protocol.compute.lineage import Run
from pacekeeper.protocol.errors import Code, Refused
from pacekeeper.protocol.readings import AttestationReading, LinkReading, Reading
from pacekeeper.protocol.replay.caps import judge_runs, judge_windows
from pacekeeper.protocol.replay.conduct import judge_conduct
from pacekeeper.protocol.replay.facts import Violation, ViolationKind
from pacekeeper.protocol.replay.labs import Account, LabState
from pacekeeper.protocol.replay.measures import forget_measures, judge_measures
from pacekeeper.protocol.replay.state import State
from pacekeeper.protocol.units import PPM
from pacekeeper.v1 import statements_pb2 as pb

CHAINED: Final = (pb.ComputeAttestation, pb.Gap, pb.Correction)  # the statements that take a lab's sequence number
_SWEEP: Final = 8  # attestations of a lab between two looks for what can be dropped


def apply_attestation(
    state: State,
    _statement: pb.ComputeAttestation | None,
    statement_id: bytes,
    found: list[Violation],
    reading: AttestationReading,
) -> None:
    """The account of a period, in order or filling a gap."""
    name, link, said = reading
    lab = state.labs[name]
    _check_link(state, lab, link)
    period = said.period
    in_order = period == lab.next_period
    if not in_order and period not in lab.gaps:
        # SPEC chain-4: a period MUST follow one that is attested or declared a gap, and MUST be attested once.
        if period > lab.next_period:
            raise Refused(Code.PERIOD_SKIPPED, f"period {lab.next_period} has neither attestation nor gap")
        raise Refused(Code.PERIOD_TAKEN, f"period {period} is accounted for; a correction mends it")
    _check_over(state, lab, period)
    account, changes = _make_account(state, lab, link, said, statement_id)
    # Nothing is refused from here on.
    _extend_chain(lab, link, statement_id, state.size)
    if in_order:
        lab.next_period = period + 1
    if state.is_closed(period):
        # SPEC chain-11: what is about a closed period MUST take its place in the chain and change nothing else.
        lab.expired += 1
        return
    lab.gaps.discard(period)
    lab.attested += 1
    # SPEC chain-10: an account MUST count as late from its deadline on, and mends what is missing without undoing it.
    if period < lab.due_period:
        lab.late += 1
        lab.missing.discard(period)
    lab.accounts[period] = account
    _count(state, lab, period, changes, (account.low, account.high), found)
    if state.commitments.standings():
        judge_conduct(state, lab, period, said.splits, changes, said.parts, found)
        judge_measures(state, lab, period, account, None, changes, found)
    _forget(state, lab)


def apply_gap(state: State, statement: pb.Gap, statement_id: bytes, _found: list[Violation], link: LinkReading) -> None:
    """Periods that have no account yet, said openly. It lets the chain go on and excuses nothing."""
    lab = state.labs[statement.lab]
    _check_link(state, lab, link)
    first, last = statement.first_period, statement.last_period
    # SPEC chain-5: a gap MUST begin with the lab's next period and cover only periods that are over.
    if first != lab.next_period:
        code = Code.PERIOD_SKIPPED if first > lab.next_period else Code.PERIOD_TAKEN
        raise Refused(code, f"the next period is {lab.next_period}, the gap begins with {first}")
    _check_over(state, lab, last)
    _extend_chain(lab, link, statement_id, state.size)
    lab.gaps.update(range(first, last + 1))
    lab.next_period = last + 1
    _forget(state, lab)


def apply_correction(
    state: State,
    statement: pb.Correction,
    statement_id: bytes,
    found: list[Violation],
    reading: tuple[LinkReading, Reading],
) -> None:
    """A new account in place of the one in force."""
    lab = state.labs[statement.lab]
    link, said = reading
    _check_link(state, lab, link)
    period = said.period
    old = lab.accounts.get(period)
    closed = state.is_closed(period)
    # SPEC chain-6: a correction MUST name the account in force of a period that is still open.
    if not closed and (old is None or old.id != statement.corrects):
        raise Refused(Code.BAD_CORRECTION, f"that is not the account in force of period {period}")
    account, changes = _make_account(state, lab, link, said, statement_id)
    _extend_chain(lab, link, statement_id, state.size)
    if closed or old is None:
        lab.expired += 1
        return
    lab.corrections += 1
    lab.accounts[period] = account
    change: dict[str, tuple[Run, int, int]] = {}
    for run, low, high in changes:
        _, low_before, high_before = change.get(run.name, (run, 0, 0))
        change[run.name] = (run, low_before + low, high_before + high)
    for name, bounds in old.bounds().items():
        run = lab.runs[name]
        _, low, high = change.get(run.name, (run, 0, 0))
        change[run.name] = (run, low - bounds.low, high - bounds.high)
    net = [change[name] for name in sorted(change)]
    _count(state, lab, period, net, (account.low - old.low, account.high - old.high), found)
    if state.commitments.standings():
        judge_conduct(state, lab, period, said.splits, changes, said.parts, found)
        judge_measures(state, lab, period, account, old, net, found)


def _check_link(state: State, lab: LabState, link: LinkReading) -> None:
    sequence, previous, as_of = link
    if sequence == lab.sequence + 1 and previous == lab.head and lab.as_of <= as_of <= state.size:
        return
    # SPEC chain-1: sequence numbers of a lab MUST go up by one, and each MUST be used once.
    if sequence != lab.sequence + 1:
        if sequence <= lab.sequence:
            raise Refused(Code.SEQUENCE_TAKEN, f"sequence {sequence} of lab {lab.id} is on the log")
        raise Refused(Code.SEQUENCE_SKIPPED, f"the next sequence of lab {lab.id} is {lab.sequence + 1}")
    # SPEC chain-2: previous MUST be the identity of the lab's statement before.
    if previous != lab.head:
        raise Refused(Code.BROKEN_LINK, f"previous is not the identity of sequence {lab.sequence}")
    # SPEC chain-3: as_of MUST be no tree size to come, and not before that of the lab's statement before.
    raise Refused(Code.BAD_AS_OF, f"as_of is not between {lab.as_of} and {state.size}")


def _check_over(state: State, lab: LabState, period: int) -> None:
    check_owed(lab, period)
    # SPEC chain-7: a period MUST be over by log time plus the agreement's tolerance before it is accounted for.
    if state.agreement.period_end_ms(period) > state.last_time_ms + state.agreement.timing.tolerance_ms:
        raise Refused(Code.PERIOD_NOT_OVER, f"period {period} is not over")


def check_owed(lab: LabState, period: int) -> None:
    """Refuse what a lab says of a period that began after it had left.

    SPEC commitments-49: a lab that has left MUST owe the accounts of the periods that had begun by then, and no later.
    """
    if not lab.owes(period):
        raise Refused(Code.NOT_OWED, f"lab {lab.id} left in period {lab.last_period} and gives no account of {period}")


def _extend_chain(lab: LabState, link: LinkReading, statement_id: bytes, index: int) -> None:
    lab.sequence, _, lab.as_of = link
    lab.head = statement_id
    lab.last_index = index


def check_margins(state: State, margins: Mapping[int, int], period: int, as_of: int | None = None) -> None:
    """Refuse a method that the agreement does not admit, or a margin that it does not.

    SPEC compute-8: a margin MUST be within what the agreement allows for its method.
    SPEC commitments-54: margins amended since the statement's as_of, or since its period began, MUST be those that held
    before as well, until the period of the amendment is closed; what is about a closed period counts for nothing.
    """
    allowed = state.agreement.margins
    for method, margin_ppm in margins.items():
        if margin_ppm > allowed.get(method, -1):
            break
    else:
        return
    if state.agreement.rules_version > 2 and state.is_closed(period):
        return
    if any(_within(margins, allowed) for allowed in state.margins_for(period, as_of)):
        return
    raise Refused(Code.MARGIN_TOO_WIDE, "the agreement does not allow that margin for that method")


def _within(margins: Mapping[int, int], allowed: Mapping[int, int]) -> bool:
    return all(margin_ppm <= allowed.get(method, -1) for method, margin_ppm in margins.items())


_Changes = list[tuple[Run, int, int]]  # runs with what is added to their lower and upper bound


def _make_account(
    state: State, lab: LabState, link: LinkReading, said: Reading, statement_id: bytes
) -> tuple[Account, _Changes]:
    """Return the account of a period, and what its runs get by it."""
    _, figures, margins, used_ms, training_ms, figures_ms, chips, splits, _ = said
    agreement = state.agreement
    # Accounts that are read by a layout share the margins of the one that it was made of.
    if lab.margins is not margins or lab.margins_under is not agreement:
        check_margins(state, margins, said.period, link.as_of)
        # What passed only because it was amended, or is about a closed period, is looked at each time.
        if _within(margins, agreement.margins):
            lab.margins, lab.margins_under = margins, agreement
    period_ms = agreement.calendar.period_ms
    if splits and splits[-1] >= period_ms:
        raise Refused(Code.BAD_FIELD, "an account is split outside its period")
    changes: _Changes = []
    low = high = 0
    runs = lab.runs
    for name, amount, margin_ppm in figures:
        run = runs.get(name)
        # SPEC lineage-3: compute and checkpoints MUST be of a run that the lab has declared.
        if run is None:
            raise Refused(Code.UNKNOWN_RUN, f'lab {lab.id} has not declared run "{name}"')
        spread = -(-amount * margin_ppm // PPM)  # bounds.interval, without making one
        changes.append((run, amount - spread, amount + spread))
        low += amount - spread
        high += amount + spread
    # SPEC chain-8: chip-time by category MUST add up to the pools' capacity, and that of training to the runs' sum.
    if used_ms != chips * period_ms or training_ms != figures_ms:
        raise Refused(Code.DOES_NOT_ADD_UP, "chip-time does not add up to the pools' capacity or to the runs")
    return Account(statement_id, state.size, figures, low, high), changes


def _count(
    state: State, lab: LabState, period: int, changes: _Changes, total: tuple[int, int], found: list[Violation]
) -> None:
    wanting = False
    for run, low, high in changes:
        run.low += low
        run.high += high
        run.last_period = max(run.last_period, period)
        records = run.records
        if records and records[-1].period > period:
            _check_records(state, run, period, found)
        # Up to there judge_runs has nothing to say to a run without ancestors: nearly always, so it is not asked.
        if run.high > run.clear_to or run.parents:
            wanting = True
    judge_windows(state, lab.id, period, total, found)
    if wanting:
        judge_runs(state, [run for run, _, _ in changes], period, found)


def _check_records(state: State, run: Run, period: int, found: list[Violation]) -> None:
    """SPEC lineage-7: a checkpoint record below what is attested for the periods before it MUST become a violation."""
    for record in reversed(run.records):
        if record.period <= period:
            return
        attested = state.attested_before(run, record.period)
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
    # One look along the dict for all: each new one would pass over whatever was deleted at its beginning.
    closed = list(takewhile(state.is_closed, accounts))
    if closed:
        for period in closed:
            account = accounts.pop(period)
            if state.kept_periods:
                lab.least[period], lab.most[period] = account.low, account.high
        for watch in state.watches[lab.id]:
            watch.window.forget_before(max(closed))
        forget_measures(state, lab, max(closed))
