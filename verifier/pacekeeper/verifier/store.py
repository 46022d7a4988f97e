"""What a verifier must not lose: entries, witness state, findings. One SQLite file, each commit on disk on return.

Entries are kept in rows of up to 256, in the form of an entry bundle. The witness state is one row, replaced in the
same transaction that stores the entries it covers, and only if it still is what the decision was based on. After a
failed write nothing is written again: what is on disk is unknown until a new process has read it.
"""

from __future__ import annotations

import fcntl
import os
import secrets
import sqlite3
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from pacekeeper.protocol.errors import Code, Refused
from pacekeeper.protocol.tlog import tiles
from pacekeeper.verifier.database import Database, Form
from pacekeeper.verifier.witness import FRESH, WitnessState

STORE_FILE: Final = "verifier.db"
_TABLES: Final = """
CREATE TABLE identity (one INTEGER PRIMARY KEY CHECK (one = 1), store TEXT NOT NULL, origin TEXT NOT NULL,
                       fingerprint BLOB NOT NULL);
CREATE TABLE bundles (first INTEGER PRIMARY KEY, count INTEGER NOT NULL, entries BLOB NOT NULL);
CREATE TABLE voids (idx INTEGER PRIMARY KEY);
CREATE TABLE witness (one INTEGER PRIMARY KEY CHECK (one = 1), size INTEGER NOT NULL, root BLOB NOT NULL,
                      head_ms INTEGER NOT NULL, cosigned_at_ms INTEGER NOT NULL, note BLOB NOT NULL);
CREATE TABLE findings (number INTEGER PRIMARY KEY, key BLOB NOT NULL UNIQUE, envelope BLOB NOT NULL, idx INTEGER);
CREATE TABLE heads (size INTEGER PRIMARY KEY, note BLOB NOT NULL);
CREATE TABLE suspects (size INTEGER NOT NULL, note BLOB NOT NULL, PRIMARY KEY (size, note)) WITHOUT ROWID;
"""
_FORM: Final = Form("a verifier's store", 0x50434B56, 1, _TABLES.split(";\n"))  # "PCKV"
MAX_HEADS: Final = 4_096  # cosigned checkpoints kept, so that another one of the same size convicts the log
MAX_SUSPECTS: Final = 256  # other signed checkpoints, kept until the own tree has their size


@dataclass(frozen=True)
class StoredFinding:
    """A finding as signed: its number from 1, its envelope's bytes, and its leaf index once it is on the log."""

    number: int
    envelope: bytes
    index: int | None


class Store(Database):
    """The store in a state directory, locked from construction to close. Refused(unsafe-state) if it is not sound."""

    def __init__(self, directory: Path, *, origin: str, fingerprint: bytes) -> None:
        self._lock = _lock(directory)
        try:
            values = (secrets.token_hex(16), origin, fingerprint)
            super().__init__(directory / STORE_FILE, _FORM, ("INSERT INTO identity VALUES (1, ?, ?, ?)", values))
            self.id, self.size = self._identify(origin, fingerprint), self._count()
            self.witness = _read_witness(self._db)
            self._heads = int(self._rows("SELECT count(*) FROM heads", ())[0][0])
        except sqlite3.Error as error:
            os.close(self._lock)
            raise Refused(Code.UNSAFE_STATE, f"{self.path} cannot be opened as {_FORM.name}: {error}") from error
        except Refused:
            os.close(self._lock)
            raise

    def _identify(self, origin: str, fingerprint: bytes) -> str:
        row = self._db.execute("SELECT store, origin, fingerprint FROM identity").fetchone()
        if row is None or row[1:] != (origin, fingerprint):
            raise Refused(Code.UNSAFE_STATE, f"{self.path} belongs to another agreement")
        return str(row[0])

    def _count(self) -> int:
        total = 0
        for first, count in self._db.execute("SELECT first, count FROM bundles ORDER BY first"):
            if first != total:
                raise Refused(Code.UNSAFE_STATE, f"{self.path}: entries from {total} on are missing")
            total += count
        return total

    def keep(
        self, entries: Sequence[bytes], voids: Sequence[int], *, before: WitnessState, after: WitnessState
    ) -> None:
        """Append entries, of which voids are void by their leaf index, and replace the witness state, all or nothing.

        before is the state that the decision was based on; with after the same, only entries are stored.
        SPEC verifier-9: entries and witness state MUST be on disk, in one transaction, before a signature is made, and
        only if the state on disk is still the one that the decision was based on.
        """
        with self._transaction() as db:
            if _read_witness(db) != before:
                raise Refused(Code.UNSAFE_STATE, f"{self.path}: another process has changed the witness state")
            for start in range(0, len(entries), tiles.TILE_WIDTH):
                some = entries[start : start + tiles.TILE_WIDTH]
                row = (self.size + start, len(some), tiles.encode_bundle(some))
                db.execute("INSERT INTO bundles VALUES (?, ?, ?)", row)
            db.executemany("INSERT INTO voids VALUES (?)", [(index,) for index in voids])
            if after != before:
                row_of = (after.size, after.root, after.head_ms, after.cosigned_at_ms, after.note)
                db.execute("INSERT OR REPLACE INTO witness VALUES (1, ?, ?, ?, ?, ?)", row_of)
                db.execute("INSERT OR REPLACE INTO heads VALUES (?, ?)", (after.size, after.note))
                self._heads += 1
                if self._heads > MAX_HEADS:
                    query = "DELETE FROM heads WHERE size = (SELECT min(size) FROM heads)"
                    self._heads -= db.execute(query).rowcount
        self.size += len(entries)
        self.witness = after

    def drop_uncosigned(self) -> None:
        """Forget the entries that no cosignature covers: the log signed another tree than they make."""
        size = self.witness.size
        if size == self.size:
            return
        kept = self._straddling(size)
        with self._transaction() as db:
            db.execute("DELETE FROM bundles WHERE first + count > ?", (size,))
            db.execute("DELETE FROM voids WHERE idx >= ?", (size,))
            if kept is not None:
                first, entries = kept
                db.execute("INSERT INTO bundles VALUES (?, ?, ?)", (first, len(entries), tiles.encode_bundle(entries)))
        self.size = size

    def _straddling(self, size: int) -> tuple[int, list[bytes]] | None:
        """Return what is to stay of the row that size cuts in two, if it does."""
        for first, entries in self.bundles(from_index=size):
            return (first, entries[: size - first]) if first < size < first + len(entries) else None
        return None

    def bundles(self, from_index: int = 0) -> Iterator[tuple[int, list[bytes]]]:
        """Yield (first index, entries) of each row in order, beginning with the one that holds from_index."""
        query = "SELECT coalesce(max(first), 0) FROM bundles WHERE first <= ?"
        at = int(self._rows(query, (max(from_index, 0),))[0][0])
        while rows := self._rows(
            "SELECT first, count, entries FROM bundles WHERE first >= ? ORDER BY first LIMIT 1", (at,)
        ):
            first, count, blob = rows[0]
            try:
                yield first, tiles.parse_bundle(blob, count)
            except Refused as refused:
                raise Refused(
                    Code.UNSAFE_STATE, f"{self.path} is damaged at entry {first}: {refused.message}"
                ) from None
            at = first + count

    def entry(self, index: int) -> bytes:
        """Return the bytes of a stored entry; Refused(not-found)."""
        if 0 <= index < self.size:
            for first, entries in self.bundles(from_index=index):
                return entries[index - first]
        raise Refused(Code.NOT_FOUND, f"entry {index} is not stored")

    def voids(self) -> set[int]:
        """Return the leaf indices of the entries that were void when their signatures were verified."""
        return {index for (index,) in self._rows("SELECT idx FROM voids", ())}

    def add_finding(self, key: bytes, envelope: bytes, index: int | None = None) -> bool:
        """Store a finding under its key, or note its leaf index; whether it was new."""
        with self._transaction() as db:
            known = db.execute("SELECT 1 FROM findings WHERE key = ?", (key,)).fetchone() is not None
            if not known:
                db.execute("INSERT INTO findings (key, envelope, idx) VALUES (?, ?, ?)", (key, envelope, index))
            elif index is not None:
                db.execute("UPDATE findings SET idx = ? WHERE key = ? AND idx IS NULL", (index, key))
        return not known

    def has_finding(self, key: bytes, *, logged: bool = False) -> bool:
        """Whether a finding is stored under this key, and is known to be on the log if logged asks for that."""
        rows = self._rows("SELECT idx FROM findings WHERE key = ?", (key,))
        return bool(rows) and not (logged and rows[0][0] is None)

    def mark_logged(self, number: int, index: int) -> None:
        """Note the leaf index of a finding that the log has taken in."""
        with self._transaction() as db:
            db.execute("UPDATE findings SET idx = ? WHERE number = ?", (index, number))

    def sign_again(self, number: int, envelope: bytes) -> None:
        """Put another signature on a finding that is not on the log yet."""
        with self._transaction() as db:
            db.execute("UPDATE findings SET envelope = ? WHERE number = ? AND idx IS NULL", (envelope, number))

    def findings(self, offset: int, limit: int) -> list[StoredFinding]:
        """Return findings, oldest first."""
        query = "SELECT number, envelope, idx FROM findings ORDER BY number LIMIT ? OFFSET ?"
        return [StoredFinding(*row) for row in self._rows(query, (limit, offset))]

    def unpublished(self, limit: int, *, after: int = 0) -> list[StoredFinding]:
        """Return findings with numbers above after that are not known to be on the log, oldest first."""
        query = "SELECT number, envelope, idx FROM findings WHERE idx IS NULL AND number > ? ORDER BY number LIMIT ?"
        return [StoredFinding(*row) for row in self._rows(query, (after, limit))]

    def count_findings(self) -> int:
        """Return how many findings there are."""
        return int(self._rows("SELECT count(*) FROM findings", ())[0][0])

    def head(self, size: int) -> bytes | None:
        """Return the checkpoint of this size that was cosigned, as the log signed it, if it is still kept."""
        rows = self._rows("SELECT note FROM heads WHERE size = ?", (size,))
        return rows[0][0] if rows else None

    def keep_suspect(self, size: int, note: bytes) -> None:
        """Keep a checkpoint that the log signed and this verifier did not cosign, until its size can tell."""
        with self._transaction() as db:
            query = "INSERT OR IGNORE INTO suspects SELECT ?, ? WHERE (SELECT count(*) FROM suspects) < ?"
            db.execute(query, (size, note, MAX_SUSPECTS))

    def suspects(self, up_to: int) -> list[bytes]:
        """Return the kept checkpoints of at most this size."""
        return [note for (note,) in self._rows("SELECT note FROM suspects WHERE size <= ? ORDER BY size", (up_to,))]

    def drop_suspects(self, up_to: int) -> None:
        """Forget the kept checkpoints of at most this size: each is convicted, or was true, or can show nothing."""
        with self._transaction() as db:
            db.execute("DELETE FROM suspects WHERE size <= ?", (up_to,))

    def close(self) -> None:
        """Close the file and let another process open it."""
        super().close()
        os.close(self._lock)


def _lock(directory: Path) -> int:
    try:
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        file = os.open(directory / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise Refused(Code.UNSAFE_STATE, f"{directory} cannot be used: {error.strerror}") from None
    try:
        # SPEC verifier-13: a second process on one state directory MUST refuse to start.
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(file)
        raise Refused(Code.UNSAFE_STATE, f"another verifier process holds {directory / 'lock'}") from None
    return file


def _read_witness(db: sqlite3.Connection) -> WitnessState:
    row = db.execute("SELECT size, root, head_ms, cosigned_at_ms, note FROM witness").fetchone()
    return WitnessState(*row) if row else FRESH
