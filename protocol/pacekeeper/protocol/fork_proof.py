"""Fork proofs: two checkpoints that cannot both be true, in one file that convicts the log on any machine, offline.

Of one size, two roots are enough. Of different sizes, the larger tree is shown to begin with another tree than the
smaller one: a consistency proof leads from that other root, over as many entries, to the larger tree's root, and no
tree has two such roots. The agreement is in the file, so that its fingerprint alone has to be known from elsewhere.

The file is one JSON object: format, agreement, first, second, prefix and consistency, the last two only where the sizes
differ. first is the smaller tree's checkpoint.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final, NamedTuple

from pacekeeper.protocol import limits
from pacekeeper.protocol.documents.agreement import Agreement, compile_agreement
from pacekeeper.protocol.documents.blocks import DocumentError
from pacekeeper.protocol.errors import Code, Refused
from pacekeeper.protocol.tlog.checkpoint import Checkpoint, parse_checkpoint
from pacekeeper.protocol.tlog.encoding import format_base64, parse_base64
from pacekeeper.protocol.tlog.merkle import HASH_BYTES, check_consistency, prove_consistency, subtree_root
from pacekeeper.protocol.tlog.note import open_note

FORMAT: Final = "pacekeeper-fork-v1"
MAX_BYTES: Final = 2 * (limits.MAX_DOCUMENT_BYTES + 2 * limits.MAX_NOTE_BYTES)  # JSON may escape what it holds
_FIELDS: Final = {"format", "agreement", "first", "second"}
_BOTH: Final = _FIELDS | {"prefix", "consistency"}


@dataclass(frozen=True)
class ForkProof:
    """agreement: the document. first, second: signed notes. prefix: the root over as many entries as the first has, in
    the second's tree, and the consistency proof from there; both empty for trees of one size."""

    agreement: bytes
    first: bytes
    second: bytes
    prefix: bytes = b""
    consistency: tuple[bytes, ...] = ()


class Convicted(NamedTuple):
    """What a proof shows: of which agreement's log, and the two trees."""

    agreement: Agreement
    first: Checkpoint
    second: Checkpoint


def prove_fork(
    agreement: Agreement, one: bytes, other: bytes, read_subtree: Callable[[bytes], Callable[[int, int], bytes]]
) -> ForkProof | None:
    """Return the proof that two checkpoints of the agreement's log cannot both be true; None if they can.

    read_subtree(note) gives the subtrees of the tree under one of the two notes, as merkle's functions take them; it is
    asked for the larger one's. Refused if a note is not the log's, or if those subtrees are not of its tree.
    """
    pair = sorted(((_open(note, agreement), note) for note in (one, other)), key=lambda item: item[0].size)
    (smaller, first), (larger, second) = pair
    if smaller.size == larger.size:
        return None if smaller.root == larger.root else ForkProof(agreement.document, first, second)
    if smaller.size == 0:
        return None
    reader = read_subtree(second)
    prefix = subtree_root(0, smaller.size, reader)
    consistency = tuple(prove_consistency(smaller.size, larger.size, reader))
    check_consistency(smaller.size, prefix, larger.size, larger.root, consistency)
    return None if prefix == smaller.root else ForkProof(agreement.document, first, second, prefix, consistency)


def check_fork_proof(proof: ForkProof) -> Convicted:
    """Return whom a proof convicts; Refused(bad-evidence, or what is wrong with a part) if it convicts nobody.

    SPEC evidence-6: two checkpoints of the agreement's origin, both signed with the log's key, MUST convict it if they
    have one size and two roots, or if a consistency proof shows the larger tree to begin with another tree than the
    smaller one.
    """
    try:
        agreement = compile_agreement(proof.agreement)
    except DocumentError as error:
        raise Refused(Code.BAD_DOCUMENT, f"the agreement in the proof: {error}") from None
    first, second = _open(proof.first, agreement), _open(proof.second, agreement)
    if first.size == second.size:
        if proof.prefix or proof.consistency:
            raise Refused(Code.BAD_EVIDENCE, "a consistency proof between trees of one size")
        shown = second.root
    else:
        check_consistency(first.size, proof.prefix, second.size, second.root, proof.consistency)
        shown = proof.prefix
    if first.size == 0 or shown == first.root:
        raise Refused(Code.BAD_EVIDENCE, "the two trees can both be true")
    return Convicted(agreement, first, second)


def _open(note_bytes: bytes, agreement: Agreement) -> Checkpoint:
    note, _ = open_note(note_bytes, [agreement.log.key])
    checkpoint = parse_checkpoint(note.text)
    if checkpoint.origin != agreement.origin:
        raise Refused(Code.BAD_CHECKPOINT, f'a checkpoint of "{checkpoint.origin}", not of "{agreement.origin}"')
    return checkpoint


def format_fork_proof(proof: ForkProof) -> bytes:
    """Write a proof's file."""
    fields: dict[str, Any] = {
        "format": FORMAT,
        "agreement": proof.agreement.decode(),
        "first": proof.first.decode(),
        "second": proof.second.decode(),
    }
    if proof.prefix:
        fields["prefix"] = format_base64(proof.prefix)
        fields["consistency"] = [format_base64(each) for each in proof.consistency]
    return json.dumps(fields, indent=1, ensure_ascii=False).encode() + b"\n"


def parse_fork_proof(data: bytes) -> ForkProof:
    """Read a proof's file; Refused(malformed or too-large)."""
    if len(data) > MAX_BYTES:
        raise Refused(Code.TOO_LARGE, f"a fork proof of {len(data)} bytes, at most {MAX_BYTES}")
    try:
        fields = json.loads(data)
    except (ValueError, RecursionError):
        raise Refused(Code.MALFORMED, "a fork proof is one JSON object") from None
    if not isinstance(fields, dict) or fields.get("format") != FORMAT or fields.keys() not in (_FIELDS, _BOTH):
        raise Refused(Code.MALFORMED, f'a fork proof is one JSON object of the format "{FORMAT}"')
    texts = [_bytes(fields[name]) for name in ("agreement", "first", "second")]
    lines = fields.get("consistency", [])
    hashes = [_hash(line) for line in lines] if isinstance(lines, list) else [None]
    prefix = _hash(fields["prefix"]) if "prefix" in fields else b""
    known = [each for each in (prefix, *hashes) if each is not None]
    if None in texts or len(known) != 1 + len(hashes) or len(hashes) > limits.MAX_PROOF_HASHES:
        raise Refused(Code.MALFORMED, "a field of the fork proof is not what it should be")
    agreement, first, second = (each for each in texts if each is not None)
    return ForkProof(agreement, first, second, known[0], tuple(known[1:]))


def _bytes(value: object) -> bytes | None:
    if not isinstance(value, str):
        return None
    try:
        return value.encode()
    except UnicodeEncodeError:  # a lone surrogate, which JSON can escape
        return None


def _hash(value: object) -> bytes | None:
    data = parse_base64(value) if isinstance(value, str) else None
    return data if data is not None and len(data) == HASH_BYTES else None
