"""Tiles: paths, bundles, which tiles a tree has, and proofs read from them."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pacekeeper.protocol import limits
from pacekeeper.protocol.errors import Code, Refused
from pacekeeper.protocol.tlog.merkle import HashTree, check_inclusion, hash_leaves, prove_inclusion
from pacekeeper.protocol.tlog.tiles import (
    ENTRIES,
    Level,
    TilePath,
    encode_bundle,
    new_tiles,
    parse_bundle,
    parse_tile,
    parse_tile_path,
    subtree_reader,
    tile_holding,
    tile_path,
    tiles_for,
)

PATHS: list[tuple[Level, int, int, str]] = [
    (0, 0, 256, "tile/0/000"),
    (0, 1234067, 256, "tile/0/x001/x234/067"),  # the example of tlog-tiles
    (ENTRIES, 1234, 5, "tile/entries/x001/234.p/5"),
    (1, 999, 255, "tile/1/999.p/255"),
    (1, 1000, 1, "tile/1/x001/000.p/1"),
    (7, 0, 127, "tile/7/000.p/127"),
    (0, 2**55 - 1, 255, "tile/0/x036/x028/x797/x018/x963/967.p/255"),
]

BAD_PATHS = [
    "",
    "checkpoint",
    "/tile/0/000",
    "tile/0/000/",
    "tile/0/0",
    "tile/0/0000",
    "tile/0/x000/001",
    "tile/0/001/234",
    "tile/0/x001/x234",
    "tile/00/000",
    "tile/01/000",
    "tile/-1/000",
    "tile/64/000",
    "tile/8/000.p/1",
    "tile/7/000.p/128",
    "tile/7/000",
    "tile/Entries/000",
    "tile/0/000.p/0",
    "tile/0/000.p/256",
    "tile/0/000.p/05",
    "tile/0/000.p/",
    "tile/0/000.p/1/",
    "tile/0/000\n",
    "tile/0/٠٠٠",
    "tile/0/../000",
    "tile/0/x036/x028/x797/x018/x963/968",
    "tile/0/" + "x999/" * 6 + "999",
    "tile/0/" + "x000/" * 500 + "000",
]


@pytest.mark.parametrize(("level", "index", "width", "path"), PATHS)
def test_paths_are_written_and_read(level: Level, index: int, width: int, path: str) -> None:
    """SPEC tiles-1, SPEC tiles-2: groups of three digits, and the width only when partial."""
    assert tile_path(level, index, width) == path == str(TilePath(level, index, width))
    assert parse_tile_path(path) == (level, index, width)


@pytest.mark.parametrize("path", BAD_PATHS)
def test_any_other_path_is_refused(path: str) -> None:
    """SPEC tiles-3: one path for each tile, and none for tiles that no tree has."""
    with pytest.raises(Refused) as caught:
        parse_tile_path(path)
    assert caught.value.code is Code.MALFORMED


@given(st.integers(0, 2**55 - 1), st.integers(1, 256), st.sampled_from([ENTRIES, 0]))
def test_every_path_comes_back(index: int, width: int, level: Level) -> None:
    """SPEC tiles-3: what is written is read back, unless no legal tree has it."""
    path = tile_path(level, index, width)
    if index * 256 + width <= limits.MAX_TREE_SIZE:
        assert parse_tile_path(path) == (level, index, width)


@given(st.text(alphabet="tile/entrsx0123456789.p", max_size=40))
def test_a_path_that_is_read_is_canonical(text: str) -> None:
    try:
        path = parse_tile_path("tile/" + text)
    except Refused:
        return
    assert str(path) == "tile/" + text


def test_writing_an_impossible_path_is_the_callers_mistake() -> None:
    for level, index, width in ((64, 0, 1), (-1, 0, 1), (0, -1, 1), (0, 0, 0), (0, 0, 257), (0, 2**63, 1)):
        with pytest.raises(ValueError, match="no tile"):
            tile_path(level, index, width)


@given(st.lists(st.binary(max_size=40), min_size=1, max_size=256))
def test_bundles_come_back(entries: list[bytes]) -> None:
    """SPEC tiles-4, SPEC tiles-5: and with another width they are refused."""
    data = encode_bundle(entries)
    assert parse_bundle(data, len(entries)) == entries
    for other in (len(entries) - 1, len(entries) + 1):
        with pytest.raises(Refused) as caught:
            parse_bundle(data, other)
        assert caught.value.code is Code.BAD_TILE


def test_a_bundle_is_lengths_and_entries() -> None:
    """SPEC tiles-4: byte for byte."""
    assert encode_bundle([b"a", b"", b"bc"]).hex() == "0001610000" + "00026263"
    assert parse_bundle(encode_bundle([bytes(65_535)]), 1) == [bytes(65_535)]


@pytest.mark.parametrize(
    "data", ["", "00", "0001", "000261", "00016100", "0001610001", "00016100026263", "ffff61", "0001610000"]
)
def test_cut_or_longer_bundles_are_refused(data: str) -> None:
    """SPEC tiles-5: none of these is a bundle of one entry."""
    with pytest.raises(Refused) as caught:
        parse_bundle(bytes.fromhex(data), 1)
    assert caught.value.code is Code.BAD_TILE


@pytest.mark.parametrize("entries", [[], [b""] * 257, [bytes(65_536)]])
def test_bundles_that_cannot_be_written(entries: list[bytes]) -> None:
    with pytest.raises(ValueError, match="1 to 256"):
        encode_bundle(entries)


def test_a_tile_has_32_bytes_for_each_hash() -> None:
    """SPEC tiles-6: neither less nor more."""
    data = bytes(range(64))
    assert parse_tile(data, 2) == [data[:32], data[32:]]
    for damaged, width in ((data[:-1], 2), (data + b"\0", 2), (data, 1), (data, 3), (b"", 1)):
        with pytest.raises(Refused) as caught:
            parse_tile(damaged, width)
        assert caught.value.code is Code.BAD_TILE


def test_the_examples_of_tlog_tiles() -> None:
    """SPEC tiles-7: trees of 70,000 and of 256 entries, and the empty tree."""
    tiles = list(tiles_for(70_000))
    assert sum(level == 0 and width == 256 for level, _, width in tiles) == 273
    assert [str(tile) for tile in tiles if tile.level != 0 or tile.width != 256] == [
        "tile/0/273.p/112",
        "tile/1/000",
        "tile/1/001.p/17",
        "tile/2/000.p/1",
    ]
    assert [str(tile) for tile in tiles_for(256)] == ["tile/0/000", "tile/1/000.p/1"]
    assert list(tiles_for(0)) == []


@given(st.integers(0, 200_000))
def test_partial_tiles_have_the_width_of_the_rule(size: int) -> None:
    """SPEC tiles-7: floor(s / 256^l) mod 256 at each level, never 0, and full tiles before them."""
    tiles = list(tiles_for(size))
    for level in range(4):
        at_level = [tile for tile in tiles if tile.level == level]
        partial = [tile.width for tile in at_level if tile.width < 256]
        assert partial == ([size // 256**level % 256] if size // 256**level % 256 else [])
        assert [tile.index for tile in at_level] == list(range(len(at_level)))
        assert sum(tile.width for tile in at_level) == size // 256**level


@given(st.integers(0, 140_000), st.integers(0, 3_000))
def test_new_tiles_are_those_that_the_old_tree_lacks(old: int, growth: int) -> None:
    new = old + growth
    assert sorted(new_tiles(old, new)) == sorted(set(tiles_for(new)) - set(tiles_for(old)))


def test_the_largest_tree_has_eight_levels_and_legal_paths() -> None:
    size = limits.MAX_TREE_SIZE
    last = [tile_holding(8 * level, (size >> 8 * level) - 1, size)[0] for level in range(8)]
    assert last[7] == (7, 0, 127)
    for tile in last:
        assert parse_tile_path(str(tile)) == tile
    for old, new in ((5, 4), (-1, 3), (0, size + 1)):
        with pytest.raises(ValueError, match="no growth"):
            list(new_tiles(old, new))


@settings(max_examples=40, deadline=None)
@given(st.integers(1, 1200), st.data())
def test_proofs_from_tiles_are_those_of_the_tree(size: int, data: st.DataObject) -> None:
    leaves = hash_leaves([b"%d" % number for number in range(size)])
    tree = HashTree(leaves)
    tiles: dict[TilePath, bytes] = {}
    for tile in tiles_for(size):
        assert not isinstance(tile.level, str)
        hashes = [tree.read_subtree(8 * tile.level, 256 * tile.index + at) for at in range(tile.width)]
        tiles[tile] = b"".join(hashes)
    read = subtree_reader(size, tiles.__getitem__)
    index = data.draw(st.integers(0, size - 1))
    proof = prove_inclusion(index, size, read)
    assert proof == tree.prove_inclusion(index)
    check_inclusion(leaves[index], index, size, proof, tree.root())


def test_subtrees_beyond_the_tree_are_the_callers_mistake() -> None:
    for level, index in ((0, 300), (8, 1), (9, 0), (3, 37), (-1, 0), (0, -1)):
        with pytest.raises(ValueError, match="no complete subtree"):
            tile_holding(level, index, 300)
    assert tile_holding(3, 36, 300) == (TilePath(0, 1, 44), 32, 8)
