"""Void entries: the log sequenced what the replay refuses. It had the same code and the same bytes, and knew."""

from __future__ import annotations

from pacekeeper.protocol.replay import Applied, Void
from pacekeeper.v1 import statements_pb2 as pb


def check_entry(outcome: Applied | Void) -> list[pb.Evidence]:
    """Return the evidence against the log that one replayed entry gives.

    SPEC verifier-20: a void entry MUST become a finding against the log, and MUST NOT by itself block the cosignature.
    """
    if isinstance(outcome, Applied):
        return []
    return [pb.Evidence(void_entry=pb.VoidEntryEvidence(index=outcome.index, code=outcome.code))]
