"""Caps: each change of a figure is judged under every cap that it counts for.

A stretch of windows, or of a run's life, over one cap is one violation: it is recorded when it begins.
"""

from __future__ import annotations

from collections.abc import Iterable

from pacekeeper.protocol.compute.bounds import Bounds, Outcome, compare
from pacekeeper.protocol.compute.lineage import Run
from pacekeeper.protocol.documents.agreement import Cap
from pacekeeper.protocol.replay.facts import Violation, ViolationKind
from pacekeeper.protocol.replay.state import CapStatus, State


def judge_windows(state: State, lab: str, period: int, change: tuple[int, int], found: list[Violation]) -> None:
    """Add a change of a lab's total in a period to the lab's and its party's windows, and judge them.

    SPEC compute-9: window caps MUST be judged for each lab alone, and for all labs of a party together.
    """
    for kind, windows in (
        (ViolationKind.LAB_CAP, state.lab_windows[lab]),
        (ViolationKind.PARTY_CAP, state.party_windows[lab]),
    ):
        for cap, subject, window in windows:
            for end, total in window.add(period, change):
                _judge(state, cap, kind, subject, end, total, found)


def judge_runs(state: State, runs: Iterable[Run], period: int, found: list[Violation]) -> None:
    """Judge runs, with all that they inherit, under every run cap for their lab.

    SPEC compute-10: a run cap MUST be checked against the run's own compute and that of all its ancestors.
    """
    for cap in state.run_caps:
        for run in runs:
            if not cap.subjects or run.lab in cap.subjects:
                total = state.lineage.cumulative(run)
                # Runs never begin twice: a run once convicted stays so, whatever period it goes on in.
                _judge(state, cap, ViolationKind.RUN_CAP, run.name, period, total, found, run)


def _judge(
    state: State,
    cap: Cap,
    kind: ViolationKind,
    subject: str,
    period: int,
    bounds: Bounds,
    found: list[Violation],
    run: Run | None = None,
) -> None:
    key = (cap.id, subject)
    status = state.cap_status.get(key)
    outcome = Outcome.WITHIN if bounds.high <= cap.limit else compare(bounds, cap.limit)
    if status is None:
        status = state.cap_status[key] = CapStatus(Outcome.WITHIN, period, bounds)
    before = status.outcome
    status.bounds = bounds
    if outcome is not before:
        status.outcome, status.since = outcome, period
    if outcome is Outcome.INDETERMINATE and before is not Outcome.INDETERMINATE:
        due = state.agreement.due_ms(period + state.agreement.indeterminate_periods)
        state.push_deadline(f"resolve {cap.id}", subject, period, due)
    elif outcome is Outcome.EXCEEDED:
        new = status.convicted_to < 0 or (run is None and period > status.convicted_to + 1)
        status.convicted_to = max(status.convicted_to, period)
        if new:
            sources = () if run is None else (*(r.run for r in state.lineage.ancestors(run)), run.name)
            found.append(
                Violation(kind, subject, period, state.size, state.last_time_ms, cap.id, cap.limit, bounds, sources)
            )
