"""The log's stream of entries, verified: nothing is handed on before a quorum's checkpoint covers it.

`Follower` is the decision logic, without a socket. It takes the stream's messages as they come, holds entries back
until the checkpoint over exactly them has been checked, and compares its root with the tree of all entries so far.

Where the entries change the verifiers, the next checkpoint is believed when both quorums have cosigned it; the caller
replays, and so knows who the next ones are.

Example: for batch in Follower(PolicyChain(agreement.policy()), Frontier(), policy_now).feed(message): replay(batch)
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Final

from pacekeeper.protocol import limits
from pacekeeper.protocol.errors import Code, Refused
from pacekeeper.protocol.tlog.checkpoint import parse_checkpoint
from pacekeeper.protocol.tlog.merkle import Frontier, leaf_hash
from pacekeeper.protocol.tlog.note import parse_note
from pacekeeper.protocol.tlog.policy import CheckedCheckpoint, CosignaturePolicy
from pacekeeper.protocol.tlog.transitions import PolicyChain
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
    """Turns the stream's messages into verified batches, continuing a tree that the caller has verified before.

    chain: whose cosignatures count, as far as was followed. own: asked after each batch for the policy of the agreement
    in force in the tree so far, which the caller has replayed by then (None before entry 0). Without it, for one who
    does not replay, the verifiers stay those of the chain.
    """

    def __init__(
        self, chain: PolicyChain, frontier: Frontier, own: Callable[[], CosignaturePolicy | None] | None = None
    ) -> None:
        self._chain = chain
        self._replayed = own
        self._frontier = frontier.copy()
        self._first_held = frontier.size
        self._held: list[bytes] = []
        self._held_bytes = 0
        # Checkpoints over more than has arrived, ascending by size. Losing the oldest only delays its entries.
        self._ahead: deque[tuple[int, bytes]] = deque(maxlen=64)

    @property
    def size(self) -> int:
        """Entries received, verified or held: the index that the next one must have."""
        return self._frontier.size

    def _own(self) -> CosignaturePolicy:
        return (self._replayed() if self._replayed else None) or self._chain.policy

    def feed(self, message: log_pb2.FollowResponse) -> Iterator[VerifiedBatch]:
        """Take one message and yield what it completes; each batch is to be replayed before the next is asked for.

        Raises Refused where the log's stream is not right.
        SPEC transport-17: entries from the stream MUST NOT be used before a checkpoint with the quorum's cosignatures
        covers them and its root is that of all entries up to it.
        """
        match message.WhichOneof("item"):
            case "batch":
                yield from self._take_batch(message.batch)
            case "checkpoint":
                yield from self._take_checkpoint(message.checkpoint)
            case _:
                raise Refused(Code.MALFORMED, "the log's stream has a message with nothing in it")

    def _take_batch(self, batch: log_pb2.EntryBatch) -> Iterator[VerifiedBatch]:
        if not batch.entries:
            raise Refused(Code.MALFORMED, "the log's stream has a batch without entries")
        if batch.first_index != self.size:
            raise Refused(Code.BAD_PROOF, f"the log's stream goes on at {batch.first_index} instead of {self.size}")
        for entry in batch.entries:
            self._hold(entry)
            if self._ahead and self._ahead[0][0] == self.size:
                yield from self._release(self._ahead.popleft()[1])

    def _take_checkpoint(self, note: bytes) -> Iterator[VerifiedBatch]:
        size = parse_checkpoint(parse_note(note).text).size
        if size > self.size:
            if not self._ahead or size > self._ahead[-1][0]:
                self._ahead.append((size, note))
        # A smaller one is an old tree with late cosignatures; it proves nothing about what is held.
        elif size == self.size:
            yield from self._release(note)

    def _hold(self, entry: bytes) -> None:
        self._held_bytes += len(entry)
        if len(entry) > limits.MAX_ENTRY_BYTES or self._held_bytes > MAX_HELD_BYTES:
            raise Refused(Code.TOO_LARGE, "the log's stream has too much without a checkpoint over it")
        self._held.append(entry)
        self._frontier.append(leaf_hash(entry))

    def _release(self, note: bytes) -> Iterator[VerifiedBatch]:
        """Hand on what is held, under a checkpoint over exactly that, and pass to its tree's own verifiers."""
        if not self._held and self._own() == self._chain.policy:
            return  # the same tree with other cosignatures
        checked = self._open(note)
        if self._frontier.root() != checked.checkpoint.root:
            raise Refused(Code.BAD_PROOF, f"checkpoint of size {self.size}: its root is not that of the log's entries")
        if self._held:
            batch = VerifiedBatch(self._first_held, tuple(self._held), checked, self._frontier.copy())
            self._first_held, self._held, self._held_bytes = self.size, [], 0
            yield batch
        # SPEC transition-11: who follows MUST NOT go on past a change of the verifiers that no transition shows.
        self._chain.settle(checked, self._own())

    def _open(self, note: bytes) -> CheckedCheckpoint:
        try:
            return self._chain.check(note)
        except Refused as refused:
            if self._own() == self._chain.policy:
                raise
            sentence = f"the verifiers changed, and no checkpoint with both quorums shows it: {refused.message}"
            raise Refused(Code.BAD_TRANSITION, sentence) from None
