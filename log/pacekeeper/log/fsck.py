"""A full check of a log's state directory, from the bytes alone: store, indices, replay, checkpoint, public files.

It lists every problem that it finds, in sentences; an empty list means that everything agrees. It needs no lock and
writes nothing, so that it also runs beside a log that serves, or over a copy; what the log publishes meanwhile may then
show as a difference of checkpoint or tiles, and goes away when it is run again.

1. The store's file is sound by SQLite's own check, and its batches follow on each other.
2. Every entry replays with its signatures verified, none is void, and after each batch the root is the stored one.
3. The identity of every entry leads to its index, and there are no others; so do the labs' sequence numbers.
4. The head is that of the entries; the checkpoint is signed by log and quorum, and its root is theirs.
5. The public files are the published tree's, byte for byte. The checkpoint file may be an older one of the same tree,
   as a log leaves it that was killed between the store and the file; the next start brings it up.
"""

from __future__ import annotations

from pathlib import Path

from pacekeeper.log.edge import Edge
from pacekeeper.log.files import CHECKPOINT, PublicFiles, read_if_there
from pacekeeper.log.recovery import UNSAFE_MARKER, check_head
from pacekeeper.log.store.port import Store, StoredBatch
from pacekeeper.log.store.sqlite import SqliteStore
from pacekeeper.protocol.errors import Refused
from pacekeeper.protocol.replay import Applied, State, Void, apply, genesis
from pacekeeper.protocol.tlog.merkle import Frontier, hash_leaves
from pacekeeper.protocol.tlog.policy import CheckedCheckpoint, check_checkpoint
from pacekeeper.protocol.tlog.tiles import TilePath

MAX_PROBLEMS = 1_000  # listed; a store that is damaged throughout needs no longer list


def fsck(state_directory: Path) -> list[str]:
    """Return the problems of a log's state directory, none if it is sound."""
    problems: list[str] = []
    marker = state_directory / UNSAFE_MARKER
    if marker.exists():
        problems.append(f"{marker} says that a write has failed")
    try:
        store = SqliteStore(state_directory / "log.sqlite", read_only=True)
    except Refused as refused:
        return [*problems, refused.message]
    try:
        problems.extend(store.check_file())
        return (problems + check_store(store, PublicFiles(state_directory / "public")))[:MAX_PROBLEMS]
    except Refused as refused:
        return [*problems, refused.message]
    finally:
        store.close()


def check_store(store: Store, files: PublicFiles) -> list[str]:
    """Return the problems of a store and its public files. Refused(unsafe-state) where nothing more can be read."""
    return _Check(store, files).run()


class _Check:
    def __init__(self, store: Store, files: PublicFiles) -> None:
        self._store = store
        self._files = files
        self._frontier = Frontier()
        self._edge = Edge()
        self._state: State | None = None
        self._slots = 0
        self._published: CheckedCheckpoint | None = None
        self._file: CheckedCheckpoint | None = None
        self.problems: list[str] = []

    def run(self) -> list[str]:
        for batch in self._store.batches():
            if batch.first_index != self._frontier.size:
                self.problems.append(f"entries {self._frontier.size} to {batch.first_index - 1} are missing")
                return self.problems
            self._take(batch)
            if self._state is None:
                return self.problems
        self._check_ends()
        return self.problems

    def _take(self, batch: StoredBatch) -> None:
        first, entries = batch.first_index, batch.entries
        applied = self._replay(entries)
        if self._state is None:
            return
        if first == 0:
            self._find_checkpoints()
        self._check_file_root(entries)
        self._frontier.extend(hash_leaves(entries))
        if self._frontier.root() != batch.root:
            self.problems.append(f"entries {first} to {first + len(entries) - 1} do not hash to the stored root")
        self._check_indices(applied)
        size = self._published.checkpoint.size if self._published else 0
        self._edge.extend(entries[: max(0, size - first)], self._check_tile)
        if first < size <= first + len(entries):
            self._check_published(size)

    def _replay(self, entries: list[bytes]) -> list[Applied]:
        rest = entries
        if self._state is None:
            try:
                self._state, rest = genesis(entries[0]), entries[1:]
            except Refused as refused:
                self.problems.append(f"entry 0 does not found a log: {refused.message}")
                return []
        applied = []
        for entry in rest:
            outcome = apply(self._state, entry)
            if isinstance(outcome, Void):
                self.problems.append(f"entry {outcome.index} is void: {outcome.code}: {outcome.message}")
            else:
                applied.append(outcome)
        return applied

    def _check_indices(self, applied: list[Applied]) -> None:
        known = self._store.known([outcome.id for outcome in applied])
        for outcome in applied:
            if known.get(outcome.id) != outcome.index:
                self.problems.append(f"the identity of entry {outcome.index} does not lead to it")
            if outcome.slot is not None:
                self._slots += 1
                if self._store.slot(*outcome.slot) != outcome.index:
                    self.problems.append(f"the sequence number of entry {outcome.index} does not lead to it")

    def _find_checkpoints(self) -> None:
        """Open the published checkpoint, and the file's, under the agreement that entry 0 founds."""
        self._published = self._open(self._store.published(), "the published checkpoint")
        path = self._files.directory / CHECKPOINT
        try:
            note = read_if_there(path)
        except Refused as refused:
            self.problems.append(refused.message)
            return
        self._file = self._open(note, str(path))
        if note is None and self._published is not None:
            self.problems.append(f"{path} is missing")
        if self._file is not None and (
            self._published is None or self._file.checkpoint.size > self._published.checkpoint.size
        ):
            self.problems.append(f"{path} is newer than the published checkpoint of the store")

    def _open(self, note: bytes | None, what: str) -> CheckedCheckpoint | None:
        assert self._state is not None
        if note is None:
            return None
        try:
            return check_checkpoint(note, self._state.agreement.policy())
        except Refused as refused:
            self.problems.append(f"{what}: {refused.message}")
            return None

    def _check_tile(self, tile: TilePath, data: bytes) -> None:
        try:
            present = self._files.read(tile)
        except Refused as refused:
            self.problems.append(refused.message)
            return
        if present is None:
            self.problems.append(f"{tile} is missing from the public files")
        elif present != data:
            self.problems.append(f"{tile} differs from the stored entries")

    def _check_published(self, size: int) -> None:
        assert self._published is not None
        if self._edge.root() != self._published.checkpoint.root:
            self.problems.append(f"entries 0 to {size - 1} do not hash to the root of the published checkpoint")
        for tile, data in self._edge.snapshot().partials():
            self._check_tile(tile, data)

    def _check_ends(self) -> None:
        try:
            check_head(self._store.head(), self._frontier, self._state)
        except Refused as refused:
            self.problems.append(refused.message)
        if self._published is not None and self._published.checkpoint.size > self._frontier.size:
            size = self._published.checkpoint.size
            self.problems.append(f"{size} entries are published, {self._frontier.size} are stored")
        ids, slots = self._store.counts()
        if ids != self._frontier.size:
            self.problems.append(f"{ids} identities are indexed for {self._frontier.size} entries")
        if slots != self._slots:
            self.problems.append(f"{slots} sequence numbers are indexed, {self._slots} are on the log")

    def _check_file_root(self, entries: list[bytes]) -> None:
        if self._file is None:
            return
        size, first = self._file.checkpoint.size, self._frontier.size
        if first < size <= first + len(entries):
            tree = self._frontier.copy()
            tree.extend(hash_leaves(entries[: size - first]))
            if tree.root() != self._file.checkpoint.root:
                self.problems.append(f"entries 0 to {size - 1} do not hash to the root of the checkpoint file")
