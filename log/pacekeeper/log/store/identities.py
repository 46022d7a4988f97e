"""Which entries may have an identity: eight bytes of memory for each, in place of an index on the disk.

Identities are hashes, so an index of them on disk writes another page for every entry. Here each is kept as the four
bytes after its bucket's, together with the entry's index; two of a million may share them, so what is found is a
candidate, and the caller compares the 32 bytes that it has stored.

Example: a statement that comes again leads to the index that it has, after one comparison.
"""

from __future__ import annotations

from array import array
from bisect import bisect_left, insort
from collections.abc import Iterable, Iterator
from typing import Final

_BUCKETS: Final = 4_096  # by the first twelve bits: 244 entries each at a million, so that an insertion moves little
_INDEX_BITS: Final = 32
MAX_ENTRIES: Final = 1 << _INDEX_BITS  # entries of one store
_INDEX_MASK: Final = MAX_ENTRIES - 1


class IdentityIndex:
    """Candidates by identity. One thread at a time: the store locks."""

    def __init__(self) -> None:
        # Each item: 32 bits of the identity, then 32 of the index; sorted.
        self._buckets = [array("Q") for _ in range(_BUCKETS)]

    def add(self, ids: Iterable[bytes], first: int) -> None:
        """Add the identities of entries from index `first` on. ValueError past MAX_ENTRIES."""
        for index, identity in enumerate(ids, first):
            if index >= MAX_ENTRIES:
                raise ValueError(f"a store holds at most {MAX_ENTRIES} entries")
            bucket, tag = self._place(identity)
            insort(bucket, tag | index)

    def candidates(self, identity: bytes) -> Iterator[int]:
        """Yield the indices of the entries that may have this identity, all that have it among them."""
        bucket, tag = self._place(identity)
        for at in range(bisect_left(bucket, tag), len(bucket)):
            item = bucket[at]
            if item & ~_INDEX_MASK != tag:
                return
            yield item & _INDEX_MASK

    def _place(self, identity: bytes) -> tuple[array[int], int]:
        head = int.from_bytes(identity[:6], "big")
        return self._buckets[head >> 36], (head & _INDEX_MASK) << _INDEX_BITS
