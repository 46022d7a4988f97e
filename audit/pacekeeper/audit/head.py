"""The head: the checkpoint that an audit speaks about, judged line by line.

A note with one damaged cosignature is not thrown away here, since an audit says who is missing: what counts is that the
log's own signature verifies and that enough parties' cosignatures do.
"""

from __future__ import annotations

from pacekeeper.audit.result import Fault, Head
from pacekeeper.protocol.documents.agreement import Agreement
from pacekeeper.protocol.errors import Code, Refused
from pacekeeper.protocol.tlog.checkpoint import Checkpoint, parse_checkpoint
from pacekeeper.protocol.tlog.cosignature import cosignature_time
from pacekeeper.protocol.tlog.note import Note, NoteKey, NoteSignature, parse_note

CHECKPOINT = "checkpoint"


def read_checkpoint(note_bytes: bytes) -> Checkpoint:
    """Return what a checkpoint claims, nothing verified yet. Raises Refused(bad-note, bad-checkpoint, too-large)."""
    return parse_checkpoint(parse_note(note_bytes).text)


def judge_head(note_bytes: bytes, agreement: Agreement) -> tuple[Head, list[Fault]]:
    """Check origin, the log's signature and the quorum of a checkpoint that read_checkpoint accepted.

    SPEC audit-2: a checkpoint without the log's valid signature or without a quorum of valid cosignatures MUST fail.
    SPEC audit-3: a verifier whose cosignature is absent or does not verify MUST be named.
    """
    note = parse_note(note_bytes)
    checkpoint = parse_checkpoint(note.text)
    policy = agreement.policy()
    faults: list[Fault] = []
    if checkpoint.origin != agreement.origin:
        faults.append(
            Fault(CHECKPOINT, Code.BAD_CHECKPOINT, "the checkpoint is of another origin than the agreement's")
        )
    own = _lines_of(note, policy.log_key)
    if not own or not all(policy.log_key.verify(note.text, line.data) for line in own):
        faults.append(Fault(CHECKPOINT, Code.BAD_SIGNATURE, "the log's signature is absent or does not verify"))
    cosigners: dict[str, int] = {}
    invalid: list[str] = []
    for party, key in policy.witnesses:
        lines = _lines_of(note, key)
        if lines and all(key.verify(note.text, line.data) for line in lines):
            cosigners[party] = max(cosignature_time(line) for line in lines)
        elif lines:
            invalid.append(party)
    absent = tuple(party.id for party in agreement.parties if party.id not in cosigners and party.id not in invalid)
    if len(cosigners) < policy.quorum:
        lost = ", ".join([*absent, *invalid])
        sentence = f"{len(cosigners)} valid cosignatures, {policy.quorum} needed; absent or not valid: {lost}"
        faults.append(Fault(CHECKPOINT, Code.NO_QUORUM, sentence))
    return Head(checkpoint, cosigners, absent, tuple(invalid)), faults


def _lines_of(note: Note, key: NoteKey) -> list[NoteSignature]:
    return [line for line in note.signatures if (line.name, line.key_hash) == (key.name, key.hash)]


def fault_of(resource: str, refusal: Refused) -> Fault:
    """A refusal as a fault of a resource."""
    return Fault(resource, refusal.code, refusal.message)
