"""Fork: the log signed two trees of one size. Either checkpoint alone looks right; together they convict it."""

from __future__ import annotations

from pacekeeper.protocol.tlog.note import Note, format_note, parse_note
from pacekeeper.protocol.tlog.policy import CosignaturePolicy
from pacekeeper.v1 import statements_pb2 as pb


def check_pair(mine: bytes, other: bytes) -> pb.Evidence | None:
    """Return the evidence of two checkpoints that the log signed for one size, given as log_signed returns them.

    SPEC verifier-23: two checkpoints of one size with different roots, both signed by the log, MUST become a finding.
    """
    if parse_note(mine).text == parse_note(other).text:
        return None
    first, second = sorted((mine, other))
    return pb.Evidence(log_fork=pb.LogForkEvidence(checkpoint_a=first, checkpoint_b=second))


def log_signed(note: bytes, policy: CosignaturePolicy) -> bytes:
    """Return an opened checkpoint with the log's signature only, so that one fork makes one finding, however found."""
    opened = parse_note(note)
    key = policy.log_key
    lines = [line for line in opened.signatures if (line.name, line.key_hash) == (key.name, key.hash)]
    return format_note(Note(opened.text, tuple(lines[:1])))
