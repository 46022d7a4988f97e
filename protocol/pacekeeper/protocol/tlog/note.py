"""Signed notes: a text and, below a blank line, the signatures of its signers (C2SP signed-note).

    text, of any number of lines
                                                            <- blank line
    — <key name> <base64 of the key hash and the signature>

A reader knows some keys. Signatures by others are ignored; one by a known key that does not verify condemns the whole
note, and so does the absence of any known key. Nothing of a note may be believed before open_note returns it.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from pacekeeper.protocol import limits
from pacekeeper.protocol.errors import Code, Refused
from pacekeeper.protocol.keys import SigningKey
from pacekeeper.protocol.tlog.encoding import format_base64, parse_base64
from pacekeeper.protocol.tlog.vkey import (
    COSIGNATURE_V1,
    ED25519,
    ML_DSA_44,
    NoteKey,
    format_vkey,
    is_key_name,
    is_note_text,
    parse_vkey,
)

__all__ = [
    "COSIGNATURE_V1",
    "ED25519",
    "ML_DSA_44",
    "Note",
    "NoteKey",
    "NoteSignature",
    "add_signatures",
    "format_note",
    "format_vkey",
    "open_note",
    "parse_note",
    "parse_signatures",
    "parse_vkey",
    "sign_note",
    "verify_signatures",
]

_PREFIX: Final = "— "
_HASH_BYTES: Final = 4


@dataclass(frozen=True)
class NoteSignature:
    """One signature line: who says to have signed (name and key hash), and the signature's bytes. Not verified."""

    name: str
    key_hash: int
    data: bytes

    def line(self) -> str:
        """Return the line, newline included."""
        return f"{_PREFIX}{self.name} {format_base64(self.key_hash.to_bytes(_HASH_BYTES, 'big') + self.data)}\n"


@dataclass(frozen=True)
class Note:
    """A note in the right form: text, final newline included, and one or more signature lines. Not verified."""

    text: str
    signatures: tuple[NoteSignature, ...]


def parse_note(data: bytes) -> Note:
    """Read a note without verifying it; Refused(bad-note or too-large).

    SPEC note-2: the text MUST be what stands before the last blank line, and end in a newline.
    SPEC note-8: a note of more than 262,144 bytes or 64 signatures MUST be refused.
    """
    if len(data) > limits.MAX_NOTE_BYTES:
        raise Refused(Code.TOO_LARGE, f"note of {len(data)} bytes, at most {limits.MAX_NOTE_BYTES}")
    whole = _decode(data)
    blank = whole.rfind("\n\n")
    if blank < 0:
        raise Refused(Code.BAD_NOTE, "note has no blank line before its signatures")
    return Note(whole[: blank + 1], _signatures(whole[blank + 2 :]))


def parse_signatures(data: bytes) -> tuple[NoteSignature, ...]:
    """Read one or more signature lines, as a witness answers with; Refused(bad-note or too-large)."""
    if len(data) > limits.MAX_NOTE_BYTES:
        raise Refused(Code.TOO_LARGE, f"signatures of {len(data)} bytes, at most {limits.MAX_NOTE_BYTES}")
    return _signatures(_decode(data))


def format_note(note: Note) -> bytes:
    """Write a note; ValueError if parse_note would not read it back."""
    data = (note.text + "\n" + "".join([signature.line() for signature in note.signatures])).encode()
    try:
        same = parse_note(data) == note
    except Refused as refusal:
        raise ValueError(f"not a note: {refusal.message}") from None
    if not same:
        raise ValueError("not a note: text or a signature does not survive its format")
    return data


def add_signatures(data: bytes, signatures: Iterable[NoteSignature]) -> bytes:
    """Return the note with further signatures below; those that it carries already are not repeated.

    Not verified here: whoever publishes a note verifies first what is added, for one bad line condemns it.
    """
    note = parse_note(data)
    return format_note(Note(note.text, tuple(dict.fromkeys((*note.signatures, *signatures)))))


def sign_note(text: str, name: str, key: SigningKey) -> str:
    """Sign a note's text with algorithm 1 and return the signature line, newline included.

    SPEC note-5: a signature of algorithm 1 MUST be Ed25519 over the text's bytes, final newline included.
    """
    if not text.endswith("\n") or not is_note_text(text):
        raise ValueError("a note's text ends in a newline and has no other control character")
    signer = NoteKey(name, ED25519, key.public)
    return NoteSignature(name, signer.hash, key.sign(text.encode())).line()


def open_note(data: bytes, known: Iterable[NoteKey]) -> tuple[Note, tuple[NoteKey, ...]]:
    """Read and verify a note: return it with the known keys that signed it, each once, in the order of their lines.

    Raises Refused(bad-note, too-large or bad-signature).
    """
    note = parse_note(data)
    return note, tuple(dict.fromkeys([key for key, _ in verify_signatures(note, known)]))


def verify_signatures(note: Note, known: Iterable[NoteKey]) -> list[tuple[NoteKey, NoteSignature]]:
    """Return the signatures by known keys, all verified, in the order of their lines; Refused(bad-signature).

    SPEC note-9: signatures by unknown keys MUST be ignored; a line is a known key's only if name and key hash match.
    SPEC note-11: a note with a signature by a known key that does not verify MUST be refused.
    SPEC note-12: a note without any signature by a known key MUST be refused.
    """
    by_id: dict[tuple[str, int], NoteKey] = {}
    for key in known:
        if by_id.setdefault((key.name, key.hash), key) != key:
            raise ValueError(f'two known keys named "{key.name}" share the key hash {key.hash:08x}')
    verified = []
    for signature in note.signatures:
        signer = by_id.get((signature.name, signature.key_hash))
        if signer is None:
            continue
        if not signer.verify(note.text, signature.data):
            raise Refused(Code.BAD_SIGNATURE, f'signature by "{signature.name}" does not verify')
        verified.append((signer, signature))
    if not verified:
        raise Refused(Code.BAD_SIGNATURE, "note is not signed by any known key")
    return verified


def _decode(data: bytes) -> str:
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError:
        raise Refused(Code.BAD_NOTE, "note is not UTF-8") from None
    if not is_note_text(text):
        raise Refused(Code.BAD_NOTE, "note contains a control character")
    return text


def _signatures(text: str) -> tuple[NoteSignature, ...]:
    if not text.endswith("\n"):
        raise Refused(Code.BAD_NOTE, "note has no signature line that ends in a newline")
    count = text.count("\n")
    if count > limits.MAX_NOTE_SIGNATURES:
        raise Refused(Code.TOO_LARGE, f"note with {count} signatures, at most {limits.MAX_NOTE_SIGNATURES}")
    return tuple([_signature(line) for line in text[:-1].split("\n")])


def _signature(line: str) -> NoteSignature:
    """SPEC note-4: a signature line MUST be an em dash, a space, a key name, a space and canonical base64."""
    name, space, encoded = line.removeprefix(_PREFIX).partition(" ")
    data = parse_base64(encoded)
    if not line.startswith(_PREFIX) or not space or not is_key_name(name) or data is None or len(data) <= _HASH_BYTES:
        raise Refused(Code.BAD_NOTE, f"not a signature line: {line[:80]}")
    return NoteSignature(name, int.from_bytes(data[:_HASH_BYTES], "big"), data[_HASH_BYTES:])
