"""Caps: each change of a figure is judged under every cap that it counts for.

What is judged is a matter: one window, or the whole life of a run. A stretch of neighbouring windows over one cap is
one violation, recorded when it begins; a late account or a correction judges old windows again without touching what
later ones showed.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from pacekeeper.protocol.compute.bounds import Bounds, Outcome, compare
from pacekeeper.protocol.compute.lineage import Run
from pacekeeper.protocol.documents.agreement import Cap
from pacekeeper.protocol.replay.facts import Violation, ViolationKind
from pacekeeper.protocol.replay.state import CapStatus, State, Undecided

_WHOLE_LIFE: Final = 0  # the matter of a run


def judge_windows(state: State, lab: str, period: int, change: tuple[int, int], found: list[Violation]) -> None:
    """Add a change of a lab's total in a period to the lab's and its party's windows, and judge them.

    SPEC compute-6: window caps MUST be judged for each lab alone, and for all labs of a party together.
    """
    for kind, windows in (
        (ViolationKind.LAB_CAP, state.lab_windows[lab]),
        (ViolationKind.PARTY_CAP, state.party_windows[lab]),
    ):
        for cap, subject, window in windows:
            for end, total in window.add(period, change):
                status = state.cap_status.get((cap.id, subject)) or _status(state, cap, subject, end, total)
                if total.high <= cap.limit and status.outcome is Outcome.WITHIN and not status.undecided:
                    # Nearly every judgement ends here; it is what the lines below would do.
                    if end == window.latest:
                        status.bounds = total
                    continue
                outcome = compare(total, cap.limit)
                if end == window.latest:
                    _note_present(status, outcome, end, total)
                if _judge(state, cap, subject, status, end, end, outcome, total):
                    found.append(_violation(state, kind, subject, end, cap, total))


def judge_runs(state: State, runs: Iterable[Run], period: int, found: list[Violation]) -> None:
    """Judge runs, with all that they inherit, under every run cap for their lab.

    SPEC compute-7: a run cap MUST be checked against the run's own compute and that of all its ancestors.
    """
    for cap in state.run_caps:
        for run in runs:
            if not cap.subjects or run.lab in cap.subjects:
                total = state.lineage.cumulative(run)
                status = state.cap_status.get((cap.id, run.name)) or _status(state, cap, run.name, period, total)
                if total.high <= cap.limit and status.outcome is Outcome.WITHIN and not status.undecided:
                    status.bounds = total
                    continue
                outcome = compare(total, cap.limit)
                _note_present(status, outcome, period, total)
                if _judge(state, cap, run.name, status, _WHOLE_LIFE, period, outcome, total):
                    sources = (*(record.run for record in state.lineage.ancestors(run)), run.name)
                    found.append(_violation(state, ViolationKind.RUN_CAP, run.name, period, cap, total, sources))


def resolve(
    state: State, cap_id: str, subject: str, period: int, due_ms: int, index: int, found: list[Violation]
) -> None:
    """Decide a matter whose time to be narrowed is over, if it is undecided still.

    SPEC compute-5: an outcome indeterminate for the agreed number of periods MUST count as exceeded.
    """
    cap = next(cap for cap in state.agreement.caps if cap.id == cap_id)
    status = state.cap_status[cap_id, subject]
    matter = period if cap.window else _WHOLE_LIFE
    undecided = status.undecided.get(matter)
    if undecided is None or undecided.since != period:
        return
    del status.undecided[matter]
    new = _begins(status.unresolved, matter) and _begins(status.exceeded, matter)
    status.unresolved.add(matter)
    if new:
        kind = ViolationKind.UNRESOLVED
        found.append(Violation(kind, subject, period, index, due_ms, cap_id, cap.limit, undecided.bounds))


def _judge(
    state: State,
    cap: Cap,
    subject: str,
    status: CapStatus,
    matter: int,
    period: int,
    outcome: Outcome,
    bounds: Bounds,
) -> bool:
    """Record what a cap says to a matter; whether a violation begins with it."""
    if outcome is Outcome.INDETERMINATE:
        known = status.undecided.get(matter)
        status.undecided[matter] = Undecided(period if known is None else known.since, bounds)
        if known is None:
            # The time to narrow it does not begin before the log could know of it: an old period can be filled late.
            begins = max(period, state.agreement.period_of(state.last_time_ms) - 1)
            due = state.agreement.due_ms(begins + state.agreement.indeterminate_periods)
            state.push_deadline(f"resolve {cap.id}", subject, period, due)
        return False
    if status.undecided:
        status.undecided.pop(matter, None)
    if outcome is Outcome.WITHIN:
        return False
    new = _begins(status.exceeded, matter)
    status.exceeded.add(matter)
    return new


def _begins(convicted: set[int], matter: int) -> bool:
    # SPEC compute-9: a stretch of neighbouring matters over one cap MUST be one violation, whatever a correction shows.
    return convicted.isdisjoint((matter - 1, matter, matter + 1))


def _status(state: State, cap: Cap, subject: str, period: int, bounds: Bounds) -> CapStatus:
    """The status of a subject that has none yet."""
    status = state.cap_status[cap.id, subject] = CapStatus(Outcome.WITHIN, period, bounds)
    return status


def _note_present(status: CapStatus, outcome: Outcome, period: int, bounds: Bounds) -> None:
    status.bounds = bounds
    if outcome is not status.outcome:
        status.outcome, status.since = outcome, period


def _violation(
    state: State,
    kind: ViolationKind,
    subject: str,
    period: int,
    cap: Cap,
    bounds: Bounds,
    sources: tuple[str, ...] = (),
) -> Violation:
    return Violation(kind, subject, period, state.size, state.last_time_ms, cap.id, cap.limit, bounds, sources)
