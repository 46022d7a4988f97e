"""Following a static log: what to read, in which order, and which file is at fault."""

from __future__ import annotations

from functools import cache

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pacekeeper.protocol.errors import Code, Refused
from pacekeeper.protocol.tlog.checkpoint import Checkpoint
from pacekeeper.protocol.tlog.follow import TreeReader, resources
from pacekeeper.protocol.tlog.merkle import EMPTY_ROOT, HashTree, hash_leaves
from pacekeeper.protocol.tlog.tiles import ENTRIES, TilePath, encode_bundle, new_tiles, parse_tile_path

# More than 256 full tiles of level 0, so that level 1 fills a tile and level 2 begins one.
LARGEST = 256 * 256 + 256 + 17
SIZES = [1, 2, 255, 256, 257, 512, 1000, 65_535, 65_536, 65_537, 65_792, LARGEST]


def entry(number: int) -> bytes:
    return b"entry %d" % number


@cache
def tree() -> HashTree:
    return HashTree(hash_leaves([entry(number) for number in range(LARGEST)]))


def served(path: TilePath) -> bytes:
    """The file that an honest log serves there."""
    level, index, width = path
    if isinstance(level, str):
        return encode_bundle([entry(index * 256 + at) for at in range(width)])
    return b"".join([tree().read_subtree(8 * level, index * 256 + at) for at in range(width)])


def checkpoint(size: int) -> Checkpoint:
    return Checkpoint("example.org/log", size, tree().root(size))


def read(reader: TreeReader, damage: dict[str, bytes] | None = None) -> list[bytes]:
    """Read to the reader's checkpoint, from an honest log but for the damaged files."""

    def fetch(path: TilePath) -> bytes:
        return (damage or {}).get(str(path), served(path))

    entries = []
    for path in reader.wanted():
        if path.level == ENTRIES:
            tile = fetch(TilePath(0, path.index, path.width))
            entries += reader.consume_bundle(path.index, path.width, fetch(path), tile)
        elif path.level != 0:
            reader.consume_tile(*path, fetch(path))
    reader.finish()
    return entries


def flip(data: bytes, bit: int) -> bytes:
    damaged = bytearray(data)
    damaged[bit // 8] ^= 1 << bit % 8
    return bytes(damaged)


@pytest.mark.parametrize("size", SIZES)
def test_an_honest_log_is_read_to_its_root(size: int) -> None:
    """SPEC tiles-8, SPEC tiles-10, SPEC tiles-11: every entry comes back, every tile agrees."""
    assert read(TreeReader(checkpoint(size))) == [entry(number) for number in range(size)]


def test_an_empty_log_has_nothing_to_read() -> None:
    reader = TreeReader(Checkpoint("o", 0, EMPTY_ROOT))
    assert list(reader.wanted()) == []
    reader.finish()


def test_the_order_of_reading() -> None:
    """Bundle, its tile, the tiles that it completes; partial tiles above level 0 last."""
    order = [str(path) for path in resources(0, 65_536 + 256 + 3)]
    assert order[:4] == ["tile/entries/000", "tile/0/000", "tile/entries/001", "tile/0/001"]
    assert order[510:] == [
        "tile/entries/255",
        "tile/0/255",
        "tile/1/000",
        "tile/entries/256",
        "tile/0/256",
        "tile/entries/257.p/3",
        "tile/0/257.p/3",
        "tile/1/001.p/1",
        "tile/2/000.p/1",
    ]


@given(st.integers(0, 140_000), st.integers(0, 2_000))
def test_resources_are_the_new_tiles_with_their_bundles(old: int, growth: int) -> None:
    """SPEC tiles-7: neither a tile too few nor one too many, from any size to any other."""
    paths = list(resources(old, old + growth))
    tiles = [path for path in paths if path.level != ENTRIES]
    assert sorted(tiles) == sorted(new_tiles(old, old + growth))
    bundles = [(path.index, path.width) for path in paths if path.level == ENTRIES]
    assert bundles == [(path.index, path.width) for path in tiles if path.level == 0]
    for path in paths:
        assert parse_tile_path(str(path)) == path


@settings(max_examples=30, deadline=None)
@given(st.lists(st.integers(0, 2000), min_size=1, max_size=6))
def test_a_reader_goes_on_from_checkpoint_to_checkpoint(sizes: list[int]) -> None:
    """SPEC tiles-9: each entry is returned once, however the tree grows."""
    first, *later = sorted(sizes)
    reader = TreeReader(checkpoint(first))
    entries = read(reader)
    for size in later:
        reader.continue_to(checkpoint(size))
        entries += read(reader)
        assert reader.root() == tree().root(size)
    assert entries == [entry(number) for number in range(max(sizes))]


def test_a_reader_goes_on_across_full_tiles_of_level_1() -> None:
    reader = TreeReader(checkpoint(65_530))
    count = len(read(reader))
    for size in (65_536, 65_540, LARGEST):
        reader.continue_to(checkpoint(size))
        count += len(read(reader))
    assert count == reader.size == LARGEST


@pytest.mark.parametrize(("size", "places"), [(3, 40), (300, 8), (LARGEST, 2)])
def test_a_flipped_bit_in_any_file_names_the_file(size: int, places: int) -> None:
    """SPEC tiles-5, SPEC tiles-6, SPEC tiles-8, SPEC tiles-10: in the last files of a tree, from first bit to last."""
    for path in list(resources(0, size))[-7:]:
        good = served(path)
        for place in range(places):
            bit = (len(good) * 8 - 1) * place // (places - 1)
            with pytest.raises(Refused) as caught:
                read(TreeReader(checkpoint(size)), {str(path): flip(good, bit)})
            assert caught.value.code is Code.BAD_TILE
            assert str(path) in caught.value.message


@pytest.mark.parametrize("size", [3, 300])
def test_cut_and_lengthened_files_are_named(size: int) -> None:
    """SPEC tiles-5, SPEC tiles-6: a byte less, a byte more, nothing at all."""
    for path in resources(0, size):
        good = served(path)
        for damaged in (good[:-1], good + b"\0", b""):
            with pytest.raises(Refused) as caught:
                read(TreeReader(checkpoint(size)), {str(path): damaged})
            assert caught.value.code is Code.BAD_TILE
            assert caught.value.message.startswith(f"{path}: ")


def test_the_sentence_says_what_is_wrong() -> None:
    """SPEC tiles-8, SPEC tiles-10: which hash, of which entry or tile."""
    cases = {
        "tile/0/001.p/44": (
            flip(served(TilePath(0, 1, 44)), 32 * 8 * 3),
            "tile/0/001.p/44: hash 3 is not that of entry 259 in tile/entries/001.p/44",
        ),
        "tile/1/000.p/1": (bytes(32), "tile/1/000.p/1: hash 0 is not the root of tile/0/000"),
        "tile/0/000": (b"", "tile/0/000: 0 bytes, not 8192"),
        "tile/entries/000": (b"\xff", "tile/entries/000: bundle ends inside entry 0"),
    }
    for path, (damaged, sentence) in cases.items():
        with pytest.raises(Refused) as caught:
            read(TreeReader(checkpoint(300)), {path: damaged})
        assert caught.value.message == sentence


def test_entries_and_tiles_that_agree_but_are_not_the_checkpoints() -> None:
    """SPEC tiles-11: a log that serves another history consistently is caught at the root."""
    other = [b"other", entry(1), entry(2)]
    damage = {"tile/entries/000.p/3": encode_bundle(other), "tile/0/000.p/3": b"".join(hash_leaves(other))}
    with pytest.raises(Refused) as caught:
        read(TreeReader(checkpoint(3)), damage)
    assert caught.value.code is Code.BAD_CHECKPOINT
    assert "size 3" in caught.value.message


def test_a_rewritten_entry_is_caught_when_the_bundle_grows() -> None:
    """SPEC tiles-9: entry 257 was read before, and is another one now."""
    reader = TreeReader(checkpoint(258))
    read(reader)
    reader.continue_to(checkpoint(300))
    entries = [entry(256), b"another", *[entry(number) for number in range(258, 300)]]
    with pytest.raises(Refused) as caught:
        read(reader, {"tile/entries/001.p/44": encode_bundle(entries)})
    assert caught.value.message == "tile/entries/001.p/44: entry 257 is not the one that stood there before"
    assert len(read(reader)) == 42


def test_a_reader_who_lists_every_fault_can_go_on() -> None:
    """Refused level-0 tiles can be left out, refused higher tiles are passed, and the root still decides."""
    reader, faults, count = TreeReader(checkpoint(LARGEST)), [], 0
    damaged = {"tile/0/003", "tile/1/000", "tile/2/000.p/1"}
    for path in reader.wanted():
        data = bytes(32) if str(path) in damaged else served(path)
        try:
            if path.level == ENTRIES:
                tile = TilePath(0, path.index, path.width)
                tile_data = bytes(8192) if str(tile) in damaged else served(tile)
                count += len(reader.consume_bundle(path.index, path.width, data, tile_data))
            elif path.level != 0:
                reader.consume_tile(*path, data)
        except Refused as refusal:
            faults.append(refusal.message.partition(":")[0])
            if path.level == ENTRIES:
                count += len(reader.consume_bundle(path.index, path.width, data, None))
    reader.finish()
    assert faults == sorted(damaged)
    assert count == LARGEST


def test_reading_out_of_order_is_the_callers_mistake() -> None:
    reader = TreeReader(checkpoint(600))
    bundle = served(TilePath(ENTRIES, 0, 256))
    for call in (
        lambda: reader.consume_bundle(1, 256, bundle, None),
        lambda: reader.consume_bundle(0, 255, bundle, None),
        lambda: reader.consume_tile(0, 0, 256, None),
        lambda: reader.consume_tile(ENTRIES, 0, 256, None),
        lambda: reader.consume_tile(1, 0, 2, None),
        reader.finish,
        lambda: reader.continue_to(checkpoint(601)),
    ):
        with pytest.raises(ValueError, match="tile/entries/000"):
            call()
    assert reader.size == 0
    read(reader)
    with pytest.raises(ValueError, match="no growth"):
        reader.continue_to(checkpoint(599))
    with pytest.raises(ValueError, match="but nothing"):
        reader.consume_bundle(0, 256, bundle, None)


def test_only_the_right_edge_is_held() -> None:
    """At every step at most one tile's hashes for each level, whatever has been read."""
    reader = TreeReader(checkpoint(LARGEST))
    for path in reader.wanted():
        if path.level == ENTRIES:
            reader.consume_bundle(path.index, path.width, served(path), None)
        elif path.level != 0:
            reader.consume_tile(*path, None)
        assert all(len(row) <= 8192 for row in reader._rows)
    assert [len(row) // 32 for row in reader._rows] == [17, 1, 1]
