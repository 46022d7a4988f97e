"""Runs and checkpoints: what a lab declares before it reports compute, and what links its runs to each other."""

from __future__ import annotations

from pacekeeper.protocol import limits
from pacekeeper.protocol.compute.bounds import interval
from pacekeeper.protocol.compute.lineage import Record, Run
from pacekeeper.protocol.errors import Code, Refused
from pacekeeper.protocol.readings import RecordReading
from pacekeeper.protocol.replay.caps import judge_runs
from pacekeeper.protocol.replay.chain import check_margins, check_owed
from pacekeeper.protocol.replay.commitment_caps import judge_linked
from pacekeeper.protocol.replay.facts import Violation
from pacekeeper.protocol.replay.state import State
from pacekeeper.v1 import statements_pb2 as pb


def apply_declaration(
    state: State, statement: pb.RunDeclaration, _id: bytes, _found: list[Violation], _reading: None
) -> None:
    """A lab opens a run.

    SPEC lineage-1: a run MUST be declared once, and each parent MUST be the leaf index of a checkpoint record.
    """
    lab = state.labs[statement.lab]
    if statement.run in lab.runs:
        raise Refused(Code.RUN_EXISTS, f'lab {lab.id} has declared run "{statement.run}" before')
    if len(lab.runs) >= limits.MAX_RUNS_PER_LAB:
        raise Refused(Code.TOO_LARGE, f"lab {lab.id} has declared {limits.MAX_RUNS_PER_LAB} runs")
    for parent in statement.parents:
        if parent not in state.lineage.records:
            raise Refused(Code.UNKNOWN_PARENT, f"entry {parent} is not a checkpoint record")
    run = Run(
        f"{lab.id}/{statement.run}",
        lab.id,
        state.size,
        statement.title,
        statement.initial_state,
        statement.initial_digest,
        tuple(statement.parents),
    )
    lab.runs[statement.run] = run
    state.lineage.declare(run)


def apply_record(
    state: State, statement: pb.CheckpointRecord, _id: bytes, found: list[Violation], reading: RecordReading
) -> None:
    """A checkpoint of a run: where later runs may start from, frozen as it is here.

    SPEC lineage-2: a run's records MUST go up in steps and never down in compute, and never below its account.
    """
    lab = state.labs[statement.lab]
    run = lab.runs.get(statement.run)
    if run is None:
        raise Refused(Code.UNKNOWN_RUN, f'lab {statement.lab} has not declared run "{statement.run}"')
    if len(run.records) >= limits.MAX_CHECKPOINTS_PER_RUN:
        raise Refused(Code.TOO_LARGE, f"run has {limits.MAX_CHECKPOINTS_PER_RUN} checkpoint records")
    period = statement.period
    check_owed(lab, period)
    if period > state.agreement.period_of(state.last_time_ms + state.agreement.timing.tolerance_ms):
        raise Refused(Code.PERIOD_NOT_OVER, f"period {period} has not begun")
    if state.is_closed(period):
        raise Refused(Code.PERIOD_CLOSED, f"period {period} takes no checkpoint record any more")
    check_margins(state, reading.margins, period)
    own = interval(reading.amount, reading.margin_ppm)
    if own.high < state.attested_before(run, period).low:
        raise Refused(Code.CHECKPOINT_REGRESSES, "the record is below what was attested for the periods before it")
    if run.records:
        last = run.records[-1]
        if statement.steps <= last.steps or own.high < last.own.high or period < last.period:
            raise Refused(Code.CHECKPOINT_REGRESSES, f"the record is not after that at entry {last.index}")
    record = Record(state.size, run.name, statement.digest, period, statement.steps, own)
    linked = state.lineage.add_record(record)
    if linked:
        touched = [child for child in state.lineage.descendants(linked) if child.own.high > 0]
        judge_runs(state, touched, period, found)
        judge_linked(state, touched, period, found)
