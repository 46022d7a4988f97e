"""A steady view of a log that grows while it is read.

The partial tiles at a tree's right edge disappear from a static log as it grows: a log that is audited while it runs
would seem to have lost them. So they are read at once, together with the checkpoint, and kept: one for each level.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from pacekeeper.audit.head import CHECKPOINT, read_checkpoint
from pacekeeper.client.fetch import Source
from pacekeeper.protocol.errors import Refused
from pacekeeper.protocol.tlog.tiles import ENTRIES, TILE_HEIGHT, TILE_WIDTH, TilePath

_ATTEMPTS: Final = 5  # a log that publishes faster than its edge can be read needs few


class SteadySource:
    """Another source as it stood at one checkpoint, the first that could be read together with its edge.

    Nothing is verified here, and what is missing in the source stays missing.
    """

    def __init__(self, source: Source) -> None:
        self._source = source
        self._kept: dict[str, bytes | None] = {}

    def read(self, path: str) -> bytes | None:
        """See Source."""
        if path == CHECKPOINT and path not in self._kept:
            self._kept = self._steady()
        return self._kept[path] if path in self._kept else self._source.read(path)

    def close(self) -> None:
        """See Source."""
        self._source.close()

    def _steady(self) -> dict[str, bytes | None]:
        note = self._source.read(CHECKPOINT)
        for _ in range(_ATTEMPTS):
            kept = self._edge(note)
            before, note = note, self._source.read(CHECKPOINT)
            if note == before or None not in kept.values():
                return {**kept, CHECKPOINT: before}
        return {CHECKPOINT: note}

    def _edge(self, note: bytes | None) -> dict[str, bytes | None]:
        try:
            size = 0 if note is None else read_checkpoint(note).size
            return {path: self._source.read(path) for path in map(str, _partials(size))}
        except Refused:
            return {}  # whoever reads it next is told why


def _partials(size: int) -> Iterator[TilePath]:
    """Yield the partial tiles of a tree, and its partial bundle."""
    if size % TILE_WIDTH:
        yield TilePath(ENTRIES, size // TILE_WIDTH, size % TILE_WIDTH)
    for level in range(8):
        width = (size >> TILE_HEIGHT * level) % TILE_WIDTH
        if width:
            yield TilePath(level, size >> TILE_HEIGHT * (level + 1), width)
