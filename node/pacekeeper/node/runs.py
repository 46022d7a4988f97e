"""Runs and model checkpoints: what a lab states about them, from what its journal knows. Pure."""

from __future__ import annotations

from dataclasses import dataclass

from pacekeeper.node.accounts import run_total, to_estimates
from pacekeeper.node.ledger import Ledger, Run
from pacekeeper.protocol import limits
from pacekeeper.protocol.documents.agreement import Agreement
from pacekeeper.protocol.errors import Code, Refused
from pacekeeper.protocol.readings import is_id
from pacekeeper.protocol.text import is_plain
from pacekeeper.v1 import statements_pb2 as pb

_STATES = (pb.INITIAL_STATE_FRESH, pb.INITIAL_STATE_CHECKPOINT, pb.INITIAL_STATE_UNSTATED)


@dataclass(frozen=True)
class RunPlan:
    """What a job or an operator says of a run before it starts. Valid by construction, else Refused(bad-field)."""

    run: str
    title: str
    initial_state: int
    initial_digest: bytes

    def __post_init__(self) -> None:
        if not is_id(self.run):
            raise Refused(Code.BAD_FIELD, "run is not an id of lower-case letters, digits and hyphens")
        if not is_plain(self.title, limits.MAX_TEXT_CHARS):
            raise Refused(Code.BAD_FIELD, "title has characters that cannot be shown, or is too long")
        if self.initial_state not in _STATES:
            raise Refused(Code.BAD_FIELD, "initial state is unspecified or unknown")
        if len(self.initial_digest) != (0 if self.initial_state == pb.INITIAL_STATE_UNSTATED else 32):
            raise Refused(Code.BAD_FIELD, "initial digest has 32 bytes, or is absent when the state is unstated")


def make_declaration(ledger: Ledger, agreement: Agreement, lab: str, plan: RunPlan) -> pb.RunDeclaration:
    """Return the declaration of a run, with every checkpoint of this lab that it starts from as a parent.

    Only checkpoints whose records are acknowledged have an index to name; the others are linked by their digest when
    the log is replayed.
    """
    parents: set[int] = set()
    if plan.initial_state == pb.INITIAL_STATE_CHECKPOINT:
        for taken in ledger.digests.get(plan.initial_digest, ()):
            index = ledger.checkpoint_index(taken)
            if index is not None:
                parents.add(index)
    return pb.RunDeclaration(
        agreement=agreement.fingerprint,
        lab=lab,
        run=plan.run,
        title=plan.title,
        initial_state=pb.InitialState.ValueType(plan.initial_state),
        initial_digest=plan.initial_digest,
        parents=sorted(parents)[: limits.MAX_PARENTS],
    )


def foreign_origin(ledger: Ledger, plan: RunPlan) -> str | None:
    """Return the other run whose checkpoint a job of a declared run starts from, if it is provably another's.

    Resuming a run from its own checkpoints is no new run. Starting it from another run's would hide a parent.
    """
    run = ledger.runs.get(plan.run)
    if run is None or not run.declared or plan.initial_state != pb.INITIAL_STATE_CHECKPOINT:
        return None
    takers = {taken.run for taken in ledger.digests.get(plan.initial_digest, ())}
    if not takers or plan.run in takers or plan.initial_digest == run.initial_digest:
        return None
    return min(takers)


def make_checkpoint_record(
    ledger: Ledger, agreement: Agreement, lab: str, run: Run, digest: bytes, period: int
) -> pb.CheckpointRecord | None:
    """Return the record of a checkpoint taken during a period, or None if the run has made no step since its last one.

    Its compute is the sum of the run's accounts up to that period, each rounded as attested, so that it is never below
    them; its period is never before that of the run's last record. Refused(margin-too-wide) if the agreement takes no
    method that covers the run.
    """
    period = max(period, run.recorded_period)
    total = run_total(ledger, agreement, run, [known for known in sorted(run.usage) if known <= period])
    if total.steps <= run.recorded_steps:
        return None
    if not total.measures and total.used:
        # SPEC node-26: no figure of a run MUST be made up where no method that the agreement takes covers it.
        raise Refused(
            Code.MARGIN_TOO_WIDE, f'run "{run.name}" could not count everything, and the agreement takes no chip-time'
        )
    # Before its first step a run has no compute of its own, but its ancestors' goes with the checkpoint.
    nothing = [pb.Estimate(method=pb.Method.ValueType(min(agreement.margins)))]
    return pb.CheckpointRecord(
        agreement=agreement.fingerprint,
        lab=lab,
        run=run.name,
        digest=digest,
        period=period,
        steps=total.steps,
        estimates=to_estimates(total.measures) or nothing,
    )
