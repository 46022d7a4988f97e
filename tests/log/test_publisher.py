"""Tiles, bundles and the checkpoint file: what the publisher writes is what the tree's definition asks for."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest
from agreements import signing_key

from pacekeeper.log.edge import Edge
from pacekeeper.log.files import PublicFiles
from pacekeeper.log.fsck import compare
from pacekeeper.log.published import Prover, PublishedTree
from pacekeeper.log.publisher import Publisher
from pacekeeper.log.store.memory import MemoryStore
from pacekeeper.log.store.port import Batch, Head
from pacekeeper.protocol.errors import Code, Refused
from pacekeeper.protocol.tlog.checkpoint import Checkpoint, sign_checkpoint
from pacekeeper.protocol.tlog.merkle import EMPTY_ROOT, HashTree, check_inclusion, hash_leaves, leaf_hash
from pacekeeper.protocol.tlog.tiles import ENTRIES, TilePath, encode_bundle, parse_bundle, tiles_for

ORIGIN = "example.org/log"
KEY = signing_key("publisher test")


def _entries(count: int, start: int = 0) -> list[bytes]:
    return [b"entry %d" % number for number in range(start, start + count)]


class Shop:
    """A store, its public files and a publisher."""

    def __init__(self, directory: Path) -> None:
        self.store = MemoryStore()
        self.files = PublicFiles(directory)
        self.publisher = Publisher(self.store, self.files, ORIGIN, KEY)

    def grow(self, count: int) -> Head:
        old = self.store.head()
        first = old.size if old else 0
        entries = _entries(count, first)
        tree = HashTree(hash_leaves(_entries(first + count)))
        head = Head(first + count, tree.root(), first)
        ids = [hashlib.sha256(entry).digest() for entry in entries]
        self.store.commit(Batch(first, entries, ids, [], head), old)
        return head

    def publish(self) -> PublishedTree:
        head = self.store.head()
        assert head is not None
        return self.publisher.publish(self.publisher.prepare(head))


@pytest.mark.parametrize("sizes", [(1,), (255, 1, 1), (256,), (300, 300), (5, 65_530, 2), (65_536 + 257,)])
def test_the_files_are_those_of_the_published_tree(tmp_path: Path, sizes: tuple[int, ...]) -> None:
    """SPEC log-18: after a publication every tile and bundle of its tree is there, with the bytes it must have."""
    shop = Shop(tmp_path)
    tree = None
    for size in sizes:
        shop.grow(size)
        tree = shop.publish()
    assert tree is not None
    entries = _entries(tree.size)
    reference = HashTree(hash_leaves(entries))
    for tile in tiles_for(tree.size):
        assert isinstance(tile.level, int)
        first = tile.index * 256
        hashes = b"".join(reference.read_subtree(8 * tile.level, n) for n in range(first, first + tile.width))
        assert (tmp_path / str(tile)).read_bytes() == hashes
        if tile.level == 0:
            bundle = TilePath(ENTRIES, tile.index, tile.width)
            assert (tmp_path / str(bundle)).read_bytes() == encode_bundle(entries[first : first + tile.width])
    assert (tmp_path / "checkpoint").read_bytes() == tree.note == shop.store.published()


def test_every_narrower_width_is_cut_from_the_wider_tile(tmp_path: Path) -> None:
    """SPEC log-15: also of a tile that has filled up since, and none wider than the published tree has."""
    shop = Shop(tmp_path)
    shop.grow(300)
    tree = shop.publish()
    entries = _entries(300)
    for index, width in ((0, 1), (0, 255), (0, 256), (1, 1), (1, 44)):
        some = entries[index * 256 : index * 256 + width]
        assert tree.read(TilePath(0, index, width)) == b"".join(hash_leaves(some))
        bundle = tree.read(TilePath(ENTRIES, index, width))
        assert bundle is not None
        assert parse_bundle(bundle, width) == some
    assert tree.read(TilePath(0, 1, 45)) is None
    assert tree.read(TilePath(0, 2, 1)) is None
    assert tree.read(TilePath(1, 0, 2)) is None
    assert tree.read(TilePath(2, 0, 1)) is None


def test_an_older_tree_still_reads_while_the_next_is_prepared(tmp_path: Path) -> None:
    shop = Shop(tmp_path)
    shop.grow(200)
    tree = shop.publish()
    shop.publisher.prepare(shop.grow(400))
    assert tree.read(TilePath(0, 0, 200)) == b"".join(hash_leaves(_entries(200)))
    assert tree.read(TilePath(0, 0, 201)) is None
    assert (tmp_path / "checkpoint").read_bytes() == tree.note


def test_proofs_from_tiles_verify_for_every_entry(tmp_path: Path) -> None:
    shop = Shop(tmp_path)
    prover = Prover()
    for count in (3, 254, 300):
        head = shop.grow(count)
        tree = shop.publish()
        for index in [*range(0, tree.size, 7), tree.size - 1]:
            proof = prover.prove(index, tree)
            check_inclusion(leaf_hash(b"entry %d" % index), index, tree.size, proof, head.root)


def test_a_bit_that_flips_between_commit_and_checkpoint_is_not_signed(tmp_path: Path) -> None:
    """SPEC log-17 (FAULTS 11): the root is computed again from the stored bytes before it is signed."""
    shop = Shop(tmp_path)
    head = shop.grow(10)
    batch = next(shop.store.batches())
    batch.entries[4] = b"entry 5"
    with pytest.raises(Refused) as refused:
        shop.publisher.prepare(head)
    assert refused.value.code is Code.UNSAFE_STATE


def test_a_torn_tile_is_made_again_and_a_damaged_one_stops_the_log(tmp_path: Path) -> None:
    """SPEC log-11, SPEC log-12 (FAULTS 3, 10): temporary files are ignored, short files replaced, others refused."""
    tile = TilePath(0, 0)
    files = PublicFiles(tmp_path)
    path = tmp_path / str(tile)
    files.put_full(tile, b"x" * 8192)
    path.with_name("000.tmp").write_bytes(b"torn")
    path.write_bytes(b"x" * 100)
    files.put_full(tile, b"x" * 8192)
    assert path.read_bytes() == b"x" * 8192
    files.sweep()
    assert not path.with_name("000.tmp").exists()
    path.write_bytes(b"y" + b"x" * 8191)
    with pytest.raises(Refused, match="differs from the stored entries") as refused:
        files.put_full(tile, b"x" * 8192)
    assert refused.value.code is Code.UNSAFE_STATE
    assert path.read_bytes() == b"y" + b"x" * 8191


def test_old_partial_tiles_go_and_the_one_before_stays(tmp_path: Path) -> None:
    shop = Shop(tmp_path)
    for _ in range(4):
        shop.grow(10)
        shop.publish()
    assert sorted(path.name for path in (tmp_path / "tile/0/000.p").iterdir()) == ["30", "40"]
    shop.grow(300)
    shop.publish()
    shop.grow(1)
    shop.publish()
    assert not (tmp_path / "tile/0/000.p").exists()
    assert sorted(path.name for path in (tmp_path / "tile/0/001.p").iterdir()) == ["84", "85"]
    (tmp_path / "tile/0/001.p/17").write_bytes(b"left by a killed process")
    shop.files.sweep()
    assert sorted(path.name for path in (tmp_path / "tile/0/001.p").iterdir()) == ["84", "85"]


def test_an_edge_has_the_root_of_the_tree_at_every_size() -> None:
    edge = Edge()
    reference = HashTree()
    for number in range(600):
        entry = b"entry %d" % number
        edge.extend([entry], lambda _tile, _data: None)
        reference.append(leaf_hash(entry))
        assert edge.root() == reference.root()


def test_a_transition_checkpoint_is_in_place_before_the_checkpoint_file_and_never_changes(tmp_path: Path) -> None:
    """SPEC transition-6, SPEC transition-7: made again where it is missing, and a stop where it differs."""
    shop = Shop(tmp_path)
    head = shop.grow(3)
    tree = shop.publisher.publish(shop.publisher.prepare(head), transition=True)
    late = tree.note + b"one line more"
    assert shop.publisher.republish(tree, late).transitions == ((3, tree.note),)
    path = tmp_path / "transition/1"
    assert (path.read_bytes(), shop.store.transitions()) == (tree.note, [tree.note])
    assert (tmp_path / "checkpoint").read_bytes() == late
    path.unlink()
    Publisher(shop.store, shop.files, ORIGIN, KEY).restore([(3, tree.note)])
    assert path.read_bytes() == tree.note
    path.write_bytes(late)
    with pytest.raises(Refused, match="transition/1 differs") as refused:
        Publisher(shop.store, shop.files, ORIGIN, KEY).restore([(3, tree.note)])
    assert refused.value.code is Code.UNSAFE_STATE
    assert path.read_bytes() == late


def test_a_failure_between_the_two_leaves_the_old_checkpoint_file(tmp_path: Path) -> None:
    """SPEC transition-6: who sees the new checkpoint finds the transition; the reverse is only early."""
    shop = Shop(tmp_path)
    shop.grow(3)
    first = shop.publish()
    head = shop.grow(2)
    (tmp_path / "transition").write_bytes(b"in the way")
    with pytest.raises(Refused) as refused:
        shop.publisher.publish(shop.publisher.prepare(head), transition=True)
    assert refused.value.code is Code.UNSAFE_STATE
    assert (tmp_path / "checkpoint").read_bytes() == first.note


def test_a_migration_that_loses_a_transition_checkpoint_is_named() -> None:
    """SPEC transition-6: a verifier that left cannot cosign it again."""
    old, new = MemoryStore(), MemoryStore()
    for note in (b"first", b"second"):
        old.publish(note, transition=True)
    for store in (old, new):
        store.publish(sign_checkpoint(Checkpoint(ORIGIN, 0, EMPTY_ROOT), ORIGIN, KEY))
    new.publish(old.published() or b"")
    assert compare(old, new) == ["of 2 transition checkpoints not all are here as they were published"]
    assert compare(new, old) == []
