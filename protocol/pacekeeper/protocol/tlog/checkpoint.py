"""Checkpoints: what a log says its tree is, as the text of a signed note (C2SP tlog-checkpoint).

example.org/pacekeeper                            the log's origin
20852163                                          the tree's size
CsUYapGGPo4dkMgIAUqom/Xajj7h2fB2MPA3j2jxq2I=      its root
                                                  extension lines, if any: opaque, and nothing rests on them
"""

from __future__ import annotations

from dataclasses import dataclass

from pacekeeper.protocol import limits
from pacekeeper.protocol.errors import Code, Refused
from pacekeeper.protocol.keys import SigningKey
from pacekeeper.protocol.tlog.encoding import format_base64, parse_base64, parse_decimal
from pacekeeper.protocol.tlog.merkle import EMPTY_ROOT, HASH_BYTES
from pacekeeper.protocol.tlog.note import sign_note
from pacekeeper.protocol.tlog.vkey import is_note_text


@dataclass(frozen=True)
class Checkpoint:
    """A tree of one log: origin, number of leaves, root hash, and extension lines. ValueError if it cannot be one."""

    origin: str
    size: int
    root: bytes
    extension: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if not all(line and "\n" not in line and is_note_text(line) for line in (self.origin, *self.extension)):
            raise ValueError("a checkpoint's lines are non-empty text without control characters")
        if not 0 <= self.size <= limits.MAX_TREE_SIZE:
            raise ValueError(f"no tree has size {self.size}")
        if len(self.root) != HASH_BYTES:
            raise ValueError("a root hash has 32 bytes")
        if self.size == 0 and self.root != EMPTY_ROOT:
            raise ValueError("root of the empty tree is not the one it has")


def format_checkpoint(checkpoint: Checkpoint) -> str:
    """Write the text of the note, final newline included."""
    lines = (checkpoint.origin, str(checkpoint.size), format_base64(checkpoint.root), *checkpoint.extension)
    return "\n".join(lines) + "\n"


def parse_checkpoint(text: str) -> Checkpoint:
    """Read a note's text as a checkpoint; Refused(bad-checkpoint).

    SPEC note-13: a checkpoint MUST have at least three lines, none empty: origin, size, root hash.
    SPEC note-14: a checkpoint of size 0 MUST have the root of the empty tree.
    """
    lines = text.split("\n")
    if len(lines) < 4 or lines.pop() != "":
        raise Refused(Code.BAD_CHECKPOINT, "checkpoint has fewer than three lines, or no newline at its end")
    size, root = parse_decimal(lines[1]), parse_base64(lines[2])
    if size is None:
        raise Refused(Code.BAD_CHECKPOINT, f"checkpoint's size is not a decimal up to {limits.MAX_TREE_SIZE}")
    if root is None:
        raise Refused(Code.BAD_CHECKPOINT, "checkpoint's root hash is not base64")
    try:
        return Checkpoint(lines[0], size, root, tuple(lines[3:]))
    except ValueError as error:
        raise Refused(Code.BAD_CHECKPOINT, f"not a checkpoint: {error}") from None


def sign_checkpoint(checkpoint: Checkpoint, name: str, key: SigningKey) -> bytes:
    """Return the checkpoint as a note signed by the log under its name (by custom the origin)."""
    text = format_checkpoint(checkpoint)
    return f"{text}\n{sign_note(text, name, key)}".encode()
