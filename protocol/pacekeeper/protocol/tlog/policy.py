"""The quorum: which log, and how many of which parties, must have signed a checkpoint before it is believed.

A checked checkpoint has the right origin, the log's signature, and cosignatures of at least the quorum's number of
parties. A party counts once, however many lines or keys it signs with.
"""

from __future__ import annotations

from dataclasses import dataclass

from pacekeeper.protocol.errors import Code, Refused
from pacekeeper.protocol.tlog.checkpoint import Checkpoint, parse_checkpoint
from pacekeeper.protocol.tlog.cosignature import cosignature_time
from pacekeeper.protocol.tlog.note import Note, parse_note, verify_signatures
from pacekeeper.protocol.tlog.vkey import COSIGNATURE_V1, ED25519, NoteKey


@dataclass(frozen=True)
class CosignaturePolicy:
    """Origin and key of a log, the cosigning keys of its witnesses by party id, and how many parties must cosign.

    ValueError unless the keys are of the right algorithm and all different, and the quorum can be met. (The signed
    message does not hold the cosigner's name, so that one key under two names would count twice.)
    """

    origin: str
    log_key: NoteKey
    witnesses: tuple[tuple[str, NoteKey], ...]
    quorum: int

    def __post_init__(self) -> None:
        witness_keys = [key for _, key in self.witnesses]
        if self.log_key.algorithm != ED25519 or any(key.algorithm != COSIGNATURE_V1 for key in witness_keys):
            raise ValueError("a log signs with algorithm 1, a witness with algorithm 4")
        if len({key.public_key for key in (self.log_key, *witness_keys)}) != 1 + len(witness_keys):
            raise ValueError("one key for two signers")
        if not 1 <= self.quorum <= len({party for party, _ in self.witnesses}):
            raise ValueError(f"quorum {self.quorum} of {len(self.witnesses)} witnesses")


@dataclass(frozen=True)
class CheckedCheckpoint:
    """A checkpoint that met its policy.

    cosigners: party id -> time (seconds since the epoch) of its latest valid cosignature, in the policy's order.
    absent: the policy's parties that have not cosigned.
    """

    checkpoint: Checkpoint
    cosigners: dict[str, int]
    absent: tuple[str, ...]
    note: Note


def check_checkpoint(note_bytes: bytes, policy: CosignaturePolicy, *, require_quorum: bool = True) -> CheckedCheckpoint:
    """Return the checkpoint if it meets the policy; require_quorum=False accepts fewer cosignatures, even none.

    1. The bytes are a note (bad-note, too-large) and its text a checkpoint of the origin (bad-checkpoint).
    2. Every signature by a known key verifies, and the log's is among them (bad-signature).
    3. Enough parties have cosigned (no-quorum).

    Left to the caller: whether it is consistent with what was seen before, and whether its times are recent enough.
    """
    return check_note(parse_note(note_bytes), policy, require_quorum=require_quorum)


def check_note(note: Note, policy: CosignaturePolicy, *, require_quorum: bool = True) -> CheckedCheckpoint:
    """As check_checkpoint, for one who has parsed the note."""
    # 1. SPEC note-19: a checkpoint of another origin MUST be refused.
    checkpoint = parse_checkpoint(note.text)
    if checkpoint.origin != policy.origin:
        raise Refused(Code.BAD_CHECKPOINT, f'checkpoint of "{checkpoint.origin}", not of "{policy.origin}"')
    # 2. SPEC note-20: a checkpoint MUST carry the log's own valid signature.
    party_of = {key: party for party, key in policy.witnesses}
    verified = verify_signatures(note, (policy.log_key, *party_of))
    if all(key != policy.log_key for key, _ in verified):
        raise Refused(Code.BAD_SIGNATURE, f'checkpoint is not signed by the log "{policy.log_key.name}"')
    # 3. SPEC note-21: a party MUST be counted once, and fewer parties than the quorum MUST be refused.
    times: dict[str, int] = {}
    for key, signature in verified:
        if key != policy.log_key:
            party = party_of[key]
            times[party] = max(times.get(party, 0), cosignature_time(signature))
    parties = tuple(dict.fromkeys([party for party, _ in policy.witnesses]))
    absent = tuple([party for party in parties if party not in times])
    if require_quorum and len(times) < policy.quorum:
        names = ", ".join(absent)
        message = f"checkpoint of size {checkpoint.size} has {len(times)} cosignatures of {policy.quorum} needed"
        raise Refused(Code.NO_QUORUM, f"{message}; absent: {names}")
    cosigners = {party: times[party] for party in parties if party in times}
    return CheckedCheckpoint(checkpoint, cosigners, absent, note)
