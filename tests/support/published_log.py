"""A published log as files: bundles, tiles and a cosigned checkpoint, made by the protocol's functions alone.

Example:
    log = PublishedLog(world, tmp_path / "log")          # every verifier has cosigned
    log.write(cosigners=("norland", "sudland"))          # the same tree, with fewer cosignatures
    assert audit(DirectorySource(log.directory), log.fingerprint).status == Exit.COMPLIANT
"""

from __future__ import annotations

import functools
import http.server
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from agreements import verifier_name
from world import World

from pacekeeper.protocol.tlog.checkpoint import Checkpoint, sign_checkpoint
from pacekeeper.protocol.tlog.cosignature import sign_cosignature
from pacekeeper.protocol.tlog.merkle import EMPTY_ROOT, HashTree, hash_leaves
from pacekeeper.protocol.tlog.note import parse_note
from pacekeeper.protocol.tlog.tiles import ENTRIES, TILE_HEIGHT, TILE_WIDTH, TilePath, encode_bundle, tiles_for


def tree_files(entries: Sequence[bytes]) -> Iterator[tuple[TilePath, bytes]]:
    """Yield every bundle and tile of the tree of these entries."""
    tree = HashTree(hash_leaves(entries))
    for tile in tiles_for(len(entries)):
        start = tile.index * TILE_WIDTH
        assert not isinstance(tile.level, str)
        hashes = [tree.read_subtree(TILE_HEIGHT * tile.level, start + at) for at in range(tile.width)]
        yield tile, b"".join(hashes)
        if tile.level == 0:
            yield TilePath(ENTRIES, tile.index, tile.width), encode_bundle(entries[start : start + tile.width])


class PublishedLog:
    """A directory with the log of a world. Nothing is checked on the way, so that a test can publish what is wrong."""

    def __init__(
        self,
        world: World,
        directory: Path,
        *,
        cosigners: Sequence[str] | None = None,
        entries: Sequence[bytes] | None = None,
        now_ms: int | None = None,
    ) -> None:
        self.world = world
        self.directory = directory
        self.fingerprint = world.agreement.fingerprint
        self.parties = world.keys.party_ids
        self.now_ms = now_ms
        self.write(cosigners=cosigners, entries=entries)

    def write(self, *, cosigners: Sequence[str] | None = None, entries: Sequence[bytes] | None = None) -> None:
        """Write the tree of the world's entries (or of others), cosigned by some parties, by default by all."""
        entries = self.world.entries if entries is None else entries
        for tile, data in tree_files(entries):
            self.put(str(tile), data)
        root = HashTree(hash_leaves(entries)).root() if entries else EMPTY_ROOT
        self.put("checkpoint", self.note(len(entries), root, cosigners=cosigners))

    def note(
        self, size: int, root: bytes, *, cosigners: Sequence[str] | None = None, origin: str | None = None
    ) -> bytes:
        """A checkpoint of any tree, signed by the log and cosigned by some parties, by default by all."""
        keys = self.world.keys
        checkpoint = Checkpoint(origin or self.world.agreement.origin, size, root)
        note = sign_checkpoint(checkpoint, self.world.agreement.log.key.name, keys.log_checkpoint).decode()
        text = parse_note(note.encode()).text
        time_s = (self.world.state.last_time_ms if self.now_ms is None else self.now_ms) // 1000
        for party in self.parties if cosigners is None else cosigners:
            note += sign_cosignature(text, verifier_name(party), keys.verifier_cosign(party), time_s)
        return note.encode()

    def root(self, size: int | None = None) -> bytes:
        """The root of the first entries, of all by default."""
        return HashTree(hash_leaves(self.world.entries)).root(size)

    def put(self, path: str, data: bytes) -> None:
        """Write one file."""
        target = self.directory / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(data)

    def read(self, path: str) -> bytes:
        """Read one file."""
        return (self.directory / path).read_bytes()

    def files(self) -> list[str]:
        """Every file's path, sorted."""
        return sorted(str(path.relative_to(self.directory)) for path in self.directory.rglob("*") if path.is_file())


class _QuietHandler(http.server.SimpleHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002  the base class's name
        """Say nothing."""


@contextmanager
def served(directory: Path) -> Iterator[str]:
    """Serve a directory on loopback, as any static web server would; yield its URL."""
    handler = functools.partial(_QuietHandler, directory=str(directory))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_address[1]}/"
        finally:
            server.shutdown()
            thread.join()
