"""Following a static log: which files a tree is made of, in the order to read them, and whether they agree.

Bundles are read in order; every leaf, tile and root is computed anew from the entries and compared with what is
served. At any time only the right edge is held, at most one tile's hashes for each level, so that memory does not
depend on the length of the log.

    reader = TreeReader(checkpoint)
    for path in reader.wanted():            # tile/entries/000, tile/0/000, ..., tile/1/000, ...
        ...                                 # fetch; consume_bundle with entries and level 0, consume_tile above
    reader.finish()                         # the root is the checkpoint's
    reader.continue_to(later_checkpoint)    # and so on, for one who keeps watching

A method that raises ValueError was called out of order. A fault in a tile is Refused(bad-tile), and the sentence
starts with the path at fault. What was computed stands, so that a reader who lists every fault can go on:
after a refused level-0 tile by consuming the bundle again without it, after a refused higher tile as if it were right.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from typing import Final

from pacekeeper.protocol.errors import Code, Refused
from pacekeeper.protocol.tlog.checkpoint import Checkpoint
from pacekeeper.protocol.tlog.merkle import HASH_BYTES, Frontier, hash_leaves
from pacekeeper.protocol.tlog.tiles import (
    ENTRIES,
    TILE_HEIGHT,
    TILE_WIDTH,
    Level,
    TilePath,
    parse_bundle,
    parse_tile,
    tile_path,
)

_FULL_ROW: Final = TILE_WIDTH * HASH_BYTES


def resources(old_size: int, new_size: int) -> Iterator[TilePath]:
    """Yield the bundles and tiles from which one who has the tree of old_size gets that of new_size, in reading order.

    Each bundle is followed by its level-0 tile, and by every higher tile that it completes; the partial tiles above
    level 0 come last. As a set these are the bundles and tiles of new_tiles(old_size, new_size).
    """
    if not 0 <= old_size <= new_size:
        raise ValueError(f"no growth of a tree from {old_size} to {new_size}")
    if old_size == new_size:
        return
    for index in range(old_size // TILE_WIDTH, -(-new_size // TILE_WIDTH)):
        width = min(TILE_WIDTH, new_size - index * TILE_WIDTH)
        yield TilePath(ENTRIES, index, width)
        yield TilePath(0, index, width)
        level, number = 1, index + 1
        while width == TILE_WIDTH and number % TILE_WIDTH == 0:
            number //= TILE_WIDTH
            yield TilePath(level, number - 1)
            level += 1
    level = 1
    while new := new_size >> TILE_HEIGHT * level:
        if new % TILE_WIDTH and new != old_size >> TILE_HEIGHT * level:
            yield TilePath(level, new // TILE_WIDTH, new % TILE_WIDTH)
        level += 1


class TreeReader:
    """Reads a static log from its first entry to a checkpoint, and on to later ones, and checks every hash."""

    def __init__(self, checkpoint: Checkpoint) -> None:
        self.checkpoint = checkpoint
        self.size = 0  # entries consumed
        # Row l: the hashes of the unfinished tile at level l, computed here; a full row waits for its tile.
        self._rows: list[bytes] = [b""]
        self._order = resources(0, checkpoint.size)
        self._next = next(self._order, None)

    def continue_to(self, checkpoint: Checkpoint) -> None:
        """Go on to a later checkpoint; its tree must not be smaller, and the one before must be finished."""
        if self._next is not None:
            raise ValueError(f"{self._next} is to be read first")
        order = resources(self.size, checkpoint.size)
        self.checkpoint, self._order, self._next = checkpoint, order, next(order, None)

    def wanted(self) -> Iterator[TilePath]:
        """Yield what is to be read from here to the checkpoint, in order (a level-0 tile goes with its bundle)."""
        return resources(self.size, self.checkpoint.size)

    def consume_bundle(self, index: int, width: int, bundle: bytes, level0_tile: bytes | None) -> list[bytes]:
        """Check a bundle against its level-0 tile and return its entries, without those consumed before.

        Without effect if it raises Refused. level0_tile=None leaves the tile unchecked: for one who has reported it.
        SPEC tiles-8: every entry MUST hash to its place in the level-0 tile.
        SPEC tiles-9: a wider partial bundle MUST begin with the entries of the narrower one.
        """
        self._expect(TilePath(ENTRIES, index, width))
        entries = _parse_named_bundle(index, width, bundle)
        hashes = hash_leaves(entries)
        row = b"".join(hashes)
        seen = self.size - index * TILE_WIDTH
        if not row.startswith(self._rows[0]):
            at = index * TILE_WIDTH + _first_difference(row, self._rows[0])
            raise _fault(TilePath(ENTRIES, index, width), f"entry {at} is not the one that stood there before")
        if level0_tile is not None and row != level0_tile:
            self._refuse_tile(TilePath(0, index, width), level0_tile, row)
        self._advance()
        self._advance()
        self.size += width - seen
        if width == TILE_WIDTH:
            self._rows[0] = b""
            self._push(1, row)
        else:
            self._rows[0] = row
        return entries[seen:] if seen else entries

    def consume_tile(self, level: Level, index: int, width: int, tile: bytes | None) -> None:
        """Check a tile above level 0 against the hashes computed from below; None leaves it unchecked.

        Takes effect even if it raises Refused: reading goes on with the computed hashes.
        SPEC tiles-10: every hash of a tile above level 0 MUST be the root of the full tile below it.
        """
        path = TilePath(level, index, width)
        self._expect(path)
        if isinstance(level, str):
            raise ValueError(f"{path} is a bundle")
        row = self._rows[level]
        self._advance()
        if len(row) == _FULL_ROW:
            self._rows[level] = b""
            self._push(level + 1, row)
        if tile is not None and row != tile:
            self._refuse_tile(path, tile, row)

    def root(self) -> bytes:
        """Return the root of the entries consumed so far."""
        frontier = Frontier()
        for level in reversed(range(len(self._rows))):
            row = self._rows[level]
            frontier.extend(parse_tile(row, len(row) // HASH_BYTES), TILE_HEIGHT * level)
        return frontier.root()

    def finish(self) -> None:
        """Raise Refused(bad-checkpoint) unless all was read and its root is the checkpoint's.

        SPEC tiles-11: the root computed from the entries MUST be the checkpoint's.
        """
        if self._next is not None:
            raise ValueError(f"{self._next} is to be read first")
        if self.root() != self.checkpoint.root:
            message = f"checkpoint of size {self.size}: its root is not that of the log's entries"
            raise Refused(Code.BAD_CHECKPOINT, message)

    def _expect(self, path: TilePath) -> None:
        if path != self._next:
            raise ValueError(f"{path} is not what comes next, but {self._next or 'nothing'}")

    def _advance(self) -> None:
        self._next = next(self._order, None)

    def _push(self, level: int, full_row: bytes) -> None:
        """Add the root of a full tile to the row above it."""
        if level == len(self._rows):
            self._rows.append(b"")
        self._rows[level] += _row_root(full_row)

    def _refuse_tile(self, path: TilePath, tile: bytes, row: bytes) -> None:
        if len(tile) != len(row):
            raise _fault(path, f"{len(tile)} bytes, not {len(row)}")
        at = _first_difference(tile, row)
        number = path.index * TILE_WIDTH + at
        if path.level == 0:
            bundle = tile_path(ENTRIES, path.index, path.width)
            raise _fault(path, f"hash {at} is not that of entry {number} in {bundle}")
        raise _fault(path, f"hash {at} is not the root of {tile_path(int(path.level) - 1, number)}")


def _parse_named_bundle(index: int, width: int, bundle: bytes) -> list[bytes]:
    try:
        return parse_bundle(bundle, width)
    except Refused as refusal:
        raise _fault(TilePath(ENTRIES, index, width), refusal.message) from None


def _fault(path: TilePath, message: str) -> Refused:
    return Refused(Code.BAD_TILE, f"{path}: {message}")


def _first_difference(left: bytes, right: bytes) -> int:
    """Return the number of the first hash in which two rows differ."""
    step = HASH_BYTES
    common = min(len(left), len(right))
    return next((at // step for at in range(0, common, step) if left[at : at + step] != right[at : at + step]), 0)


def _row_root(row: bytes) -> bytes:
    """Return the root over a full row of hashes: 255 node hashes in tight loops."""
    sha256 = hashlib.sha256
    while len(row) > HASH_BYTES:
        row = b"".join([sha256(b"\x01" + row[at : at + 64]).digest() for at in range(0, len(row), 64)])
    return row
