"""Cosignatures: a witness's word, at a time, that a checkpoint is the largest it saw and grew from all before it.

C2SP tlog-cosignature: a note signature whose bytes are a time and a signature, Ed25519 ("cosignature/v1", algorithm 4)
or ML-DSA-44 ("subtree/v1", algorithm 6). They are verified like any other line, by note.open_note with the NoteKey.
"""

from __future__ import annotations

from typing import Final

from pacekeeper.protocol import mldsa
from pacekeeper.protocol.keys import SigningKey
from pacekeeper.protocol.tlog.checkpoint import parse_checkpoint
from pacekeeper.protocol.tlog.note import NoteSignature
from pacekeeper.protocol.tlog.vkey import (
    COSIGNATURE_V1,
    MAX_TIME_S,
    ML_DSA_44,
    NoteKey,
    cosigned_message,
    cosigned_tree,
)

_BYTES: Final = frozenset({8 + 64, 8 + mldsa.SIGNATURE_BYTES})


def sign_cosignature(checkpoint_text: str, name: str, key: SigningKey | mldsa.SigningKey, time_s: int) -> str:
    """Cosign a checkpoint's text at a time in seconds since the epoch; return the line, newline included.

    Whether the checkpoint deserves it is the caller's to know. Refused(bad-checkpoint) if the text is none.
    SPEC note-18: a cosigner MUST NOT sign a text that is not a checkpoint.
    """
    if not 0 < time_s <= MAX_TIME_S:
        raise ValueError(f"no cosignature time: {time_s}")
    parse_checkpoint(checkpoint_text)
    if isinstance(key, SigningKey):
        signer, message = NoteKey(name, COSIGNATURE_V1, key.public), cosigned_message(checkpoint_text, time_s)
    else:
        signer = NoteKey(name, ML_DSA_44, key.public)
        tree = cosigned_tree(name, checkpoint_text, time_s)
        if tree is None:
            raise ValueError("no ML-DSA-44 cosignature names an origin of over 255 bytes")
        message = tree
    return NoteSignature(name, signer.hash, time_s.to_bytes(8, "big") + key.sign(message)).line()


def cosignature_time(signature: NoteSignature) -> int:
    """Return the time, in seconds since the epoch, that a verified cosignature carries."""
    if len(signature.data) not in _BYTES:
        raise ValueError("not a cosignature")
    return int.from_bytes(signature.data[:8], "big")
