"""Which paths a static log has, and how many bytes each may hold at most."""

from __future__ import annotations

from typing import Final

from pacekeeper.protocol import limits
from pacekeeper.protocol.errors import Code, Refused
from pacekeeper.protocol.tlog.merkle import HASH_BYTES
from pacekeeper.protocol.tlog.tiles import ENTRIES, parse_tile_path
from pacekeeper.protocol.tlog.transitions import PREFIX, parse_transition_path

CHECKPOINT: Final = "checkpoint"


def max_bytes(path: str) -> int:
    """Return how many bytes a path may hold.

    Refused(malformed) unless it is `checkpoint`, a transition checkpoint's or a canonical tile path.
    SPEC transport-18: a reader MUST ask only for paths of a static log and MUST bound what it reads by the path.
    """
    if path == CHECKPOINT:
        return limits.MAX_NOTE_BYTES
    if path.startswith(PREFIX):
        parse_transition_path(path)
        return limits.MAX_NOTE_BYTES
    tile = parse_tile_path(path)
    return tile.width * (limits.MAX_ENTRY_BYTES + 2 if tile.level == ENTRIES else HASH_BYTES)


def too_large(path: str, limit: int) -> Refused:
    """What is said of a path that holds more than it may."""
    return Refused(Code.TOO_LARGE, f"{path}: more than {limit} bytes")


def not_usable(path: str, what: str) -> Refused:
    """What is said of a path at which something stands that cannot be it."""
    is_note = path == CHECKPOINT or path.startswith(PREFIX)
    return Refused(Code.BAD_CHECKPOINT if is_note else Code.BAD_TILE, f"{path}: {what}")
