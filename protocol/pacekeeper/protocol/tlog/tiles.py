"""Tiles: the tree and its entries as static files of up to 256 hashes or entries (C2SP tlog-tiles).

A tile at level l, index n holds the hashes of the subtrees of height 8l numbered 256n to 256n + 255; an entry bundle
holds the entries below one level-0 tile. The rightmost tiles of a tree may be partial. A full tile's contents never
change, and a partial tile's are a prefix of every wider one's.

Example: hash 5 of tile 1234067 at level 0 stands in "tile/0/x001/x234/067", or in "tile/0/x001/x234/067.p/6" while the
tree ends there.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from typing import Final, Literal, NamedTuple

from pacekeeper.protocol import limits
from pacekeeper.protocol.errors import Code, Refused
from pacekeeper.protocol.tlog.merkle import HASH_BYTES, Frontier, ReadSubtree

TILE_WIDTH: Final = 256
TILE_HEIGHT: Final = 8  # a full tile is a complete subtree of this height
MAX_PATH_CHARS: Final = 64  # the longest legal path has 47
ENTRIES: Final = "entries"

Level = int | Literal["entries"]

_PATH: Final = re.compile(r"tile/(entries|[0-9]{1,2})/((?:x[0-9]{3}/){0,6}[0-9]{3})(?:\.p/([0-9]{1,3}))?", re.ASCII)


class TilePath(NamedTuple):
    """Which tile or bundle: its level (or "entries"), its index within the level, and how many items it holds."""

    level: Level
    index: int  # type: ignore[assignment]  # hides tuple.index, which nobody needs here
    width: int = TILE_WIDTH

    def __str__(self) -> str:
        return tile_path(self.level, self.index, self.width)


def tile_path(level: Level, index: int, width: int = TILE_WIDTH) -> str:
    """Write the path of a tile or bundle below the log's prefix.

    SPEC tiles-1: the index MUST be written in zero-padded groups of three digits, all but the last after an "x".
    SPEC tiles-2: a width below 256 MUST be appended as ".p/" and the width, and a width of 256 MUST NOT.
    """
    if not (level == ENTRIES or (isinstance(level, int) and 0 <= level <= 63)):
        raise ValueError(f"no tile level {level}")
    if not 0 <= index <= limits.MAX_TREE_SIZE or not 1 <= width <= TILE_WIDTH:
        raise ValueError(f"no tile {index} of width {width}")
    groups = [f"{index % 1000:03}"]
    while index := index // 1000:
        groups.append(f"x{index % 1000:03}")
    path = f"tile/{level}/{'/'.join(reversed(groups))}"
    return path if width == TILE_WIDTH else f"{path}.p/{width}"


def parse_tile_path(path: str) -> TilePath:
    """Read a path that tile_path could have written; Refused(malformed) for any other.

    SPEC tiles-3: a path that is not the one canonical path of its tile MUST be refused.
    """
    match = _PATH.fullmatch(path) if len(path) <= MAX_PATH_CHARS else None
    if match is not None:
        level: Level = ENTRIES if match[1] == ENTRIES else int(match[1])
        index = int(match[2].replace("/", "").replace("x", ""))
        width = TILE_WIDTH if match[3] is None else int(match[3])
        if _exists(level, index, width) and tile_path(level, index, width) == path:
            return TilePath(level, index, width)
    raise Refused(Code.MALFORMED, f"not the path of a tile: {path[:MAX_PATH_CHARS]}")


def _exists(level: Level, index: int, width: int) -> bool:
    """Whether some tree of a legal size has that tile."""
    last = (index * TILE_WIDTH + width) << TILE_HEIGHT * (0 if isinstance(level, str) else level)
    return (level == ENTRIES or int(level) <= 63) and 1 <= width <= TILE_WIDTH and last <= limits.MAX_TREE_SIZE


def encode_bundle(entries: Sequence[bytes]) -> bytes:
    """Write an entry bundle; ValueError for none, for more than 256, or for an entry over 65,535 bytes.

    SPEC tiles-4: each entry MUST be preceded by its length as a big-endian uint16.
    """
    if not 1 <= len(entries) <= TILE_WIDTH or any(len(entry) > limits.MAX_ENTRY_BYTES for entry in entries):
        raise ValueError("a bundle has 1 to 256 entries of at most 65,535 bytes")
    return b"".join([part for entry in entries for part in (len(entry).to_bytes(2, "big"), entry)])


def parse_bundle(data: bytes, width: int) -> list[bytes]:
    """Read the entries of a bundle; Refused(bad-tile) unless it holds exactly width of them and nothing after.

    SPEC tiles-5: a bundle MUST hold exactly as many entries as its path says, and no byte more.
    """
    entries: list[bytes] = []
    position, end = 0, len(data)
    while position < end and len(entries) < width:
        start = position + 2
        position = start + int.from_bytes(data[position:start], "big")
        if start > end or position > end:
            raise Refused(Code.BAD_TILE, f"bundle ends inside entry {len(entries)}")
        entries.append(data[start:position])
    if len(entries) != width:
        raise Refused(Code.BAD_TILE, f"bundle of {len(entries)} entries, not {width}")
    if position != end:
        raise Refused(Code.BAD_TILE, f"{end - position} bytes after the bundle's last entry")
    return entries


def parse_tile(data: bytes, width: int) -> list[bytes]:
    """Read the hashes of a tile; Refused(bad-tile) unless there are exactly width.

    SPEC tiles-6: a tile MUST have exactly 32 bytes for each hash of its width.
    """
    if len(data) != width * HASH_BYTES:
        raise Refused(Code.BAD_TILE, f"tile of {len(data)} bytes, not {width * HASH_BYTES}")
    return [data[at : at + HASH_BYTES] for at in range(0, len(data), HASH_BYTES)]


def tiles_for(size: int) -> Iterator[TilePath]:
    """Yield every tile of the tree of that size, level by level; the bundles are those of level 0."""
    return new_tiles(0, size)


def new_tiles(old_size: int, new_size: int) -> Iterator[TilePath]:
    """Yield the tiles that the tree of new_size has and that of old_size has not, or has narrower, level by level.

    SPEC tiles-7: the partial tile at level l of a tree of size s MUST have floor(s / 256^l) mod 256 hashes, and no
    tile MUST be empty; a partial tile is not hashed into the level above.
    """
    if not 0 <= old_size <= new_size <= limits.MAX_TREE_SIZE:
        raise ValueError(f"no growth of a tree from {old_size} to {new_size}")
    level = 0
    while new := new_size >> TILE_HEIGHT * level:
        old = old_size >> TILE_HEIGHT * level
        if new != old:
            for index in range(old // TILE_WIDTH, -(-new // TILE_WIDTH)):
                yield TilePath(level, index, min(TILE_WIDTH, new - index * TILE_WIDTH))
        level += 1


def tile_holding(level: int, index: int, size: int) -> tuple[TilePath, int, int]:
    """Return (tile, first, count): the hashes of that tile whose root is the complete subtree (level, index).

    The tile is the one, full or partial, that the tree of that size has.
    """
    if level < 0 or not 0 <= index < size >> level:
        raise ValueError(f"a tree of size {size} has no complete subtree {index} of height {level}")
    tile_level, height = divmod(level, TILE_HEIGHT)
    tile_index, first = divmod(index << height, TILE_WIDTH)
    width = min(TILE_WIDTH, (size >> TILE_HEIGHT * tile_level) - tile_index * TILE_WIDTH)
    return TilePath(tile_level, tile_index, width), first, 1 << height


def subtree_reader(size: int, read_tile: Callable[[TilePath], bytes]) -> ReadSubtree:
    """Return the ReadSubtree of the tree of that size whose tiles read_tile returns (cache there if it is slow)."""

    def read_subtree(level: int, index: int) -> bytes:
        path, first, count = tile_holding(level, index, size)
        frontier = Frontier()
        frontier.extend(parse_tile(read_tile(path), path.width)[first : first + count])
        return frontier.root()

    return read_subtree
