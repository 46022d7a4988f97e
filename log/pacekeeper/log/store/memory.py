"""A store in memory, for tests and simulations: it keeps every rule of the port but durability."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator, Mapping, Sequence
from threading import Lock

from pacekeeper.log.store.port import Batch, Head, StoredBatch, check_successor
from pacekeeper.protocol.errors import Code, Refused


class MemoryStore:
    """See pacekeeper.log.store.port.Store."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._head: Head | None = None
        self._batches: list[StoredBatch] = []
        self._ids: dict[bytes, int] = {}
        self._slots: dict[tuple[str, int], int] = {}
        self._note: bytes | None = None
        self._transitions: list[bytes] = []

    def head(self) -> Head | None:
        return self._head

    def commit(self, batch: Batch, expected: Head | None) -> None:
        with self._lock:
            check_successor(batch, self._head, expected)
            if len(set(batch.ids)) != len(batch.ids) or any(identity in self._ids for identity in batch.ids):
                raise Refused(Code.UNSAFE_STATE, "a statement would be on the log twice")
            ids = b"".join(batch.ids)
            self._batches.append(StoredBatch(batch.first_index, list(batch.entries), batch.head.root, ids))
            self._ids.update(zip(batch.ids, range(batch.first_index, batch.head.size), strict=True))
            self._slots.update({(slot.lab, slot.sequence): slot.index for slot in batch.slots})
            self._head = batch.head

    def root_at(self, size: int) -> bytes | None:
        ends = (batch.root for batch in self._batches if batch.first_index + len(batch.entries) == size)
        return next(ends, None)

    def known(self, ids: Sequence[bytes]) -> Mapping[bytes, int]:
        return {identity: self._ids[identity] for identity in ids if identity in self._ids}

    def slot(self, lab: str, sequence: int) -> int | None:
        return self._slots.get((lab, sequence))

    def read(self, first: int, end: int, max_bytes: int) -> list[bytes]:
        out: list[bytes] = []
        size = 0
        position = max(bisect_right(self._batches, first, key=lambda batch: batch.first_index) - 1, 0)
        for batch in self._batches[position:]:
            for index, entry in enumerate(batch.entries, batch.first_index):
                if index >= end or size >= max_bytes:
                    return out
                if index >= first:
                    out.append(entry)
                    size += len(entry)
        return out

    def batches(self) -> Iterator[StoredBatch]:
        yield from list(self._batches)

    def published(self) -> bytes | None:
        return self._note

    def publish(self, note: bytes, *, transition: bool = False) -> None:
        self._note = note
        if transition:
            self._transitions.append(note)

    def transitions(self) -> list[bytes]:
        return list(self._transitions)

    def counts(self) -> tuple[int, int]:
        return len(self._ids), len(self._slots)

    def close(self) -> None:
        """Nothing to release."""
