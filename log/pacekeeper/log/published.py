"""The published tree: the one that the quorum has cosigned, as everything that reads the log sees it.

A PublishedTree never changes; a later publication is another one. Its full tiles are read from the public files, its
partial ones from memory, so that a reader gets any width that the tree has, cut from the wider tile.
"""

from __future__ import annotations

from dataclasses import dataclass

from pacekeeper.log.edge import EdgeSnapshot
from pacekeeper.log.files import PublicFiles
from pacekeeper.protocol.errors import Code, Refused
from pacekeeper.protocol.tlog.merkle import HASH_BYTES, node_hash, prove_inclusion
from pacekeeper.protocol.tlog.tiles import ENTRIES, TILE_HEIGHT, TILE_WIDTH, TilePath, encode_bundle, parse_bundle

_TILES_KEPT = 512  # 8 kB each
_SUBTREES_KEPT = 16_384


@dataclass(frozen=True)
class PublishedTree:
    """size entries under note, a checkpoint with the quorum's cosignatures.

    transitions: the checkpoints over each change of the verifiers so far, with the sizes of their trees.
    """

    size: int
    note: bytes
    edge: EdgeSnapshot
    files: PublicFiles
    transitions: tuple[tuple[int, bytes], ...] = ()

    def read(self, tile: TilePath) -> bytes | None:
        """Return a tile or bundle of any width that this tree has, None if it has none such.

        SPEC log-15: every width up to the one that the published tree has MUST be served.
        Refused(unsafe-state) if a full tile's file is missing or damaged in its frame.
        """
        level = 0 if isinstance(tile.level, str) else tile.level
        width = (self.size >> TILE_HEIGHT * level) - tile.index * TILE_WIDTH
        if width < tile.width:
            return None
        if width < TILE_WIDTH:
            if isinstance(tile.level, str):
                return encode_bundle(self.edge.entries[: tile.width])
            return b"".join(self.edge.levels[level][: tile.width])
        data = self.files.read(TilePath(tile.level, tile.index))
        if data is None:
            raise Refused(Code.UNSAFE_STATE, f"{tile} is missing from the public files")
        if tile.width == TILE_WIDTH:
            return data
        if tile.level == ENTRIES:
            return encode_bundle(parse_bundle(data, TILE_WIDTH)[: tile.width])
        return data[: tile.width * HASH_BYTES]


class Prover:
    """Inclusion proofs in published trees, over two bounded caches: hashes of complete subtrees never change."""

    def __init__(self) -> None:
        self._tiles: dict[TilePath, bytes] = {}
        self._subtrees: dict[tuple[int, int], bytes] = {}

    def prove(self, index: int, tree: PublishedTree) -> list[bytes]:
        """Return the inclusion proof of an entry of that tree."""
        subtrees = self._subtrees

        def read_subtree(level: int, number: int) -> bytes:
            value = subtrees.get((level, number))
            if value is None:
                # Between the levels that tiles hold, a subtree is made of its two halves, which stay in the cache.
                if level % TILE_HEIGHT:
                    value = node_hash(read_subtree(level - 1, 2 * number), read_subtree(level - 1, 2 * number + 1))
                else:
                    value = self._stored(level // TILE_HEIGHT, number, tree)
                _bounded(subtrees, _SUBTREES_KEPT)[level, number] = value
            return value

        return prove_inclusion(index, tree.size, read_subtree)

    def _stored(self, tile_level: int, number: int, tree: PublishedTree) -> bytes:
        """Return one of the hashes that tiles hold."""
        tile_index, position = divmod(number, TILE_WIDTH)
        if tile_index == tree.size >> TILE_HEIGHT * (tile_level + 1):
            return tree.edge.levels[tile_level][position]
        tile = TilePath(tile_level, tile_index)
        data = self._tiles.get(tile)
        if data is None:
            data = tree.read(tile)
            assert data is not None  # every other tile of the tree is full
            _bounded(self._tiles, _TILES_KEPT)[tile] = data
        return data[position * HASH_BYTES : (position + 1) * HASH_BYTES]


def _bounded(cache: dict, limit: int) -> dict:  # type: ignore[type-arg]
    """Return the cache, emptied if it is full: what is hot comes back at once."""
    if len(cache) >= limit:
        cache.clear()
    return cache
