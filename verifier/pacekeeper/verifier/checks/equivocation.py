"""Equivocation: a lab signed two statements for one sequence number. The log holds the first and relays the second."""

from __future__ import annotations

from pacekeeper.v1 import log_pb2
from pacekeeper.v1 import statements_pb2 as pb


def check_conflict(conflict: log_pb2.ConflictingEnvelope) -> pb.Evidence:
    """Return the evidence that a relayed envelope may be; the log is not believed, recheck decides.

    SPEC verifier-22: an envelope relayed as conflicting MUST become a finding exactly if it convicts the lab by itself.
    """
    second = conflict.second
    return pb.Evidence(lab_equivocation=pb.LabEquivocationEvidence(first_index=conflict.first_index, second=second))
