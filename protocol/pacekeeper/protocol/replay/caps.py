"""Caps: each change of a figure is judged under every cap that it counts for.

What is judged is a matter: one window, or the whole life of a run. A stretch of neighbouring windows over one cap is
one violation, recorded when it begins; a late account or a correction judges old windows again without touching what
later ones showed.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable
from functools import partial
from typing import Final

from pacekeeper.protocol.compute.bounds import Bounds, Outcome, compare
from pacekeeper.protocol.compute.lineage import Run
from pacekeeper.protocol.documents.agreement import Cap
from pacekeeper.protocol.documents.commitment_model import CapLimits
from pacekeeper.protocol.replay.facts import Violation, ViolationKind
from pacekeeper.protocol.replay.judgements import CapStatus, Undecided, Watch, with_matter
from pacekeeper.protocol.replay.state import State

_WHOLE_LIFE: Final = 0  # the matter of a run
_NO_LIMIT: Final = 2**200  # more than any sum of 64-bit figures on one log


def judge_windows(state: State, lab: str, period: int, change: tuple[int, int], found: list[Violation]) -> None:
    """Add a change of a lab's total in a period to the lab's and its party's windows, and judge them.

    SPEC compute-6: window caps MUST be judged for each lab alone, and for all labs of a party together.
    """
    low, high = change
    for watch in state.watches[lab]:
        # SPEC commitments-52: a new cap MUST NOT count what was before it, nor one that is gone what is after it.
        if not watch.first <= period <= watch.last:
            continue
        total = watch.window.extend(period, low, high)
        if total is None:
            ends = watch.window.add(period, change)
        elif total <= watch.clear_to:
            continue  # nearly every judgement ends here; it is what the lines below would do
        else:
            ends = [(period, watch.window.present())]
        judge_window(state, watch, ends, found)


def judge_window(state: State, watch: Watch, ends: list[tuple[int, Bounds]], found: list[Violation]) -> None:
    """Judge the windows that end with these periods, whose totals have changed."""
    subject, window = watch.subject, watch.window
    status = state.cap_status.get((watch.cap.id, subject))
    if status is None:
        first = ends[0][0]
        status = state.cap_status[watch.cap.id, subject] = CapStatus(Outcome.WITHIN, first, window.present)
    for end, bounds in ends:
        cap = watch.cap_at(end)
        outcome = compare(bounds, cap.limit)
        if end == window.latest and watch.goes_on:
            _note_present(status, outcome, end)
        if _judge(state, cap, subject, status, end, end, outcome, bounds):
            found.append(_violation(state, watch.kind, subject, end, cap, bounds))
    watch.clear_to = watch.lowest_limit() if status.is_clear else -1


def judge_runs(state: State, runs: Iterable[Run], period: int, found: list[Violation]) -> None:
    """Judge runs, with all that they inherit, under every run cap for their lab.

    SPEC compute-7: a run cap MUST be checked against the run's own compute and that of all its ancestors.
    """
    wanting = [
        run
        for run in runs
        if (state.lineage.cumulative(run).high if run.parents else run.high) > run.clear_to or run.clear_to < 0
    ]
    if not wanting:
        return
    for held in state.run_caps:
        for run in wanting:
            # SPEC commitments-51: a changed limit MUST count only for what ends in a period that begins after it.
            cap = held.cap_at(run.last_period)
            if cap is not None and _is_on(cap, run):
                _judge_run(state, cap, run, period, found)
    for run in wanting:
        _note_clear(state, run)


def _is_on(cap: Cap, run: Run) -> bool:
    return not cap.subjects or run.lab in cap.subjects


def _judge_run(state: State, cap: Cap, run: Run, period: int, found: list[Violation]) -> None:
    status = state.cap_status.get((cap.id, run.name))
    if status is None:
        measured = partial(state.lineage.cumulative, run)
        status = state.cap_status[cap.id, run.name] = CapStatus(Outcome.WITHIN, period, measured)
    total = status.bounds
    if note_life(state, cap, run, status, period, compare(total, cap.limit)):
        found.append(run_violation(state, cap, run, period, total))


def note_life(state: State, cap: Cap, run: Run, status: CapStatus, period: int, outcome: Outcome) -> bool:
    """Record what a cap says to the whole life of a run; whether a violation begins with it."""
    _note_present(status, outcome, period)
    return _judge(state, cap, run.name, status, _WHOLE_LIFE, period, outcome, status.bounds)


def run_violation(state: State, cap: Cap, run: Run, period: int, total: Bounds) -> Violation:
    """A run, with all that it inherits, is over a cap."""
    sources = (*(record.run for record in state.lineage.ancestors(run)), run.name)
    return _violation(state, ViolationKind.RUN_CAP, run.name, period, cap, total, sources)


def _note_clear(state: State, run: Run) -> None:
    """Remember up to where no run cap has anything to say, so that nearly every judgement ends at one comparison."""
    limits, clear = [_NO_LIMIT], True
    for held in state.run_caps:
        present = held.cap_at(run.last_period)
        if any(cap is not None and _is_on(cap, run) for cap in (present, held.cap)):
            status = state.cap_status.get((held.id, run.name))
            clear = clear and status is not None and status.is_clear
            limits += [cap.limit for cap in held.versions()]
    run.clear_to = min(limits) if clear else -1


def resolve(
    state: State, cap_id: str, subject: str, period: int, due_ms: int, index: int, found: list[Violation]
) -> None:
    """Decide a matter whose time to be narrowed is over, if it is undecided still.

    SPEC compute-5: an outcome indeterminate for the agreed number of periods MUST count as exceeded.
    """
    status = state.cap_status[cap_id, subject]
    matter = _WHOLE_LIFE if "/" in subject else period
    undecided = status.undecided.get(matter)
    if undecided is None or undecided.since != period:
        return
    del status.undecided[matter]
    new = _begins(status.unresolved, matter) and _begins(status.exceeded, matter)
    status.unresolved = with_matter(status.unresolved, matter)
    if new:
        kind = ViolationKind.UNRESOLVED
        found.append(Violation(kind, subject, period, index, due_ms, cap_id, undecided.limit, undecided.bounds))


def find_cap(state: State, cap_id: str) -> Cap:
    """Return a cap of the agreement, or one of a commitment, which has the id "commitment/cap"."""
    commitment, _, own = cap_id.rpartition("/")
    if not commitment:
        return next(cap for cap in state.agreement.caps if cap.id == cap_id)
    measure = state.commitments.standing(commitment).terms.measure
    assert isinstance(measure, CapLimits)
    return dataclasses.replace(next(cap for cap in measure.caps if cap.id == own), id=cap_id)


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
        status.undecided[matter] = Undecided(period if known is None else known.since, bounds, cap.limit)
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
    status.exceeded = with_matter(status.exceeded, matter)
    return new


def _begins(convicted: set[int] | frozenset[int], matter: int) -> bool:
    # SPEC compute-9: a stretch of neighbouring matters over one cap MUST be one violation, whatever a correction shows.
    return convicted.isdisjoint((matter - 1, matter, matter + 1))


def _note_present(status: CapStatus, outcome: Outcome, period: int) -> None:
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
