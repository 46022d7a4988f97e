"""Disagreement: an attested figure is estimated in two ways, and the two intervals have no value in common.

At least one of them is wrong by more than its signed margin. Which one, the log cannot show, so the severity is that of
a discrepancy.
"""

from __future__ import annotations

from pacekeeper.protocol.evidence import disagreeing_runs
from pacekeeper.protocol.replay import Applied, Void
from pacekeeper.v1 import statements_pb2 as pb


def check_entry(outcome: Applied | Void) -> list[pb.Evidence]:
    """Return the evidence that one replayed entry gives: one piece for each figure that contradicts itself.

    SPEC verifier-21: two estimates of one figure that exclude each other MUST become a finding about the lab.
    """
    if isinstance(outcome, Void):
        return []
    statement = outcome.statement
    if not isinstance(statement, pb.ComputeAttestation | pb.Correction):
        return []
    return [
        pb.Evidence(disagreement=pb.DisagreementEvidence(index=outcome.index, run=run))
        for run in disagreeing_runs(statement.account)
    ]
