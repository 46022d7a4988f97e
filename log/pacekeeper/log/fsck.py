"""A full check of a log's state directory, from the bytes alone: store, indices, replay, checkpoint, public files.

It lists every problem that it finds, in sentences; an empty list means that everything agrees. It needs no lock and
writes nothing, so that it also runs beside a log that serves, or over a copy; what the log publishes meanwhile may then
show as a difference of checkpoint or tiles, and goes away when it is run again.

1. The store's file is sound by SQLite's own check, and its batches follow on each other.
2. Every entry replays with its signatures verified, none is void, and after each batch the root is the stored one.
3. The identity of every entry leads to its index, and there are no others; so do the labs' sequence numbers.
4. The head is that of the entries; the checkpoint is signed by log and quorum, and its root is theirs; so is each
   transition checkpoint, by the quorums before and after it.
5. The public files are the published tree's, byte for byte. The checkpoint file may be an older one of the same tree,
   as a log leaves it that was killed between the store and the file; the next start brings it up.
"""

from __future__ import annotations

import contextlib
from pathlib import Path

from pacekeeper.log.chain import PUBLISHED, StoredChain
from pacekeeper.log.edge import Edge
from pacekeeper.log.files import CHECKPOINT, PublicFiles, read_if_there
from pacekeeper.log.recovery import UNSAFE_MARKER, check_head, identity_of
from pacekeeper.log.store.port import Store, StoredBatch
from pacekeeper.log.store.sqlite import SqliteStore
from pacekeeper.protocol import limits
from pacekeeper.protocol.documents.model import Agreement
from pacekeeper.protocol.errors import Refused
from pacekeeper.protocol.replay import Applied, State, Void, apply, genesis
from pacekeeper.protocol.tlog.checkpoint import Checkpoint, parse_checkpoint
from pacekeeper.protocol.tlog.merkle import Frontier, leaf_hash
from pacekeeper.protocol.tlog.note import parse_note
from pacekeeper.protocol.tlog.policy import check_checkpoint
from pacekeeper.protocol.tlog.tiles import TilePath
from pacekeeper.protocol.tlog.transitions import transition_path

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


def compare(old: Store, new: Store) -> list[str]:
    """Return where a store differs from an older state of itself, as after a migration; the new one may have more.

    SPEC log-39: a store that takes the place of another MUST hold every entry of it, byte for byte at its index, and
    its published checkpoint or a later one.
    """
    problems: list[str] = []
    size = 0
    for batch in old.batches():
        if batch.first_index != size:
            return [*problems, f"the old store lacks entries {size} to {batch.first_index - 1}"]
        position = 0
        while position < len(batch.entries):
            found = new.read(size + position, size + len(batch.entries), limits.MAX_SUBMIT_BYTES)
            if not found:
                return [*problems, f"entries from {size + position} on are missing"]
            pairs = zip(batch.entries[position:], found, strict=False)
            problems.extend(
                f"entry {index} is another one" for index, (was, is_) in enumerate(pairs, size + position) if was != is_
            )
            position += len(found)
        size += len(batch.entries)
        if len(problems) >= MAX_PROBLEMS:
            return problems[:MAX_PROBLEMS]
    was, now = _published_size(old), _published_size(new)
    if now < was:
        problems.append(f"a checkpoint over {was} entries was published, here one over {now}")
    kept, here = old.transitions(), new.transitions()
    if here[: len(kept)] != kept:
        problems.append(f"of {len(kept)} transition checkpoints not all are here as they were published")
    return problems


def _published_size(store: Store) -> int:
    note = store.published()
    return parse_checkpoint(parse_note(note).text).size if note is not None else 0


def against(state_directory: Path, old_directory: Path) -> list[str]:
    """Return where the store of one state directory differs from that of an older one. Both are only read."""
    try:
        with (
            contextlib.closing(SqliteStore(state_directory / "log.sqlite", read_only=True)) as new,
            contextlib.closing(SqliteStore(old_directory / "log.sqlite", read_only=True)) as old,
        ):
            return compare(old, new)
    except Refused as refused:
        return [refused.message]


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
        self._chain: StoredChain | None = None
        self._published: Checkpoint | None = None
        self._file: Checkpoint | None = None
        self._file_note = b""
        self._stops: set[int] = set()
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
        if first == 0 and self._store.known([identity_of(entries[0])]) == {}:
            self.problems.append("the identity of entry 0 does not lead to it")
        if self._frontier.root() != batch.root:
            self.problems.append(f"entries {first} to {first + len(entries) - 1} do not hash to the stored root")
        self._check_indices(applied)
        size = self._published.size if self._published else 0
        self._edge.extend(entries[: max(0, size - first)], self._check_tile)
        if first < size <= first + len(entries):
            self._check_published(size)

    def _replay(self, entries: list[bytes]) -> list[Applied]:
        """Hash and replay a batch, with a look at the checkpoints of each size on the way."""
        applied = []
        for entry in entries:
            outcome: Applied | Void | None = None
            if self._state is None:
                try:
                    self._state = genesis(entry)
                except Refused as refused:
                    self.problems.append(f"entry 0 does not found a log: {refused.message}")
                    return []
                self._find_checkpoints(self._state.agreement)
            else:
                outcome = apply(self._state, entry)
            self._frontier.append(leaf_hash(entry))
            if self._state.size in self._stops:
                self._check_stop(self._state, self._frontier.root())
            if isinstance(outcome, Void):
                self.problems.append(f"entry {outcome.index} is void: {outcome.code}: {outcome.message}")
            elif outcome is not None:
                applied.append(outcome)
        return applied

    def _check_stop(self, state: State, root: bytes) -> None:
        """Compare what was published of this size with the tree and with the agreement in force in it."""
        if self._chain is not None:
            try:
                self._chain.reach(state.size, root, state.agreement)
            except Refused as refused:
                self.problems.append(refused.message)
        if self._file is not None and self._file.size == state.size:
            path = self._files.directory / CHECKPOINT
            try:
                check_checkpoint(self._file_note, state.agreement.policy())
            except Refused as refused:
                self.problems.append(f"{path}: {refused.message}")
            if self._file.root != root:
                self.problems.append(f"entries 0 to {state.size - 1} do not hash to the root of the checkpoint file")

    def _check_indices(self, applied: list[Applied]) -> None:
        known = self._store.known([outcome.id for outcome in applied])
        for outcome in applied:
            if known.get(outcome.id) != outcome.index:
                self.problems.append(f"the identity of entry {outcome.index} does not lead to it")
            if outcome.slot is not None:
                self._slots += 1
                if self._store.slot(*outcome.slot) != outcome.index:
                    self.problems.append(f"the sequence number of entry {outcome.index} does not lead to it")

    def _find_checkpoints(self, founding: Agreement) -> None:
        """Find what the store and the public files say is published, and at which sizes that is to be checked."""
        try:
            self._chain = StoredChain(self._store, founding)
        except Refused as refused:
            self.problems.append(refused.message)
        published = self._store.published()
        self._published = self._read(published, PUBLISHED)
        path = self._files.directory / CHECKPOINT
        try:
            note = read_if_there(path)
        except Refused as refused:
            self.problems.append(refused.message)
            return
        self._file, self._file_note = self._read(note, str(path)), note or b""
        if note is None and published is not None:
            self.problems.append(f"{path} is missing")
        if self._file is not None and (self._published is None or self._file.size > self._published.size):
            self.problems.append(f"{path} is newer than the published checkpoint of the store")
        kept = [] if self._chain is None else [kept.size for kept in self._chain.kept]
        self._stops = {*kept, *([self._file.size] if self._file else [])}
        self._check_transition_files()

    def _check_transition_files(self) -> None:
        notes = self._store.transitions()
        for number, note in enumerate(notes, start=1):
            path = transition_path(number)
            present = self._files.read_transition(number)
            if present is None:
                self.problems.append(f"{path} is missing from the public files")
            elif present != note:
                self.problems.append(f"{path} differs from the one in the store")
        # One more file than there are transitions would have a reader look for a change of the verifiers.
        if self._files.read_transition(len(notes) + 1) is not None:
            self.problems.append(f"{transition_path(len(notes) + 1)} is not in the store")

    def _read(self, note: bytes | None, what: str) -> Checkpoint | None:
        """Return what a note claims; it is checked when the replay comes to its size."""
        try:
            return None if note is None else parse_checkpoint(parse_note(note).text)
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
        if self._edge.root() != self._published.root:
            self.problems.append(f"entries 0 to {size - 1} do not hash to the root of the published checkpoint")
        for tile, data in self._edge.snapshot().partials():
            self._check_tile(tile, data)

    def _check_ends(self) -> None:
        try:
            check_head(self._store.head(), self._frontier, self._state)
        except Refused as refused:
            self.problems.append(refused.message)
        if self._published is not None and self._published.size > self._frontier.size:
            size = self._published.size
            self.problems.append(f"{size} entries are published, {self._frontier.size} are stored")
        ids, slots = self._store.counts()
        if ids != self._frontier.size:
            self.problems.append(f"{ids} identities are indexed for {self._frontier.size} entries")
        if slots != self._slots:
            self.problems.append(f"{slots} sequence numbers are indexed, {self._slots} are on the log")
