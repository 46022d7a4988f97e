"""Receipts: a file that proves, offline and for ever, that one entry is on the log (C2SP tlog-proof).

c2sp.org/tlog-proof@v1
extra <base64>            optional; covered by no signature, and nothing rests on it
index <decimal>
<base64 hash>             the inclusion proof, the leaf's sibling first
                          blank line
<checkpoint>              the signed note, verbatim, with the quorum's cosignatures
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from pacekeeper.protocol import limits
from pacekeeper.protocol.errors import Code, Refused
from pacekeeper.protocol.tlog.checkpoint import Checkpoint
from pacekeeper.protocol.tlog.encoding import format_base64, parse_base64, parse_decimal
from pacekeeper.protocol.tlog.merkle import HASH_BYTES, check_inclusion, leaf_hash
from pacekeeper.protocol.tlog.note import parse_note
from pacekeeper.protocol.tlog.policy import CheckedCheckpoint, CosignaturePolicy, check_checkpoint
from pacekeeper.protocol.tlog.policy_file import PolicyFile, check_under

HEADER: Final = "c2sp.org/tlog-proof@v1"
MAX_EXTRA_BYTES: Final = limits.MAX_ENTRY_BYTES  # context for one entry, not more than an entry
# Header, extra, index, proof lines and blank line, before the note.
_MAX_HEAD_BYTES: Final = 23 + 6 + (MAX_EXTRA_BYTES + 2) // 3 * 4 + 1 + 26 + limits.MAX_PROOF_HASHES * 45 + 1
MAX_RECEIPT_BYTES: Final = _MAX_HEAD_BYTES + limits.MAX_NOTE_BYTES


@dataclass(frozen=True)
class Receipt:
    """Index of an entry, its inclusion proof, and the signed checkpoint that the proof refers to. Not verified."""

    index: int
    proof: tuple[bytes, ...]
    checkpoint_note: bytes
    extra: bytes = b""


def format_receipt(receipt: Receipt) -> bytes:
    """Write a ".tlog-proof" file; ValueError if parse_receipt would not read it back."""
    lines = [HEADER]
    if receipt.extra:
        lines.append(f"extra {format_base64(receipt.extra)}")
    lines.append(f"index {receipt.index}")
    lines.extend([format_base64(value) for value in receipt.proof])
    data = "\n".join([*lines, "", ""]).encode() + receipt.checkpoint_note
    try:
        parse_receipt(data)
    except Refused as refusal:
        raise ValueError(f"not a receipt: {refusal.message}") from None
    return data


def parse_receipt(data: bytes) -> Receipt:
    """Read a ".tlog-proof" file without verifying it; Refused(malformed, bad-note or too-large).

    SPEC receipt-1: a receipt MUST be the lines above in that order, and nothing else.
    SPEC receipt-2: a receipt with more than 63 hashes or 65,535 bytes of extra data MUST be refused.
    """
    if len(data) > _MAX_HEAD_BYTES + limits.MAX_NOTE_BYTES:
        raise Refused(Code.TOO_LARGE, f"receipt of {len(data)} bytes")
    head, blank, note = data.partition(b"\n\n")
    if not blank or len(head) > _MAX_HEAD_BYTES or not head.isascii():
        raise Refused(Code.MALFORMED, "receipt has no blank line before its checkpoint")
    lines = head.decode("ascii").split("\n")
    if lines.pop(0) != HEADER:
        raise Refused(Code.MALFORMED, f'receipt does not start with "{HEADER}"')
    extra = _extra(lines.pop(0)) if lines and lines[0].startswith("extra ") else b""
    index = parse_decimal(lines[0].removeprefix("index ")) if lines and lines[0].startswith("index ") else None
    if index is None:
        raise Refused(Code.MALFORMED, "receipt has no index line")
    proof = _proof(lines[1:])
    parse_note(note)
    return Receipt(index, proof, note, extra)


def check_receipt(receipt: Receipt, leaf: bytes, policy: CosignaturePolicy) -> CheckedCheckpoint:
    """Return the checkpoint if the receipt shows the entry `leaf` (its exact bytes) under the policy.

    1. The checkpoint meets the policy (as check_checkpoint).
    2. The proof shows the entry at the index in the checkpoint's tree (bad-proof).

    SPEC receipt-3: a receipt MUST be refused unless its checkpoint meets the policy and its proof leads to its root.
    SPEC receipt-4: the extra data MUST NOT be trusted; no check here reads it.
    """
    checked = check_checkpoint(receipt.checkpoint_note, policy)
    checkpoint = checked.checkpoint
    check_inclusion(leaf_hash(leaf), receipt.index, checkpoint.size, receipt.proof, checkpoint.root)
    return checked


def check_receipt_under(receipt: Receipt, leaf: bytes, policy: PolicyFile) -> tuple[Checkpoint, tuple[bytes, ...]]:
    """As check_receipt, under a policy file; the checkpoint, and the names of the witnesses that cosigned it."""
    checkpoint, cosigned = check_under(receipt.checkpoint_note, policy)
    check_inclusion(leaf_hash(leaf), receipt.index, checkpoint.size, receipt.proof, checkpoint.root)
    return checkpoint, cosigned


def _extra(line: str) -> bytes:
    extra = parse_base64(line.removeprefix("extra "))
    if not extra:
        raise Refused(Code.MALFORMED, "receipt's extra line is not base64, or empty")
    if len(extra) > MAX_EXTRA_BYTES:
        raise Refused(Code.TOO_LARGE, f"receipt with {len(extra)} bytes of extra data, at most {MAX_EXTRA_BYTES}")
    return extra


def _proof(lines: list[str]) -> tuple[bytes, ...]:
    if len(lines) > limits.MAX_PROOF_HASHES:
        raise Refused(Code.TOO_LARGE, f"receipt with {len(lines)} hashes, at most {limits.MAX_PROOF_HASHES}")
    proof = []
    for line in lines:
        value = parse_base64(line)
        if value is None or len(value) != HASH_BYTES:
            raise Refused(Code.MALFORMED, "receipt's proof has a line that is not the base64 of a hash")
        proof.append(value)
    return tuple(proof)
