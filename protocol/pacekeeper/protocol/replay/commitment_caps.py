"""Caps by commitment: judged as an agreement's caps are, for those whom the commitment binds and while it does.

Each has the id "commitment/cap", which no cap of an agreement can have. What was done before it held counts for no
window; a run's whole life counts, but only a run that trains on under the cap can break it.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable
from functools import partial
from typing import Final

from pacekeeper.protocol.compute.bounds import NOTHING, Bounds, Outcome, compare
from pacekeeper.protocol.compute.lineage import Run
from pacekeeper.protocol.compute.window import SlidingWindow
from pacekeeper.protocol.documents.agreement import Cap
from pacekeeper.protocol.documents.commitment_model import CapLimits
from pacekeeper.protocol.replay import caps
from pacekeeper.protocol.replay.facts import Violation, ViolationKind
from pacekeeper.protocol.replay.judgements import CapStatus, Watch
from pacekeeper.protocol.replay.labs import LabState
from pacekeeper.protocol.replay.state import State

BREACH: Final = "breach "


def caps_for(commitment: str, measure: CapLimits, lab: str, party: str, participant: str) -> list[Cap]:
    """Return the caps of a commitment that one lab's figures count for, under their ids on the log.

    participant: the lab, for caps on labs and runs, or its party, for caps on parties.
    SPEC commitments-61: a cap on labs or runs MUST be judged for each lab that is bound by itself or through its party,
    and a cap on parties for each party that is bound itself.
    """
    kinds = ("lab", "run") if participant == lab else ("party",)
    assert participant in (lab, party)
    return [
        dataclasses.replace(cap, id=f"{commitment}/{cap.id}")
        for cap in measure.caps
        if cap.kind in kinds and (not cap.subjects or participant in cap.subjects)
    ]


def judge_caps(
    state: State,
    lab: LabState,
    period: int,
    under: tuple[str, str],
    measure: CapLimits,
    changes: Iterable[tuple[Run, int, int]],
    total: tuple[int, int],
    found: list[Violation],
) -> None:
    """Count a change of a period's account under the caps of a commitment that held throughout the period.

    under: the commitment and the participant that it bound. changes: what each run got; total: what the lab did.
    """
    commitment, participant = under
    known = len(found)
    for cap in caps_for(commitment, measure, lab.id, lab.party, participant):
        if cap.kind == "run":
            _count_runs(state, cap, period, changes, found)
            continue
        watch = state.commitment_watches.get((cap.id, participant))
        if watch is None:
            kind = ViolationKind.LAB_CAP if cap.kind == "lab" else ViolationKind.PARTY_CAP
            watch = Watch(kind, cap, participant, SlidingWindow(cap.window))
            state.commitment_watches[cap.id, participant] = watch
        caps.judge_window(state, watch, watch.window.add(period, total), found)
    for violation in found[known:]:
        due_ms = state.agreement.fill_in_ms(violation.period)
        state.push_deadline(BREACH + commitment, participant, violation.period, due_ms)


def _count_runs(
    state: State, cap: Cap, period: int, changes: Iterable[tuple[Run, int, int]], found: list[Violation]
) -> None:
    runs: dict[str, Run] = {}
    for run, low, high in changes:
        before = state.capped_runs.get((cap.id, run.name), NOTHING)
        state.capped_runs[cap.id, run.name] = Bounds(before.low + low, before.high + high)
        runs[run.name] = run
    for run in runs.values():
        _judge_run(state, cap, run, period, found)


def judge_linked(state: State, runs: Iterable[Run], period: int, found: list[Violation]) -> None:
    """Judge runs again that turned out to have more ancestors."""
    if not state.capped_runs:
        return
    for run in runs:
        for cap_id, name in sorted(state.capped_runs):
            if name == run.name:
                _judge_run(state, caps.find_cap(state, cap_id), run, period, found)


def _judge_run(state: State, cap: Cap, run: Run, period: int, found: list[Violation]) -> None:
    status = state.cap_status.get((cap.id, run.name))
    if status is None:
        measured = partial(state.lineage.cumulative, run)
        status = state.cap_status[cap.id, run.name] = CapStatus(Outcome.WITHIN, period, measured)
    outcome = compare(beyond(state, cap, run), 0)
    if caps.note_life(state, cap, run, status, period, outcome):
        found.append(caps.run_violation(state, cap, run, period, status.bounds))


def beyond(state: State, cap: Cap, run: Run) -> Bounds:
    """Return what a run did beyond a cap while the cap held.

    SPEC commitments-62: a run cap MUST count a run's whole life and its ancestors', and find it exceeded only by what
    the run did while the cap held.
    """
    total, under = state.lineage.cumulative(run), state.capped_runs[cap.id, run.name]
    return Bounds(min(under.low, max(0, total.low - cap.limit)), min(under.high, max(0, total.high - cap.limit)))


def is_exceeded(state: State, commitment: str, participant: str, period: int) -> bool:
    """Whether some cap of a commitment is exceeded for a participant: in the window that ends with a period, or by a
    run of the lab, all accounts in force counted."""
    watches = [watch for (cap_id, _), watch in state.commitment_watches.items() if cap_id.startswith(f"{commitment}/")]
    if any(w.subject == participant and w.window.total(period).low > w.cap.limit for w in watches):
        return True
    lab = state.labs.get(participant)
    runs = {} if lab is None else {run.name: run for run in lab.runs.values()}
    return any(
        beyond(state, caps.find_cap(state, cap_id), runs[name]).low > 0
        for cap_id, name in state.capped_runs
        if name in runs and cap_id.startswith(f"{commitment}/")
    )
