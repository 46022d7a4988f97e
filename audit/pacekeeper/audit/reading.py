"""Reading the tree: every bundle and tile in order, each compared with what follows from the entries.

A fault does not end the reading. After a bundle that is missing or cannot be parsed there is no order of entries any
more, so nothing is replayed from there on; what is left is still compared file by file, so that all faults are named.
Only a log that is nothing but faults, or whose size nobody vouches for, is not read to its end.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from pacekeeper.audit.head import CHECKPOINT, fault_of
from pacekeeper.audit.result import Fault
from pacekeeper.client.fetch import Source
from pacekeeper.protocol.errors import Code, Refused
from pacekeeper.protocol.tlog.checkpoint import Checkpoint
from pacekeeper.protocol.tlog.follow import TreeReader
from pacekeeper.protocol.tlog.merkle import HASH_BYTES, Frontier, hash_leaves
from pacekeeper.protocol.tlog.tiles import ENTRIES, TILE_WIDTH, TilePath, encode_bundle, parse_bundle, parse_tile

_MAX_FAULTS: Final = 1_000  # more are no news, and a checkpoint may claim 2^63 entries of which none is there
_MAX_UNVOUCHED: Final = 4_096  # bundles, a million entries: as much as is read beyond what a quorum has signed


class TreeWalk:
    """Yields the entries of a log bundle by bundle; `faults` then says what did not agree.

    vouched: how many entries the log and a quorum signed a checkpoint over; whoever replays learns who may sign, and
    raises it. Beyond it, anybody may have made up the size.
    SPEC audit-4: every bundle, tile and the root MUST be compared with what the entries hash to, and each fault named.
    SPEC audit-5: reading MUST go on after a fault, so that all are listed, up to 1,000.
    SPEC audit-12: an audit MUST end, whatever size a checkpoint claims.
    """

    def __init__(self, source: Source, checkpoint: Checkpoint, *, vouched: int) -> None:
        self.faults: list[Fault] = []
        self.size = checkpoint.size
        self._source = source
        self._checkpoint = checkpoint
        self.vouched = vouched

    def entries(self) -> Iterator[list[bytes]]:
        """Yield each bundle's entries in order, up to the first that cannot be read. Raises TemporaryFailure."""
        reader = TreeReader(self._checkpoint)
        for path in reader.wanted():
            if self._must_stop(path):
                return
            if path.level == ENTRIES:
                bundle = self._read(path)
                tile0 = self._read(TilePath(0, path.index, path.width))
                entries = None if bundle is None else self._consume(reader, path, bundle, tile0)
                if entries is None:
                    self._scan(path)
                    return
                yield entries
            elif path.level != 0:
                tile = self._read(path)
                try:
                    reader.consume_tile(path.level, path.index, path.width, tile)
                except Refused as refusal:
                    self.faults.append(fault_of(str(path), refusal))
        try:
            reader.finish()
        except Refused as refusal:
            self.faults.append(fault_of("checkpoint", refusal))

    def _consume(self, reader: TreeReader, path: TilePath, bundle: bytes, tile0: bytes | None) -> list[bytes] | None:
        try:
            return reader.consume_bundle(path.index, path.width, bundle, tile0)
        except Refused as refusal:
            self.faults.append(fault_of(refusal.message.partition(":")[0], refusal))
        try:
            return reader.consume_bundle(path.index, path.width, bundle, None)
        except Refused as refusal:
            fault = fault_of(str(path), refusal)
            if fault not in self.faults:
                self.faults.append(fault)
        return None

    def _read(self, path: TilePath) -> bytes | None:
        """Return a resource's bytes; None and a fault if there are none."""
        try:
            return read_resource(self._source, path)
        except Refused as refusal:
            self.faults.append(fault_of(str(path), refusal))
            return None

    def _must_stop(self, path: TilePath) -> bool:
        """Whether there is no point in reading on; a fault says so."""
        if len(self.faults) >= _MAX_FAULTS:
            self.faults.append(Fault("log", Code.TOO_LARGE, f"over {_MAX_FAULTS} faults; the rest was not looked at"))
            return True
        entries = self.vouched + _MAX_UNVOUCHED * TILE_WIDTH
        if path.level == ENTRIES and path.index * TILE_WIDTH >= entries:
            sentence = f"nobody vouches for its size; reading stopped after {entries} entries"
            self.faults.append(Fault(CHECKPOINT, Code.TOO_LARGE, sentence))
            return True
        return False

    def _scan(self, failed: TilePath) -> None:
        """Compare what comes after an unreadable bundle, file against file, without an order of entries."""
        for path in TreeReader(self._checkpoint).wanted():
            if self._must_stop(path):
                return
            if path.level == ENTRIES:
                if path.index > failed.index:
                    self._scan_bundle(path)
            elif path.level != 0:
                self._scan_tile(path)

    def _scan_bundle(self, path: TilePath) -> None:
        bundle = self._read(path)
        tile = self._read(TilePath(0, path.index, path.width))
        if bundle is None or tile is None:
            return
        try:
            if b"".join(hash_leaves(parse_bundle(bundle, path.width))) != tile:
                raise Refused(Code.BAD_TILE, f"{path} does not hash to tile/0 beside it")
        except Refused as refusal:
            self.faults.append(fault_of(str(path), refusal))

    def _scan_tile(self, path: TilePath) -> None:
        tile = self._read(path)
        if tile is None:
            return
        try:
            hashes = parse_tile(tile, path.width)
        except Refused as refusal:
            self.faults.append(fault_of(str(path), refusal))
            return
        level = int(path.level) - 1
        for number, expected in enumerate(hashes, start=path.index * TILE_WIDTH):
            below = TilePath(level, number)
            frontier = Frontier()
            try:
                frontier.extend(parse_tile(read_resource(self._source, below), TILE_WIDTH))
            except Refused:
                continue  # named where that tile itself is compared
            if frontier.root() != expected:
                sentence = f"{path}: its hash number {number} is not what {below} hashes to"
                self.faults.append(Fault(str(path), Code.BAD_TILE, sentence))


def read_resource(source: Source, path: TilePath) -> bytes:
    """Return a bundle's or tile's bytes, from the full one where a partial one is gone since. Refused(not-found)."""
    data = source.read(str(path))
    if data is None and path.width < TILE_WIDTH:
        data = _cut(source, path)
    if data is None:
        raise Refused(Code.NOT_FOUND, f"{path} is missing")
    return data


def _cut(source: Source, path: TilePath) -> bytes | None:
    full = source.read(str(TilePath(path.level, path.index)))
    if full is None:
        return None
    if path.level == ENTRIES:
        return encode_bundle(parse_bundle(full, TILE_WIDTH)[: path.width])
    return full[: path.width * HASH_BYTES]
