"""The witness's decision: from what was cosigned before, the own replayed tree and a checkpoint, to cosign or refuse.

Pure: the clock's reading is a parameter, and what is to be persisted comes back as a value. Persisting it before the
signature is made, and signing, are the caller's (ledger). One key never signs two trees of one size, because every
decision starts from the persisted state, and the state that it returns is at least as large.

Example: judge(FRESH, own, note, now_ms, terms).witness.size == own.size
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from pacekeeper.protocol.errors import Code, Refused
from pacekeeper.protocol.tlog.checkpoint import Checkpoint
from pacekeeper.protocol.tlog.merkle import EMPTY_ROOT
from pacekeeper.protocol.tlog.policy import CheckedCheckpoint, CosignaturePolicy, check_checkpoint


@dataclass(frozen=True)
class WitnessState:
    """The last tree that this verifier cosigned, or has decided to: what is persisted before any signature.

    head_ms is the log time of its last entry, cosigned_at_ms the time that the cosignature bears, note the checkpoint
    as the log signed it. Size 0 is a verifier that has cosigned nothing yet.
    """

    size: int
    root: bytes
    head_ms: int
    cosigned_at_ms: int
    note: bytes


FRESH: Final = WitnessState(size=0, root=EMPTY_ROOT, head_ms=0, cosigned_at_ms=0, note=b"")


@dataclass(frozen=True)
class OwnTree:
    """The tree of the entries that this verifier has stored and replayed itself.

    head_ms is the highest log time among them; ran_back_at the index of the first whose time is below one before it.
    """

    size: int
    root: bytes
    head_ms: int
    ran_back_at: int | None


@dataclass(frozen=True)
class Terms:
    """What the agreement says about cosigning: whose signature a checkpoint needs, and how far clocks may differ."""

    policy: CosignaturePolicy
    tolerance_ms: int


@dataclass(frozen=True)
class Cosign:
    """The decision to cosign: persist witness, then sign text with the time time_ms.

    repeated: the same tree was decided before; witness is then what is persisted already.
    """

    text: str
    witness: WitnessState
    time_ms: int
    repeated: bool


def judge(before: WitnessState, own: OwnTree, note: bytes, now_ms: int, terms: Terms) -> Cosign:
    """Decide about a checkpoint; before is the persisted state, own the tree of everything stored.

    1. It is a note of this origin that the log's key signed, without extension lines and over at least one entry.
    2. It is no smaller than the tree cosigned before; the same size is the same tree, and then it is cosigned again.
    3. It covers exactly the entries stored and replayed, and its root is theirs.
    4. Log time never runs back in it.
    5. Its head's time is within tolerance of the clock.

    Raises Refused: bad-note, bad-checkpoint, bad-signature, rolled-back, wrong-root, time-runs-back, clock-disagrees.
    """
    checked = open_checkpoint(note, terms.policy)
    checkpoint, text = checked.checkpoint, checked.note.text
    # SPEC verifier-10: a cosignature's time MUST NOT be before the time of the last decision.
    time_ms = max(now_ms, before.cosigned_at_ms)
    if checkpoint.size <= before.size:
        _check_not_behind(before, checkpoint)
        return Cosign(text, before, time_ms, repeated=True)
    _check_same_tree(own, checkpoint)
    _check_time(own, now_ms, terms.tolerance_ms)
    witness = WitnessState(
        size=checkpoint.size,
        root=checkpoint.root,
        head_ms=own.head_ms,
        cosigned_at_ms=time_ms,
        note=note,
    )
    return Cosign(text, witness, time_ms, repeated=False)


def open_checkpoint(note: bytes, policy: CosignaturePolicy) -> CheckedCheckpoint:
    """Open a checkpoint that the log signed, with or without cosignatures, and check its shape (step 1).

    SPEC verifier-1: a checkpoint MUST be refused unless it is a signed note of the agreement's origin that the log's
    checkpoint key signed, covers at least one entry and has no extension lines.
    """
    checked = check_checkpoint(note, policy, require_quorum=False)
    if checked.checkpoint.size == 0:
        raise Refused(Code.BAD_CHECKPOINT, "checkpoint covers no entry")
    if checked.checkpoint.extension:
        raise Refused(Code.BAD_CHECKPOINT, "checkpoint has extension lines, which a cosignature would vouch for")
    return checked


def _check_not_behind(before: WitnessState, checkpoint: Checkpoint) -> None:
    # SPEC verifier-2: a tree smaller than one cosigned before MUST NOT be cosigned.
    if checkpoint.size < before.size:
        raise Refused(
            Code.ROLLED_BACK, f"checkpoint covers {checkpoint.size} entries, and {before.size} are cosigned already"
        )
    # SPEC verifier-3: one size MUST NOT be cosigned with two roots; the same tree again MUST be cosigned again.
    if checkpoint.root != before.root:
        raise Refused(Code.WRONG_ROOT, f"another tree of {before.size} entries is cosigned already")


def _check_same_tree(own: OwnTree, checkpoint: Checkpoint) -> None:
    # SPEC verifier-4: a tree MUST NOT be cosigned unless all of its entries, and no others, are stored and replayed.
    if checkpoint.size != own.size:
        raise Refused(
            Code.BAD_CHECKPOINT, f"checkpoint covers {checkpoint.size} entries, but {own.size} have been pushed"
        )
    # SPEC verifier-5: a checkpoint whose root is not that of the stored entries MUST NOT be cosigned.
    if checkpoint.root != own.root:
        raise Refused(Code.WRONG_ROOT, f"root of the checkpoint is not that of the {own.size} entries pushed")


def _check_time(own: OwnTree, now_ms: int, tolerance_ms: int) -> None:
    # SPEC verifier-6: a tree in which an entry's log time is below that of an entry before it MUST NOT be cosigned.
    if own.ran_back_at is not None:
        raise Refused(Code.TIME_RUNS_BACK, f"log time runs back at entry {own.ran_back_at}")
    # SPEC verifier-7: a tree with an entry later than the verifier's clock plus tolerance MUST NOT be cosigned.
    if own.head_ms > now_ms + tolerance_ms:
        raise Refused(Code.CLOCK_DISAGREES, f"head is {own.head_ms - now_ms} ms ahead of this verifier's clock")
    # SPEC verifier-8: a tree whose head is older than the verifier's clock minus tolerance MUST NOT be cosigned, so
    # that the log cannot date an entry back; a Tick makes a fresh head.
    if own.head_ms < now_ms - tolerance_ms:
        raise Refused(Code.CLOCK_DISAGREES, f"head is {now_ms - own.head_ms} ms behind this verifier's clock")
