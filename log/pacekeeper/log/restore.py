"""A lost, damaged or outdated store is made again from a copy of the published log: a mirror's, an auditor's, our own.

1. The copy's checkpoint has the quorum's cosignatures, as its transition checkpoints have theirs, and covers everything
   that was committed under the key: entries beyond it were promised or signed, and a log that forgets them forks. Then
   only a successor can go on.
2. Every bundle and tile is compared with what the entries hash to, every entry is replayed.
3. Only when the root is the checkpoint's does the new store take the old one's place, which is kept beside it.

Tiles are not copied: the next start makes them from the store, as always.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Final

from pacekeeper.client.errors import ConfigError
from pacekeeper.client.fetch import CHECKPOINT, Source, open_source
from pacekeeper.log.chain import StoredChain
from pacekeeper.log.lock import StateLock
from pacekeeper.log.mark import HeadMark, Mark
from pacekeeper.log.recovery import identity_of
from pacekeeper.log.settings import LogFiles, load_files
from pacekeeper.log.store.port import Batch, Head, Slot, Store
from pacekeeper.log.store.sqlite import SqliteStore
from pacekeeper.protocol import limits
from pacekeeper.protocol.documents.model import Agreement
from pacekeeper.protocol.envelope import parse_entry
from pacekeeper.protocol.errors import Code, Refused
from pacekeeper.protocol.replay import Applied, State, apply, genesis
from pacekeeper.protocol.tlog.checkpoint import Checkpoint, parse_checkpoint
from pacekeeper.protocol.tlog.follow import TreeReader
from pacekeeper.protocol.tlog.merkle import Frontier, hash_leaves
from pacekeeper.protocol.tlog.note import parse_note
from pacekeeper.protocol.tlog.policy import check_checkpoint
from pacekeeper.protocol.tlog.tiles import ENTRIES, TilePath
from pacekeeper.protocol.tlog.transitions import FIRST_RULES, transition_path

_NEW: Final = "restored.sqlite"
KEPT: Final = ".before-restore"
_PARTS: Final = ("", "-wal", "-shm")  # of a SQLite file


def restore(config_path: Path, location: str) -> int:
    """Replace the log's store by what a copy at this URL or directory has; return how many entries that are.

    ConfigError if there is no copy; Refused(unsafe-state) if it may not take the store's place, or other codes naming
    what of it is damaged; TemporaryFailure if it does not answer. The store is untouched in each of these cases.
    """
    files = load_files(config_path)
    with (
        StateLock(files.state),
        HeadMark(files.head_mark, files.bundle.agreement.origin) as mark,
        contextlib.closing(open_source(location)) as source,
    ):
        note = source.read(CHECKPOINT)
        if note is None:
            raise ConfigError(f"{location} has no checkpoint")
        founding = files.bundle.agreement
        # Who else has to have signed it is known when everything up to it is replayed.
        checkpoint = check_checkpoint(note, founding.policy(), require_quorum=False).checkpoint
        _refuse_smaller(checkpoint, mark.mark, files)
        new = files.state / _NEW
        for part in _PARTS:
            Path(f"{new}{part}").unlink(missing_ok=True)
        with contextlib.closing(SqliteStore(new)) as store:
            for transition in _transitions(source, founding, checkpoint.size):
                store.publish(transition, transition=True)
            store.publish(note)
            _Copying(store, source, founding, mark.mark).run(checkpoint)
            mark.refuse_other(store)
        _put_in_place(new, files.store)
        return checkpoint.size


def _refuse_smaller(checkpoint: Checkpoint, mark: Mark | None, files: LogFiles) -> None:
    """SPEC log-31: a copy that lacks entries which were committed under the key MUST NOT take the store's place."""
    committed = mark.size if mark is not None else 0
    if files.store.exists():
        # A store that cannot be read any more says nothing of its size; the mark does.
        with contextlib.suppress(Refused), contextlib.closing(SqliteStore(files.store, read_only=True)) as old:
            head = old.head()
            committed = max(committed, head.size if head else 0)
    if checkpoint.size < committed:
        raise Refused(
            Code.UNSAFE_STATE,
            f"the copy has {checkpoint.size} entries, and {committed} were committed under this key: going on from the "
            "copy would fork the log; find a fuller copy",
        )


def _put_in_place(new: Path, place: Path) -> None:
    for part in _PARTS:
        old = Path(f"{place}{part}")
        if old.exists():
            old.replace(f"{place}{KEPT}{part}")
    new.replace(place)


def _transitions(source: Source, founding: Agreement, size: int) -> Iterator[bytes]:
    """Yield the copy's transition checkpoints over trees up to a size; they are checked as the replay comes to them."""
    most = limits.MAX_TRANSITIONS if founding.rules_version >= FIRST_RULES else 0
    for number in range(1, most + 1):
        note = source.read(transition_path(number))
        if note is None or parse_checkpoint(parse_note(note).text).size > size:
            return
        yield note


class _Copying:
    """Reads a published tree into a store that has the copy's checkpoints and no entries yet."""

    def __init__(self, store: Store, source: Source, founding: Agreement, mark: Mark | None) -> None:
        self._store = store
        self._source = source
        self._fingerprint = founding.fingerprint
        self._chain = StoredChain(store, founding)
        self._committed = mark.size if mark is not None else 0
        self._frontier = Frontier()
        self._state: State | None = None

    def run(self, checkpoint: Checkpoint) -> None:
        reader = TreeReader(checkpoint)
        for path in reader.wanted():
            if path.level == ENTRIES:
                level0 = self._read(TilePath(0, path.index, path.width))
                self._take(reader.consume_bundle(path.index, path.width, self._read(path), level0))
            elif path.level != 0:
                reader.consume_tile(path.level, path.index, path.width, self._read(path))
        reader.finish()

    def _read(self, path: TilePath) -> bytes:
        data = self._source.read(str(path))
        if data is None:
            raise Refused(Code.NOT_FOUND, f"{path} is missing from the copy")
        return data

    def _take(self, entries: list[bytes]) -> None:
        """Commit entries so that a batch ends where the mark is, whose root is looked for there, and at checkpoints."""
        first = self._frontier.size
        stops = self._chain.stops(first, first + len(entries))
        inside = [stop for stop in (self._committed, *stops) if first < stop < first + len(entries)]
        for start, end in pairwise(sorted({first, *inside, first + len(entries)})):
            self._commit(entries[start - first : end - first])
            if end in stops:
                assert self._state is not None
                self._chain.reach(end, self._frontier.root(), self._state.agreement)

    def _commit(self, entries: list[bytes]) -> None:
        first = self._frontier.size
        slots = [slot for index, entry in enumerate(entries, first) if (slot := self._replay(index, entry))]
        self._frontier.extend(hash_leaves(entries))
        assert self._state is not None
        head = Head(self._frontier.size, self._frontier.root(), self._state.last_time_ms)
        ids = [identity_of(entry) for entry in entries]
        self._store.commit(Batch(first, entries, ids, slots, head), self._store.head())

    def _replay(self, index: int, entry: bytes) -> Slot | None:
        """Replay an entry; return the sequence number that it takes. Its signatures are pinned by the root."""
        if self._state is None:
            self._state = genesis(entry)
            if self._state.agreement.fingerprint != self._fingerprint:
                raise Refused(Code.UNSAFE_STATE, "the copy is the log of another agreement than the bundle's")
            return None
        outcome = apply(self._state, entry, verify=_pinned)
        if isinstance(outcome, Applied) and outcome.slot is not None:
            return Slot(*outcome.slot, index)
        parse_entry(entry)  # void or not, what cannot be read has no identity to be stored under
        return None


def _pinned(_key: bytes, _message: bytes, _signature: bytes) -> bool:
    return True
