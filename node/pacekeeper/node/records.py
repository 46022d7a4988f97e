"""The records of a lab's journal, one small type each. Meaning: specs/node.md.

Records are facts as the daemon learnt them, never conclusions: what to attest next, who is declared and how much a run
used are derived by folding them (ledger.py). They are written once and never edited, so a type only ever gains fields
at its end, with defaults.
"""

from __future__ import annotations

from typing import Final, TypeAlias

import msgspec

from pacekeeper.protocol.errors import Code, Refused

JOURNAL_VERSION: Final = 1

ATTESTATION: Final = "attestation"
GAP: Final = "gap"
CORRECTION: Final = "correction"
DECLARATION: Final = "declaration"
CHECKPOINT: Final = "checkpoint"
ADOPTED: Final = "adopted"
CHAINED: Final = frozenset({ATTESTATION, GAP, CORRECTION})


class Record(msgspec.Struct, frozen=True, array_like=True):
    """Base of all records: encoded as an array that begins with the type's name."""


class Opened(Record, frozen=True, array_like=True, tag="opened"):
    """First record of every journal: which lab, under which agreement and with which key it speaks."""

    version: int
    agreement: bytes
    lab: str
    key_id: bytes


class Pool(msgspec.Struct, frozen=True, array_like=True):
    """Accelerators of one model, as the configuration stated them."""

    model: str
    count: int
    peak_gflop_per_s: int
    utilisation_ppm: int


class Inventory(Record, frozen=True, array_like=True, tag="inventory"):
    """The accelerators that the lab holds from a moment on, and the margin of estimates made from their time."""

    at_ms: int
    pools: tuple[Pool, ...]
    chip_time_margin_ppm: int


class Up(Record, frozen=True, array_like=True, tag="up"):
    """The daemon began to watch: nothing is known about the time before it, back to the last beat."""

    at_ms: int


class Beat(Record, frozen=True, array_like=True, tag="beat"):
    """The daemon watched without a break from the last Up until this moment."""

    at_ms: int


class JobOpened(Record, frozen=True, array_like=True, tag="job"):
    """A training process announced itself. pool is the model of the accelerators that it was given."""

    at_ms: int
    job: str
    run: str
    chips: int
    pool: str
    method: int
    margin_ppm: int


class Usage(Record, frozen=True, array_like=True, tag="usage"):
    """Usage of one job within one period, cumulative within that period. Only ever raises what is known."""

    at_ms: int
    job: str
    period: int
    flop: bytes  # big-endian; it may pass 64 bits
    steps: int
    chip_ms: int
    as_of_ms: int = 0  # until when it speaks, where that is not at_ms: a spool file is older than its reading


class Split(Record, frozen=True, array_like=True, tag="split"):
    """A constraint on the lab begins, bites or ends at a moment inside a period, whose figures are split there."""

    at_ms: int
    period: int
    time_ms: int


class Uncounted(Record, frozen=True, array_like=True, tag="uncounted"):
    """A job's count is incomplete from a period on. notes: what it could not count, as far as that is news."""

    at_ms: int
    job: str
    since_period: int
    notes: tuple[str, ...]


class CheckpointTaken(Record, frozen=True, array_like=True, tag="taken"):
    """A job saved a model checkpoint. statement is the identity of the CheckpointRecord that stands for it."""

    at_ms: int
    job: str
    run: str
    digest: bytes
    statement: bytes


class JobClosed(Record, frozen=True, array_like=True, tag="closed"):
    """The job said that no report follows."""

    at_ms: int
    job: str


class Signed(Record, frozen=True, array_like=True, tag="signed"):
    """A statement that was signed. Its exact envelope leaves only after this record is on disk."""

    at_ms: int
    kind: str
    sequence: int  # 0 for statements outside the chain
    envelope: bytes


class Rekeyed(Record, frozen=True, array_like=True, tag="rekeyed"):
    """The log has put another key of the lab's in force, and the daemon signs with it from now on."""

    at_ms: int
    key_id: bytes
    epoch: int


class SignedAgain(Record, frozen=True, array_like=True, tag="signed-again"):
    """A statement that waited when its key was retired, now signed by the key in force: the same payload."""

    at_ms: int
    id: bytes
    envelope: bytes


class Adopted(Record, frozen=True, array_like=True, tag="adopted"):
    """Somebody else signed this with the lab's key, before the parties replaced it; it stands on the log."""

    at_ms: int
    envelope: bytes
    index: int
    sequenced_at_ms: int


class Delivered(Record, frozen=True, array_like=True, tag="delivered"):
    """A receipt that verified against the quorum. proof is the self-contained tlog-proof."""

    at_ms: int
    id: bytes
    index: int
    sequenced_at_ms: int
    tree_size: int
    proof: bytes


class TurnedDown(Record, frozen=True, array_like=True, tag="turned-down"):
    """The log refused a statement outside the chain for good; it is not sent again."""

    at_ms: int
    id: bytes
    code: str
    message: str


class LogSeen(Record, frozen=True, array_like=True, tag="log-seen"):
    """How far the daemon has read the log without finding a statement of the lab's that the journal does not know.

    frontier: the tree's compact range at that size, from which reading goes on. founded_ms: log time of entry 0;
    log_ms: of the last entry read.
    """

    at_ms: int
    size: int
    frontier: tuple[bytes, ...]
    founded_ms: int
    log_ms: int


AnyRecord: TypeAlias = (
    Opened
    | Inventory
    | Up
    | Beat
    | JobOpened
    | Usage
    | Split
    | Uncounted
    | CheckpointTaken
    | JobClosed
    | Signed
    | Rekeyed
    | SignedAgain
    | Adopted
    | Delivered
    | TurnedDown
    | LogSeen
)  # fmt: skip

_encoder: Final = msgspec.msgpack.Encoder()
_decoder: Final[msgspec.msgpack.Decoder[AnyRecord]] = msgspec.msgpack.Decoder(AnyRecord)


def encode_record(record: Record) -> bytes:
    """Serialize a record."""
    return _encoder.encode(record)


def decode_record(data: bytes) -> AnyRecord:
    """Parse a record; Refused(unsafe-state) if no version of this program wrote it."""
    try:
        return _decoder.decode(data)
    except msgspec.DecodeError as problem:
        raise Refused(Code.UNSAFE_STATE, f"not a journal record of this version: {problem}") from None
