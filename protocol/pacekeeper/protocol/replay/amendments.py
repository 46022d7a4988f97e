"""Terms of the agreement that others take the place of: timing, quorum, margins, resolution, caps.

Nothing that was lawful becomes a breach afterwards. What an amendment leaves behind is kept for as long as an account
can still be judged by it: margins until the period of the amendment is closed, limits of caps for the windows that end
before it.
"""

from __future__ import annotations

from dataclasses import replace

from pacekeeper.protocol.documents.commitment_model import Amendment
from pacekeeper.protocol.documents.model import Agreement, Cap
from pacekeeper.protocol.replay.judgements import Watch
from pacekeeper.protocol.replay.state import State, SupersededMargins
from pacekeeper.protocol.replay.watches import watches_of


def amended(state: State, act: Amendment) -> Agreement:
    """Return the agreement with the tables of an amendment in the place of its own."""
    agreement = state.agreement
    quorum = agreement.quorum if act.quorum is None else replace(act.quorum, verifiers=len(agreement.parties))
    return replace(
        agreement,
        timing=act.timing or agreement.timing,
        quorum=quorum,
        margins=agreement.margins if act.margins is None else act.margins,
        indeterminate_periods=act.indeterminate_periods or agreement.indeterminate_periods,
        caps=agreement.caps if act.caps is None else act.caps,
    )


def amend(state: State, before: Agreement, act: Amendment, time_ms: int, index: int) -> None:
    """Let what is kept for judging follow the amended terms, which are in force already; before: those until now."""
    first = state.next_period(time_ms)
    if act.margins is not None:
        open_ones = [old for old in state.superseded_margins if not state.is_closed(old.period)]
        state.superseded_margins = [*open_ones, SupersededMargins(index, first - 1, before.margins)]
    if act.caps is not None:
        _amend_windows(state, before, first)
        _amend_run_caps(state, before, first)


def _amend_windows(state: State, before: Agreement, first: int) -> None:
    removed = {cap.id for cap in before.caps} - {cap.id for cap in state.agreement.caps}
    known = _by_subject(state.watches)
    state.watches = watches_of(state.agreement, first, state.watches, removed)
    present = _by_subject(state.watches)
    for watch in present.values():
        watch.earlier = tuple((until, cap) for until, cap in watch.earlier if not state.is_closed(until - 1))
    for key in [key for key in state.cap_status if "/" not in key[1]]:
        # SPEC commitments-53: what a cap that goes has left undecided MUST lapse; `resolve` finds nothing then.
        if present.get(key) is None or present[key] is not known.get(key):
            del state.cap_status[key]


def _by_subject(watches: dict[str, list[Watch]]) -> dict[tuple[str, str], Watch]:
    return {(watch.cap.id, watch.subject): watch for found in watches.values() for watch in found}


def _amend_run_caps(state: State, before: Agreement, first: int) -> None:
    known = {cap.id: cap for cap in state.run_caps}
    named = {cap.id for cap in before.caps} | {cap.id for cap in state.agreement.caps}
    of_the_gone = [cap for cap in state.run_caps if cap.id not in named]  # it was on runs of who has left, and stays
    state.run_caps = [cap for cap in state.agreement.caps if cap.kind == "run"] + of_the_gone
    earlier: dict[str, tuple[tuple[int, Cap | None], ...]] = {}
    for cap in state.run_caps:
        old = known.get(cap.id)
        if old is None:
            earlier[cap.id] = ((first, None),)
        else:
            kept = state.earlier_run_caps.get(cap.id, ())
            earlier[cap.id] = kept if old == cap else (*kept, (first, old))
    state.earlier_run_caps = {ident: history for ident, history in earlier.items() if history}
    present = {cap.id for cap in state.run_caps}
    for key in [key for key in state.cap_status if "/" in key[1]]:
        if key[0] not in present or key[0] not in known:
            del state.cap_status[key]
    for run in state.lineage.runs.values():
        run.clear_to = -1
