"""Cosignatures: a witness's word, at a time, that a checkpoint is the largest it saw and grew from all before it.

C2SP tlog-cosignature, Ed25519 ("cosignature/v1"): a note signature of algorithm 4 whose bytes are a time and a
signature. They are verified like any other line, by note.open_note with a NoteKey of algorithm 4.
"""

from __future__ import annotations

from pacekeeper.protocol.keys import SigningKey
from pacekeeper.protocol.tlog.checkpoint import parse_checkpoint
from pacekeeper.protocol.tlog.note import NoteSignature
from pacekeeper.protocol.tlog.vkey import COSIGNATURE_V1, MAX_TIME_S, NoteKey, cosigned_message


def sign_cosignature(checkpoint_text: str, name: str, key: SigningKey, time_s: int) -> str:
    """Cosign a checkpoint's text at a time in seconds since the epoch; return the line, newline included.

    Whether the checkpoint deserves it is the caller's to know. Refused(bad-checkpoint) if the text is none.
    SPEC note-18: a cosigner MUST NOT sign a text that is not a checkpoint.
    """
    if not 0 < time_s <= MAX_TIME_S:
        raise ValueError(f"no cosignature time: {time_s}")
    parse_checkpoint(checkpoint_text)
    signer = NoteKey(name, COSIGNATURE_V1, key.public)
    data = time_s.to_bytes(8, "big") + key.sign(cosigned_message(checkpoint_text, time_s))
    return NoteSignature(name, signer.hash, data).line()


def cosignature_time(signature: NoteSignature) -> int:
    """Return the time, in seconds since the epoch, that a verified cosignature carries."""
    if len(signature.data) != 72:
        raise ValueError("not an Ed25519 cosignature")
    return int.from_bytes(signature.data[:8], "big")
