"""Measures that windows judge: growth limits and caps by commitment, for each account that counts for them.

What an account counts for is decided once, when it comes: later ones of the same period, and what follows for a
commitment after it, do not change it.
"""

from __future__ import annotations

from collections.abc import Sequence

from pacekeeper.protocol.commitments.coverage import throughout
from pacekeeper.protocol.compute.lineage import Run
from pacekeeper.protocol.documents.commitment_model import CapLimits
from pacekeeper.protocol.replay.commitment_caps import judge_caps
from pacekeeper.protocol.replay.facts import Violation
from pacekeeper.protocol.replay.growth import count_growth, judge_growth
from pacekeeper.protocol.replay.labs import Account, LabState
from pacekeeper.protocol.replay.state import State


def judge_measures(
    state: State,
    lab: LabState,
    period: int,
    account: Account,
    old: Account | None,
    changes: Sequence[tuple[Run, int, int]],
    found: list[Violation],
) -> None:
    """Judge an account, or the correction of an old one, under every growth limit and cap by commitment.

    changes: what each run got by it, less what it had by the old one.
    """
    account.under = _in_force(state, lab, period) if old is None else old.under
    total = (account.low, account.high) if old is None else (account.low - old.low, account.high - old.high)
    for commitment, participant in account.under:
        measure = state.commitments.standing(commitment).terms.measure
        if isinstance(measure, CapLimits):
            judge_caps(state, lab, period, (commitment, participant), measure, changes, total, found)
        elif participant == lab.id:
            count_growth(state, lab, commitment, period, total)
    if state.courses:
        judge_growth(state, lab, period, found)


def _in_force(state: State, lab: LabState, period: int) -> tuple[tuple[str, str], ...]:
    start_ms, end_ms = state.agreement.period_start_ms(period), state.agreement.period_end_ms(period)
    return tuple(
        (commitment, participant)
        for participant in (lab.id, lab.party)
        for commitment in throughout(state.commitments, participant, start_ms, end_ms)
    )


def forget_measures(state: State, lab: LabState, closed: int) -> None:
    """Drop what no window can contain any more, all periods up to one being closed.

    SPEC commitments-66: what is kept for growth limits MUST NOT grow with the log.
    """
    for watch in state.commitment_watches.values():
        if watch.subject in (lab.id, lab.party):
            watch.window.forget_before(closed)
    least = lab.least
    while least and (oldest := next(iter(least))) <= closed - state.kept_periods:
        del least[oldest], lab.most[oldest]
