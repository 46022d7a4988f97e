"""C2SP tlog-witness: what a log asks a witness for, and what a witness decides. Pure.

    old 20852014                        the size of the tree that the witness cosigned last
    PlRNCrwHpqhGrupue0L7gxbj...         the consistency proof from there, one hash a line
                                        <- blank line
    example.com/behind-the-sofa         the checkpoint, as the log signed it

A witness knows a log by its origin and keys, and of each the last tree that it cosigned. It vouches for one thing: that
the tree only ever grew. What the entries are it neither sees nor says.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple

from pacekeeper.protocol import limits
from pacekeeper.protocol.errors import Code, Refused
from pacekeeper.protocol.tlog.checkpoint import Checkpoint, parse_checkpoint
from pacekeeper.protocol.tlog.encoding import format_base64, parse_base64, parse_decimal
from pacekeeper.protocol.tlog.merkle import EMPTY_ROOT, HASH_BYTES, check_consistency
from pacekeeper.protocol.tlog.note import Note, parse_note, verify_signatures
from pacekeeper.protocol.tlog.vkey import NoteKey

MAX_PROOF: Final = limits.MAX_PROOF_HASHES
MAX_REQUEST_BYTES: Final = limits.MAX_NOTE_BYTES + 32 + MAX_PROOF * 45
SIZE_TYPE: Final = "text/x.tlog.size"
_OLD: Final = "old "

OK, BAD_REQUEST, FORBIDDEN, NOT_FOUND, CONFLICT, UNPROCESSABLE = 200, 400, 403, 404, 409, 422


class Tree(NamedTuple):
    """The tree that was cosigned last: its size and root. EMPTY before the first."""

    size: int
    root: bytes


EMPTY: Final = Tree(0, EMPTY_ROOT)


@dataclass(frozen=True)
class AddCheckpoint:
    """A request: the size that the log believes to be cosigned, the proof from there, and the checkpoint as a note."""

    old_size: int
    proof: tuple[bytes, ...]
    note: bytes


@dataclass(frozen=True)
class Rejection:
    """An HTTP status with what is said. size_only: the body is the size cosigned last, for the log to begin from."""

    status: int
    message: str
    size_only: bool = False


@dataclass(frozen=True)
class Cosigning:
    """The decision to cosign: persist tree for origin, if it still is what the decision began from, and then sign."""

    origin: str
    tree: Tree
    note: Note


def format_request(request: AddCheckpoint) -> bytes:
    """Write a request's body."""
    lines = [f"{_OLD}{request.old_size}", *(format_base64(each) for each in request.proof)]
    return "\n".join([*lines, "", ""]).encode() + request.note


def parse_request(body: bytes) -> AddCheckpoint:
    """Read a request's body; Refused(malformed or too-large).

    SPEC witness-1: a body MUST be the line "old" with a size, at most 63 hashes in base64, one a line, an empty line,
    and a signed note.
    """
    if len(body) > MAX_REQUEST_BYTES:
        raise Refused(Code.TOO_LARGE, f"request of {len(body)} bytes, at most {MAX_REQUEST_BYTES}")
    head, separator, note = body.partition(b"\n\n")
    try:
        first, *lines = head.decode("ascii").split("\n")
    except UnicodeDecodeError:
        raise Refused(Code.MALFORMED, "a request begins with ASCII lines") from None
    old_size = parse_decimal(first.removeprefix(_OLD)) if first.startswith(_OLD) else None
    if old_size is None or not separator:
        raise Refused(Code.MALFORMED, 'a request begins with "old" and a size, and has an empty line before its note')
    if len(lines) > MAX_PROOF:
        raise Refused(Code.TOO_LARGE, f"a proof of {len(lines)} hashes, at most {MAX_PROOF}")
    proof = [parse_base64(line) for line in lines]
    if any(each is None or len(each) != HASH_BYTES for each in proof):
        raise Refused(Code.MALFORMED, "a line of the proof is not the base64 of a hash")
    return AddCheckpoint(old_size, tuple([each for each in proof if each is not None]), note)


def decide(
    request: AddCheckpoint, logs: Mapping[str, Collection[NoteKey]], cosigned: Mapping[str, Tree]
) -> Cosigning | Rejection:
    """Decide about a checkpoint; logs are the trusted keys by origin, cosigned the last trees by origin.

    In the order of C2SP: the origin is known (404), the log signed (403), the old size is not beyond the checkpoint's
    (400) and is the one cosigned last (409), the proof holds (422); of one size there is one root (409).
    """
    try:
        note = parse_note(request.note)
        checkpoint = parse_checkpoint(note.text)
    except Refused as refusal:
        return Rejection(BAD_REQUEST, refusal.message)
    # SPEC witness-2: a checkpoint of an origin that is not known MUST be answered with 404.
    keys = logs.get(checkpoint.origin)
    if keys is None:
        return Rejection(NOT_FOUND, "no log with that origin is witnessed here")
    # SPEC witness-3: one that no trusted key of the log has signed MUST be answered with 403.
    try:
        verify_signatures(note, keys)
    except Refused as refusal:
        return Rejection(FORBIDDEN, refusal.message)
    # SPEC witness-4: an old size beyond the checkpoint's MUST be answered with 400.
    if request.old_size > checkpoint.size:
        return Rejection(BAD_REQUEST, "the old size is beyond the checkpoint's")
    # SPEC witness-5: an old size that is not that of the tree cosigned last MUST be answered with 409 and that size.
    last = cosigned.get(checkpoint.origin, EMPTY)
    if request.old_size != last.size:
        return Rejection(CONFLICT, f"{last.size}\n", size_only=True)
    return _growth(request.proof, last, checkpoint) or Cosigning(
        checkpoint.origin, Tree(checkpoint.size, checkpoint.root), note
    )


def _growth(proof: Sequence[bytes], last: Tree, checkpoint: Checkpoint) -> Rejection | None:
    # SPEC witness-6: another root of the size cosigned last MUST be answered with 409, and with that size.
    if checkpoint.size == last.size and checkpoint.root != last.root:
        return Rejection(CONFLICT, f"{last.size}\n", size_only=True)
    # SPEC witness-7: a proof that does not lead from the tree cosigned last MUST be answered with 422, and so one that
    # is not empty where nothing is to be proved.
    try:
        check_consistency(last.size, last.root, checkpoint.size, checkpoint.root, proof)
    except Refused as refusal:
        return Rejection(UNPROCESSABLE, refusal.message)
    return None
