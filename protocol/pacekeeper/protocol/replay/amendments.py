"""Terms of the agreement that others take the place of: timing, quorum, margins, resolution, caps.

Nothing that was lawful becomes a breach afterwards, nor the reverse: what an amendment takes away goes on to judge the
periods that had begun. It is kept for as long as an account can still be judged by it.
"""

from __future__ import annotations

from dataclasses import replace

from pacekeeper.protocol.documents.commitment_model import Amendment
from pacekeeper.protocol.documents.model import Agreement, Cap
from pacekeeper.protocol.errors import Code, Refused
from pacekeeper.protocol.replay.judgements import RunCap
from pacekeeper.protocol.replay.state import State, SupersededMargins
from pacekeeper.protocol.replay.watches import each_watch, watches_of


def amended(state: State, act: Amendment) -> Agreement:
    """Return the agreement with the tables of an amendment in the place of its own. Raises Refused for a cap's id."""
    agreement = state.agreement
    quorum = agreement.quorum if act.quorum is None else replace(act.quorum, verifiers=len(agreement.parties))
    if act.caps is not None:
        _check_cap_ids(state, act.caps)
    return replace(
        agreement,
        timing=act.timing or agreement.timing,
        quorum=quorum,
        margins=agreement.margins if act.margins is None else act.margins,
        indeterminate_periods=act.indeterminate_periods or agreement.indeterminate_periods,
        caps=agreement.caps if act.caps is None else act.caps,
    )


def _check_cap_ids(state: State, caps: tuple[Cap, ...]) -> None:
    """SPEC commitments-52: a cap's id MUST keep its kind and window, and MUST NOT come back once it is gone."""
    present = {cap.id: cap for cap in state.agreement.caps}
    for cap in caps:
        known = present.get(cap.id)
        if known is None and cap.id in state.cap_ids:
            raise Refused(Code.BAD_COMMITMENT, f'there was a cap "{cap.id}", and it is gone; ids are for ever')
        if known is not None and (known.kind, known.window) != (cap.kind, cap.window):
            raise Refused(
                Code.BAD_COMMITMENT, f'the cap "{cap.id}" has another kind or window; another cap has its own id'
            )


def amend(state: State, before: Agreement, act: Amendment, time_ms: int, index: int) -> None:
    """Let what is kept for judging follow the amended terms, which are in force already; before: those until now."""
    first = state.next_period(time_ms)
    if act.margins is not None:
        open_ones = [old for old in state.superseded_margins if not state.is_closed(old.period)]
        state.superseded_margins = [*open_ones, SupersededMargins(index, first - 1, before.margins)]
    if act.caps is not None:
        state.cap_ids |= {cap.id for cap in act.caps}
        _amend_windows(state, first)
        _amend_run_caps(state, before, first)


def _amend_windows(state: State, first: int) -> None:
    watches = watches_of(state.agreement, first, state.watches)
    for lab, found in watches.items():
        watches[lab] = [watch for watch in found if watch.goes_on or not state.is_closed(watch.last)]
        for watch in found:
            watch.earlier = tuple((until, cap) for until, cap in watch.earlier if not state.is_closed(until - 1))
    state.watches = watches
    known = {(watch.cap.id, watch.subject): watch for watch in each_watch(watches) if watch.goes_on}
    for key, status in state.cap_status.items():
        if key in known:
            status.measured = known[key].window.present  # it may be that of a subject that the cap is on again


def _amend_run_caps(state: State, before: Agreement, first: int) -> None:
    """SPEC commitments-53: a cap that goes MUST judge what ends in a period that had begun, and nothing later."""
    present = {cap.id: cap for cap in state.agreement.caps if cap.kind == "run"}
    removed = {cap.id for cap in before.caps} - present.keys()
    kept: list[RunCap] = []
    for held in state.run_caps:
        if held.id in present:
            held.amend(present.pop(held.id), first)
        elif held.id in removed:
            held.amend(None, first)
        if held.cap is not None or not state.is_closed(held.earlier[-1][0] - 1):
            kept.append(held)
    state.run_caps = kept + [RunCap(cap.id, cap, ((first, None),)) for cap in present.values()]
    for run in state.lineage.runs.values():
        run.clear_to = -1
