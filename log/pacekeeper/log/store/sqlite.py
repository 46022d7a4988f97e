"""The embedded store: one SQLite file in write-ahead mode, each commit on disk before it returns.

A batch of entries is one row, so that a commit costs one small transaction however many entries it carries; so is what
one lab's sequence numbers in it lead to. Identities stand in their batch's row, and are found by an index in memory
that is made when the store is opened. The head is one row, replaced by compare-and-swap.

SQLite reports some failures only in what a pragma returns, so every pragma that durability rests on is read back. It
keeps others to itself: an error while it moves its journal into the file, or while it makes a new file's name durable.
Both are therefore done here, where an error stops the store.
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from threading import Lock
from typing import Final

from pacekeeper.log.store.framing import frame, unframe
from pacekeeper.log.store.identities import IdentityIndex
from pacekeeper.log.store.port import Batch, Head, Slot, StoredBatch, check_successor
from pacekeeper.protocol.errors import Code, Refused

_APPLICATION_ID: Final = 0x50434B4C  # "PCKL": a file of another program is not opened
_VERSION: Final = 3
_PLACE: Final = 8  # bytes of an index
_ID: Final = 32  # bytes of an identity
_PAGES: Final = 5 * 4_096  # of the journal that a commit takes besides its entries, about
JOURNAL_BYTES: Final = 4_194_304  # after which the journal is moved into the file, as SQLite itself would do it
_TABLES: Final = """
CREATE TABLE batches (first INTEGER PRIMARY KEY, count INTEGER NOT NULL, root BLOB NOT NULL, ids BLOB NOT NULL,
                      entries BLOB NOT NULL);
CREATE TABLE slots (lab TEXT, sequence INTEGER, places BLOB NOT NULL, PRIMARY KEY (lab, sequence)) WITHOUT ROWID;
CREATE TABLE head (one INTEGER PRIMARY KEY CHECK (one = 1), size INTEGER NOT NULL, root BLOB NOT NULL,
                   time_ms INTEGER NOT NULL);
CREATE TABLE published (one INTEGER PRIMARY KEY CHECK (one = 1), note BLOB NOT NULL);
CREATE TABLE transitions (number INTEGER PRIMARY KEY, note BLOB NOT NULL);
"""


class SqliteStore:
    """See pacekeeper.log.store.port.Store. One writer connection, one reader connection, each behind its lock."""

    def __init__(self, path: Path, *, read_only: bool = False) -> None:
        """Open or create the store. Refused(unsafe-state) if the file is not a sound store of this version."""
        if read_only and not path.is_file():
            raise Refused(Code.UNSAFE_STATE, f"{path} does not exist")
        self._path = path
        self._failed = read_only
        self._write_lock, self._read_lock, self._index_lock = Lock(), Lock(), Lock()
        self._index = IdentityIndex()
        self._indexed = 0
        self._journal_bytes = 0
        try:
            self._writer = _connect(path)
            self._reader = _connect(path)
            self._prepare(create=not read_only)
            if not read_only:
                _sync_directory(path.parent)
            for first, ids in self._reader.execute("SELECT first, ids FROM batches ORDER BY first"):
                self._add_to_index(first, _split_ids(ids))
        except sqlite3.Error as error:
            raise Refused(Code.UNSAFE_STATE, f"{path} cannot be opened as a log store: {error}") from error
        except OSError as error:
            raise Refused(Code.UNSAFE_STATE, f"{path} cannot be made durable: {error.strerror}") from error

    def _prepare(self, *, create: bool) -> None:
        db = self._writer
        application_id, version = _pragma(db, "application_id"), _pragma(db, "user_version")
        if create and application_id == 0 and version == 0 and not db.execute("SELECT 1 FROM sqlite_master").fetchone():
            # SPEC log-2: write-ahead journal, synchronous FULL; both are read back, since a refusal is no error.
            # Tables come only then, so that a creation that failed is begun again and not refused for ever.
            if _pragma(db, "journal_mode=WAL") == "wal":
                db.executescript(
                    f"BEGIN; {_TABLES} PRAGMA application_id={_APPLICATION_ID}; PRAGMA user_version={_VERSION}; COMMIT;"
                )
        elif application_id != _APPLICATION_ID or version != _VERSION:
            raise Refused(Code.UNSAFE_STATE, f"{self._path} is not a log store of version {_VERSION}")
        db.execute("PRAGMA synchronous=FULL")
        if _pragma(db, "journal_mode") != "wal" or _pragma(db, "synchronous") != 2:
            raise Refused(Code.UNSAFE_STATE, f"{self._path} cannot be written durably: the write-ahead mode is refused")
        db.execute("PRAGMA wal_autocheckpoint=0")
        self._reader.execute("PRAGMA query_only=ON")
        if self._failed:
            db.execute("PRAGMA query_only=ON")

    def head(self) -> Head | None:
        return self._head_of(self._reader, self._read_lock)

    def commit(self, batch: Batch, expected: Head | None) -> None:
        """SPEC log-2: MUST return only once the whole batch and its head are on disk, in one transaction."""
        with self._write_lock:
            self._refuse_if_failed()
            db = self._writer
            try:
                db.execute("BEGIN IMMEDIATE")
                check_successor(batch, _read_head(db), expected)
                self._refuse_repeated(batch.ids)
                head = batch.head
                row = (batch.first_index, len(batch.entries), head.root, b"".join(batch.ids), frame(batch.entries))
                db.execute("INSERT INTO batches VALUES (?, ?, ?, ?, ?)", row)
                db.executemany("INSERT INTO slots VALUES (?, ?, ?)", _stretches(batch.slots))
                db.execute("INSERT OR REPLACE INTO head VALUES (1, ?, ?, ?)", (head.size, head.root, head.time_ms))
                db.execute("COMMIT")
                self._journalled(len(row[3]) + len(row[4]))
            except (sqlite3.Error, Refused) as error:
                self._fail(error)
            self._add_to_index(batch.first_index, batch.ids)

    def root_at(self, size: int) -> bytes | None:
        query = "SELECT first + count, root FROM batches WHERE first < ? ORDER BY first DESC LIMIT 1"
        return next((root for end, root in self._rows(query, (size,)) if end == size), None)

    def known(self, ids: Sequence[bytes]) -> Mapping[bytes, int]:
        with self._index_lock:
            candidates = [(identity, index) for identity in ids for index in self._index.candidates(identity)]
        return {identity: index for identity, index in candidates if self._id_at(index) == identity}

    def _id_at(self, index: int) -> bytes:
        query = "SELECT first, ids FROM batches WHERE first <= ? ORDER BY first DESC LIMIT 1"
        [(first, ids)] = self._rows(query, (index,))
        found: bytes = ids[(index - first) * _ID : (index - first + 1) * _ID]
        return found

    def _refuse_repeated(self, ids: Sequence[bytes]) -> None:
        """Raise Refused if a statement would be on the log twice."""
        if len(set(ids)) != len(ids) or self.known(ids):
            raise Refused(Code.UNSAFE_STATE, "a statement would be on the log twice")

    def _add_to_index(self, first: int, ids: Sequence[bytes]) -> None:
        with self._index_lock:
            self._index.add(ids, first)
            self._indexed += len(ids)

    def slot(self, lab: str, sequence: int) -> int | None:
        query = "SELECT sequence, places FROM slots WHERE lab = ? AND sequence <= ? ORDER BY sequence DESC LIMIT 1"
        for first, places in self._rows(query, (lab, sequence)):
            place = places[(sequence - first) * _PLACE : (sequence - first + 1) * _PLACE]
            return int.from_bytes(place, "big") if place else None
        return None

    def read(self, first: int, end: int, max_bytes: int) -> list[bytes]:
        out: list[bytes] = []
        size = 0
        while first < end and size < max_bytes:
            query = "SELECT first, entries FROM batches WHERE first <= ? ORDER BY first DESC LIMIT 1"
            rows = self._rows(query, (first,))
            if not rows:
                break
            batch_first, blob = rows[0]
            before = first
            for entry in unframe(blob, batch_first, first - batch_first):
                if first >= end or size >= max_bytes:
                    break
                out.append(entry)
                first, size = first + 1, size + len(entry)
            if first == before:
                break
        return out

    def batches(self) -> Iterator[StoredBatch]:
        after = -1
        while True:
            query = "SELECT first, count, root, ids, entries FROM batches WHERE first > ? ORDER BY first LIMIT 1"
            rows = self._rows(query, (after,))
            if not rows:
                return
            first, count, root, ids, blob = rows[0]
            entries = list(unframe(blob, first))
            if len(entries) != count:
                raise Refused(Code.UNSAFE_STATE, f"the batch at entry {first} has {len(entries)} entries, not {count}")
            yield StoredBatch(first, entries, root, ids)
            after = first

    def published(self) -> bytes | None:
        rows = self._rows("SELECT note FROM published", ())
        return rows[0][0] if rows else None

    def publish(self, note: bytes, *, transition: bool = False) -> None:
        with self._write_lock:
            self._refuse_if_failed()
            try:
                self._writer.execute("BEGIN IMMEDIATE")
                self._writer.execute("INSERT OR REPLACE INTO published VALUES (1, ?)", (note,))
                if transition:
                    self._writer.execute("INSERT INTO transitions (note) VALUES (?)", (note,))
                self._writer.execute("COMMIT")
                self._journalled(len(note))
            except sqlite3.Error as error:
                self._fail(error)

    def transitions(self) -> list[bytes]:
        return [row[0] for row in self._rows("SELECT note FROM transitions ORDER BY number", ())]

    def _journalled(self, count: int) -> None:
        """Move the journal into the file once it is long. SPEC log-4: an error there is one of the disk as well."""
        self._journal_bytes += count + _PAGES
        if self._journal_bytes >= JOURNAL_BYTES:
            self._journal_bytes = 0
            self._writer.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchall()

    def counts(self) -> tuple[int, int]:
        [(slots,)] = self._rows("SELECT total(length(places)) FROM slots", ())
        return self._indexed, int(slots) // _PLACE

    def check_file(self) -> list[str]:
        """Return what SQLite's own integrity check finds wrong with the file."""
        return [str(row[0]) for row in self._rows("PRAGMA integrity_check", ()) if row[0] != "ok"]

    def close(self) -> None:
        """Move the journal into the file and let go of both. Refused(unsafe-state) if it cannot be moved; it stays."""
        with self._write_lock, self._read_lock:
            try:
                self._reader.close()
                if not self._failed:
                    self._writer.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
            except sqlite3.Error as error:
                self._fail(error)
            finally:
                self._writer.close()

    def _rows(self, query: str, parameters: tuple[object, ...]) -> list[tuple]:  # type: ignore[type-arg]
        with self._read_lock:
            try:
                return self._reader.execute(query, parameters).fetchall()
            except sqlite3.Error as error:
                raise Refused(Code.UNSAFE_STATE, f"{self._path} cannot be read: {error}") from error

    def _head_of(self, db: sqlite3.Connection, lock: Lock) -> Head | None:
        with lock:
            try:
                return _read_head(db)
            except sqlite3.Error as error:
                raise Refused(Code.UNSAFE_STATE, f"{self._path} cannot be read: {error}") from error

    def _refuse_if_failed(self) -> None:
        if self._failed:
            raise Refused(Code.UNSAFE_STATE, f"{self._path} is not written to any more")

    def _fail(self, error: Exception) -> None:
        """SPEC log-4: after a failed write the log MUST stop and MUST NOT retry: what is on disk is unknown."""
        self._failed = True
        if self._writer.in_transaction:
            # Closing rolls back without another write that could fail or, worse, succeed.
            self._writer.close()
        if isinstance(error, Refused):
            raise error
        raise Refused(Code.UNSAFE_STATE, f"writing to {self._path} failed: {error}") from error


def _sync_directory(directory: Path) -> None:
    """Have the names of the store's files on disk."""
    file = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(file)
    finally:
        os.close(file)


def _split_ids(ids: bytes) -> list[bytes]:
    """Return the identities that a batch's blob holds."""
    return [ids[at : at + _ID] for at in range(0, len(ids), _ID)]


def _stretches(slots: Sequence[Slot]) -> list[tuple[str, int, bytes]]:
    """Return (lab, first sequence, indices) for each run of consecutive sequence numbers of a lab."""
    found: dict[str, list[tuple[int, bytearray]]] = {}
    for slot in slots:
        of_lab = found.setdefault(slot.lab, [])
        if not of_lab or of_lab[-1][0] + len(of_lab[-1][1]) // _PLACE != slot.sequence:
            of_lab.append((slot.sequence, bytearray()))
        of_lab[-1][1].extend(slot.index.to_bytes(_PLACE, "big"))
    return [(lab, first, bytes(places)) for lab, of_lab in found.items() for first, places in of_lab]


def _connect(path: Path) -> sqlite3.Connection:
    # A connection is shared between threads behind its lock; SQLite is built in serialised mode as well.
    return sqlite3.connect(path, isolation_level=None, check_same_thread=False, timeout=5, cached_statements=64)


def _pragma(db: sqlite3.Connection, name: str) -> int | str:
    value: int | str = db.execute(f"PRAGMA {name}").fetchone()[0]
    return value


def _read_head(db: sqlite3.Connection) -> Head | None:
    row = db.execute("SELECT size, root, time_ms FROM head").fetchone()
    return Head(*row) if row else None
