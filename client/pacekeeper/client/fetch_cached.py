"""A static log of which a local copy holds the beginning: bundles that are there are not fetched again.

    source = CachedSource(open_source(url), cache)
    ...                                     # read the tree up to a checkpoint, and replay through cache.apply_read
    source.finish(note)                     # when all of it agreed: the copy now reaches that checkpoint

What the copy holds is handed out only as it hashes to the copy's own checkpoint; whoever reads a tree compares all of
it with the log's newest, so that a log with another past than the copy's is seen.
"""

from __future__ import annotations

from contextlib import suppress

from pacekeeper.client.cache import EntryCache
from pacekeeper.client.fetch import Source
from pacekeeper.protocol.errors import Refused
from pacekeeper.protocol.tlog.checkpoint import parse_checkpoint
from pacekeeper.protocol.tlog.merkle import hash_leaves
from pacekeeper.protocol.tlog.note import parse_note
from pacekeeper.protocol.tlog.tiles import ENTRIES, TILE_WIDTH, TilePath, parse_bundle, parse_tile_path


class CachedSource:
    """Another source behind a copy, which it fills. For one thread that reads bundles in order."""

    def __init__(self, source: Source, cache: EntryCache) -> None:
        self._source = source
        self.cache = cache
        # The entries after the last full bundle are fetched again, so they are verified again.
        cache.trust_until(cache.bundles * TILE_WIDTH)
        self._from_copy = cache.bundles
        self._last: tuple[int, bytes] | None = None  # the bundle read last from the copy
        self._partial: dict[TilePath, bytes] = {}

    def read(self, path: str) -> bytes | None:
        """See Source."""
        tile = parse_tile_path(path) if path.startswith("tile/") else None
        if tile is None or tile.level not in (0, ENTRIES):
            return self._source.read(path)
        if tile.width == TILE_WIDTH and tile.index < self._from_copy:
            data = self._copied(tile)
            if data is not None:
                return data
        data = self._source.read(path)
        if data is not None and tile.level == ENTRIES:
            self._keep(tile, data)
        return data

    def close(self) -> None:
        """See Source."""
        self._source.close()

    def finish(self, note: bytes) -> None:
        """Let the copy reach a checkpoint over all that was read, now that it was verified and replayed."""
        with suppress(Refused):
            size = parse_checkpoint(parse_note(note).text).size
            width = size % TILE_WIDTH
            tail = self._partial.get(TilePath(ENTRIES, size // TILE_WIDTH, width), b"") if width else b""
            self.cache.finish(note, tail, width)

    def _copied(self, tile: TilePath) -> bytes | None:
        """A bundle of the copy, or its level-0 tile, which is computed from it."""
        if self._last is None or self._last[0] != tile.index:
            bundle = self.cache.bundle(tile.index)
            if bundle is None:
                self._from_copy = tile.index
                return None
            self._last = (tile.index, bundle)
        bundle = self._last[1]
        return bundle if tile.level == ENTRIES else b"".join(hash_leaves(parse_bundle(bundle, TILE_WIDTH)))

    def _keep(self, tile: TilePath, data: bytes) -> None:
        if tile.width < TILE_WIDTH:
            self._partial[tile] = data
            return
        with suppress(Refused):  # whoever reads it finds the same fault, and says so
            self.cache.add_bundle(tile.index, data)
