"""Logs made without a server: a log's store, or its public files, filled straight from the script.

Public files are kept below the system's folder for temporary files, named by everything that they depend on, and used
again by the next run. They are made beside their place and then renamed, so that what was cut short is never taken for
whole. Stores are made anew, since their agreement has the TLS keys of one run.

Example: made_public(found(), 200_000, cached()) -> a directory that DirectorySource reads
"""

from __future__ import annotations

import errno
import hashlib
import os
import shutil
import tempfile
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Final

from benchmarks.support import script as script_module
from benchmarks.support.founding import PARTIES, Founding
from benchmarks.support.script import Item, script
from pacekeeper.log.edge import Edge
from pacekeeper.log.store.port import Batch, Head, Slot
from pacekeeper.log.store.sqlite import SqliteStore
from pacekeeper.protocol.tlog.checkpoint import Checkpoint, format_checkpoint, sign_checkpoint
from pacekeeper.protocol.tlog.cosignature import sign_cosignature
from pacekeeper.protocol.tlog.merkle import Frontier, hash_leaves
from pacekeeper.protocol.tlog.tiles import TilePath
from pacekeeper.v1 import statements_pb2

_BATCH: Final = 256
_FORMAT: Final = 1  # raise it when this file makes logs otherwise than before


def cached() -> Path:
    """The folder for made logs, this user's alone."""
    folder = Path(tempfile.gettempdir()) / f"pacekeeper-benchmarks-{os.getuid()}"
    folder.mkdir(mode=0o700, exist_ok=True)
    status = folder.lstat()
    if status.st_uid != os.getuid() or status.st_mode & 0o077:
        raise PermissionError(f"{folder} is not this user's alone; remove it")
    return folder


def made_public(founding: Founding, count: int, folder: Path) -> Path:
    """A log's public directory with so many entries: tiles, bundles and a checkpoint that every verifier cosigned."""
    return _made(folder / f"public-{count}-{_key(founding)}", lambda place: _write_public(founding, count, place))


def write_store(path: Path, founding: Founding, items: Iterable[Item]) -> None:
    """Fill a new store at a path with entries that are committed and published."""
    store = SqliteStore(path)
    try:
        head: Head | None = None
        tree = Frontier()
        for batch in _batches(items):
            first, entries = tree.size, [item.entry for item in batch]
            slots = [Slot(item.lab, item.sequence, first + at) for at, item in enumerate(batch) if item.sequence]
            tree.extend(hash_leaves(entries))
            after = Head(tree.size, tree.root(), batch[-1].time_ms)
            store.commit(Batch(first, entries, [item.id for item in batch], slots, after), head)
            head = after
        assert head is not None
        store.publish(_note(founding, head.size, head.root, head.time_ms))
    finally:
        store.close()


def _made(place: Path, write: Callable[[Path], None]) -> Path:
    if not place.exists():
        partial = Path(tempfile.mkdtemp(prefix=place.name + ".", suffix=".partial", dir=place.parent))
        try:
            write(partial)
            try:
                partial.rename(place)
            except OSError as error:
                if error.errno != errno.ENOTEMPTY:
                    raise  # else another run was first, with the same bytes
        finally:
            shutil.rmtree(partial, ignore_errors=True)
    return place


def _key(founding: Founding) -> str:
    """A name for what a made log depends on, besides its length."""
    parts = (
        founding.agreement.fingerprint,
        Path(script_module.__file__).read_bytes(),
        statements_pb2.DESCRIPTOR.serialized_pb,
        bytes([_FORMAT]),
    )
    return hashlib.sha256(b"".join(parts)).hexdigest()[:16]


def _batches(items: Iterable[Item]) -> Iterator[list[Item]]:
    batch: list[Item] = []
    for item in items:
        batch.append(item)
        if len(batch) == _BATCH:
            yield batch
            batch = []
    if batch:
        yield batch


def _write_public(founding: Founding, count: int, place: Path) -> None:
    def put(tile: TilePath, data: bytes) -> None:
        path = place / str(tile)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)

    edge = Edge()
    last_ms = 0
    for batch in _batches(script(founding, count)):
        edge.extend([item.entry for item in batch], put)
        last_ms = batch[-1].time_ms
    for tile, data in edge.snapshot().partials():
        put(tile, data)
    (place / "checkpoint").write_bytes(_note(founding, edge.size, edge.root(), last_ms))


def _note(founding: Founding, size: int, root: bytes, time_ms: int) -> bytes:
    origin = founding.agreement.origin
    checkpoint = Checkpoint(origin, size, root)
    note = sign_checkpoint(checkpoint, origin, founding.key("log/checkpoint"))
    text = format_checkpoint(checkpoint)
    for party in PARTIES:
        key = founding.key(f"verifier-cosign/{party}")
        note += sign_cosignature(text, f"{party}.example/verifier", key, time_ms // 1000).encode()
    return note
