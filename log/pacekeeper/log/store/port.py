"""The store port: entries in batches, the tree head, the index of identities and the published checkpoints.

Rules of every store, held by one contract suite (tests/log/test_store_contract.py):

- A batch is committed whole or not at all, together with the new head, by compare-and-swap on the old one.
- When commit returns, the batch is durable.
- After a failure of the medium during a write the store refuses everything that writes, for good: what is on disk is
  then unknown, and only a restart that re-reads every byte may go on.
- Reads may run in any thread at any time; writes are serialised by the store itself.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from pacekeeper.protocol.errors import Code, Refused


@dataclass(frozen=True, slots=True)
class Head:
    """The tree over everything committed. time_ms is the last entry's log time."""

    size: int
    root: bytes
    time_ms: int


@dataclass(frozen=True, slots=True)
class Slot:
    """A lab's sequence number, and the index of the statement that took it."""

    lab: str
    sequence: int
    index: int


@dataclass(frozen=True, slots=True)
class Batch:
    """Entries to commit together: entries[i] gets index first_index + i and has identity ids[i]."""

    first_index: int
    entries: Sequence[bytes]
    ids: Sequence[bytes]
    slots: Sequence[Slot]
    head: Head

    def __post_init__(self) -> None:
        if not self.entries:
            raise ValueError("an empty batch")
        if len(self.entries) != len(self.ids):
            raise ValueError("every entry has one identity")
        if self.head.size != self.first_index + len(self.entries):
            raise ValueError("the head does not cover the batch")


@dataclass(frozen=True, slots=True)
class StoredBatch:
    """A batch as it was committed. root is the tree's after it, so that damage is named by its range.

    ids are the identities by which its entries are found, all in one.
    """

    first_index: int
    entries: list[bytes]
    root: bytes
    ids: bytes


class Store(Protocol):
    """See the module's rules. Failures raise Refused(unsafe-state)."""

    def head(self) -> Head | None:
        """Return the head, None while nothing is committed."""

    def commit(self, batch: Batch, expected: Head | None) -> None:
        """Make the batch durable if the head is still `expected`; Refused(unsafe-state) if it is not."""

    def root_at(self, size: int) -> bytes | None:
        """Return the tree's root after the batch that ended at this size, None if none did."""

    def known(self, ids: Sequence[bytes]) -> Mapping[bytes, int]:
        """Return the indices of those identities that are on the log."""

    def slot(self, lab: str, sequence: int) -> int | None:
        """Return the index of the statement that took this sequence number of the lab."""

    def read(self, first: int, end: int, max_bytes: int) -> list[bytes]:
        """Return entries from `first`, before `end`, stopping once max_bytes are reached; at least one if any."""

    def batches(self) -> Iterator[StoredBatch]:
        """Yield everything in order, as committed."""

    def published(self) -> bytes | None:
        """Return the last published checkpoint note."""

    def publish(self, note: bytes, *, transition: bool = False) -> None:
        """Keep this as the published checkpoint note, durably; a transition checkpoint, in the same write, for ever."""

    def transitions(self) -> list[bytes]:
        """Return the transition checkpoints in order, each as it was published."""

    def counts(self) -> tuple[int, int]:
        """Return how many identities and how many slots the indices hold."""

    def close(self) -> None: ...


def check_successor(batch: Batch, current: Head | None, expected: Head | None) -> None:
    """Refused(unsafe-state) unless the batch may follow the head.

    SPEC log-3: a head MUST replace exactly the head that it was computed from, and its time MUST NOT run backwards.
    """
    if current != expected:
        raise Refused(Code.UNSAFE_STATE, "the stored head is not the one that this log has computed from")
    if batch.first_index != (current.size if current else 0):
        raise Refused(Code.UNSAFE_STATE, f"batch begins at index {batch.first_index}, not at the stored head")
    if current is not None and batch.head.time_ms < current.time_ms:
        raise Refused(Code.UNSAFE_STATE, "the new head's time is before that of the stored head")
