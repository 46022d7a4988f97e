"""The tree's right edge: from entries, in order, come tiles and bundles as they fill up, and partial ones at the end.

At any time it holds one partial tile for each level and one partial bundle, whatever the length of the log. It hashes
every leaf from the bytes that it is given, independently of the sequencer's own tree: the two roots are compared before
a checkpoint is signed, so that one flipped bit in memory or on disk cannot be signed away.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from pacekeeper.protocol.tlog.merkle import Frontier, hash_leaves
from pacekeeper.protocol.tlog.tiles import ENTRIES, TILE_WIDTH, TilePath, encode_bundle

File = tuple[TilePath, bytes]


@dataclass(frozen=True)
class EdgeSnapshot:
    """The partial tiles and the partial bundle of the tree of one size; all else of that tree is full."""

    size: int
    levels: tuple[tuple[bytes, ...], ...]
    entries: tuple[bytes, ...]

    def partials(self) -> list[File]:
        """Return the partial tiles and the partial bundle, none of them empty."""
        files: list[File] = []
        for level, hashes in enumerate(self.levels):
            if hashes:
                index = self.size >> 8 * (level + 1)
                files.append((TilePath(level, index, len(hashes)), b"".join(hashes)))
        if self.entries:
            files.append((TilePath(ENTRIES, self.size // TILE_WIDTH, len(self.entries)), encode_bundle(self.entries)))
        return files


class Edge:
    """A growing right edge. Not for use from two threads at once."""

    def __init__(self) -> None:
        self.size = 0
        self._levels: list[list[bytes]] = [[]]
        self._entries: list[bytes] = []

    def extend(self, entries: Sequence[bytes], write: Callable[[TilePath, bytes], None]) -> None:
        """Append entries; hand over each tile and bundle that they complete."""
        position = 0
        while position < len(entries):
            some = entries[position : position + TILE_WIDTH - len(self._entries)]
            position += len(some)
            self._entries.extend(some)
            self._levels[0].extend(hash_leaves(some))
            self.size += len(some)
            if len(self._entries) == TILE_WIDTH:
                write(TilePath(ENTRIES, self.size // TILE_WIDTH - 1), encode_bundle(self._entries))
                self._entries = []
                self._complete(0, write)

    def _complete(self, level: int, write: Callable[[TilePath, bytes], None]) -> None:
        """Hand over the full tile at a level and begin the next; its root goes one level up."""
        hashes = self._levels[level]
        write(TilePath(level, (self.size >> 8 * (level + 1)) - 1), b"".join(hashes))
        tile = Frontier()
        tile.extend(hashes)
        self._levels[level] = []
        if level + 1 == len(self._levels):
            self._levels.append([])
        self._levels[level + 1].append(tile.root())
        if len(self._levels[level + 1]) == TILE_WIDTH:
            self._complete(level + 1, write)

    def root(self) -> bytes:
        """Return the root of the whole tree, from the partial tiles."""
        tree = Frontier()
        for level in range(len(self._levels) - 1, -1, -1):
            tree.extend(self._levels[level], 8 * level)
        return tree.root()

    def snapshot(self) -> EdgeSnapshot:
        """Return the edge as it is now, never to change."""
        return EdgeSnapshot(self.size, tuple(tuple(hashes) for hashes in self._levels), tuple(self._entries))
