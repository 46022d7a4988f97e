"""The log's stream of entries, verified: nothing is handed on before a quorum's checkpoint covers it.

`Follower` is the decision logic, without a socket. It takes the stream's messages as they come, holds entries back
until the checkpoint over exactly them has been checked, and compares its root with the tree of all entries so far.

Example: Follower(agreement.policy(), Frontier()).feed(message) -> VerifiedBatch or None
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from typing import Final

from pacekeeper.protocol import limits
from pacekeeper.protocol.errors import Code, Refused
from pacekeeper.protocol.tlog.merkle import Frontier, leaf_hash
from pacekeeper.protocol.tlog.policy import CheckedCheckpoint, CosignaturePolicy, check_checkpoint
from pacekeeper.v1 import log_pb2

# A log sends a checkpoint after each batch, but one that grows while we read from its beginning covers more than we
# have; whoever is further behind than this reads tiles (specs/transport.md).
MAX_HELD_BYTES: Final = 268_435_456


@dataclass(frozen=True)
class VerifiedBatch:
    """Consecutive entries from first_index on, their cosigned checkpoint, and the frontier of the tree after them."""

    first_index: int
    entries: tuple[bytes, ...]
    checkpoint: CheckedCheckpoint
    frontier: Frontier


class Follower:
    """Turns the stream's messages into verified batches, continuing a tree that the caller has verified before."""

    def __init__(self, policy: CosignaturePolicy, frontier: Frontier) -> None:
        self._policy = policy
        self._frontier = frontier.copy()
        self._first_held = frontier.size
        self._held: list[bytes] = []
        self._held_bytes = 0
        # Checkpoints over more than has arrived, ascending by size. Losing the oldest only delays its entries.
        self._ahead: deque[CheckedCheckpoint] = deque(maxlen=64)

    @property
    def size(self) -> int:
        """Entries received, verified or held: the index that the next one must have."""
        return self._frontier.size

    def feed(self, message: log_pb2.FollowResponse) -> VerifiedBatch | None:
        """Take one message; return the entries that it completes, if any. Refused: the log's stream is not right.

        SPEC transport-17: entries from the stream MUST NOT be used before a checkpoint with the quorum's cosignatures
        covers them and its root is that of all entries up to it.
        """
        match message.WhichOneof("item"):
            case "batch":
                return self._take_batch(message.batch)
            case "checkpoint":
                return self._take_checkpoint(check_checkpoint(message.checkpoint, self._policy))
            case _:
                raise Refused(Code.MALFORMED, "the log's stream has a message with nothing in it")

    def _take_batch(self, batch: log_pb2.EntryBatch) -> VerifiedBatch | None:
        if not batch.entries:
            raise Refused(Code.MALFORMED, "the log's stream has a batch without entries")
        if batch.first_index != self.size:
            raise Refused(Code.BAD_PROOF, f"the log's stream goes on at {batch.first_index} instead of {self.size}")
        released: list[VerifiedBatch] = []
        for entry in batch.entries:
            self._hold(entry)
            if self._ahead and self._ahead[0].checkpoint.size == self.size:
                released.append(self._release(self._ahead.popleft()))
        return _join(released) if released else None

    def _take_checkpoint(self, checked: CheckedCheckpoint) -> VerifiedBatch | None:
        size = checked.checkpoint.size
        if size > self.size:
            if not self._ahead or size > self._ahead[-1].checkpoint.size:
                self._ahead.append(checked)
            return None
        # A smaller one is an old tree with late cosignatures; it proves nothing about what is held.
        return self._release(checked) if size == self.size and self._held else None

    def _hold(self, entry: bytes) -> None:
        self._held_bytes += len(entry)
        if len(entry) > limits.MAX_ENTRY_BYTES or self._held_bytes > MAX_HELD_BYTES:
            raise Refused(Code.TOO_LARGE, "the log's stream has too much without a checkpoint over it")
        self._held.append(entry)
        self._frontier.append(leaf_hash(entry))

    def _release(self, checked: CheckedCheckpoint) -> VerifiedBatch:
        if self._frontier.root() != checked.checkpoint.root:
            raise Refused(Code.BAD_PROOF, f"checkpoint of size {self.size}: its root is not that of the log's entries")
        batch = VerifiedBatch(self._first_held, tuple(self._held), checked, self._frontier.copy())
        self._first_held, self._held, self._held_bytes = self.size, [], 0
        return batch


def _join(batches: list[VerifiedBatch]) -> VerifiedBatch:
    last = batches[-1]
    entries = tuple(entry for batch in batches for entry in batch.entries)
    return VerifiedBatch(batches[0].first_index, entries, last.checkpoint, last.frontier)
