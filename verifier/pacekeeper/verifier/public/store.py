"""What a public witness must not lose: of each log, the tree that it cosigned last. One SQLite file.

Each change is on disk on return, and made only if the row still is what the decision began from. After a failed write
nothing is written again: what is on disk is unknown until a new process has read it. The serial counts the changes, so
that the key's marker can tell a store that was rolled back.
"""

from __future__ import annotations

import secrets
import sqlite3
from contextlib import suppress
from pathlib import Path
from typing import Final

from pacekeeper.protocol.errors import Code, Refused
from pacekeeper.protocol.tlog.witness import EMPTY, Tree

_APPLICATION_ID: Final = 0x50434B57  # "PCKW"
_TABLES: Final = (
    "CREATE TABLE identity (one INTEGER PRIMARY KEY CHECK (one = 1), store TEXT NOT NULL, serial INTEGER NOT NULL)",
    "CREATE TABLE trees (origin TEXT PRIMARY KEY, size INTEGER NOT NULL, root BLOB NOT NULL, note BLOB NOT NULL)",
)


class WitnessStore:
    """The trees cosigned last, by origin. Refused(unsafe-state) if the file is not sound or cannot be written."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._failed = False
        try:
            path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            # One thread at a time: the desk sees to it.
            self._db = sqlite3.connect(path, isolation_level=None, timeout=5, check_same_thread=False)
            self._prepare()
            self.id, self.serial = self._db.execute("SELECT store, serial FROM identity").fetchone()
            rows = self._db.execute("SELECT origin, size, root FROM trees")
            self._trees = {origin: Tree(size, root) for origin, size, root in rows}
        except (sqlite3.Error, OSError, TypeError) as error:
            raise Refused(Code.UNSAFE_STATE, f"{path} cannot be opened as a witness's store: {error}") from None

    def _prepare(self) -> None:
        db = self._db
        application_id = db.execute("PRAGMA application_id").fetchone()[0]
        if application_id == 0 and db.execute("SELECT 1 FROM sqlite_master").fetchone() is None:
            db.execute("PRAGMA journal_mode=WAL")
            db.execute("BEGIN IMMEDIATE")
            for table in _TABLES:
                db.execute(table)
            db.execute("INSERT INTO identity VALUES (1, ?, 0)", (secrets.token_hex(16),))
            db.execute(f"PRAGMA application_id={_APPLICATION_ID}")
            db.execute("COMMIT")
        elif application_id != _APPLICATION_ID:
            raise Refused(Code.UNSAFE_STATE, f"{self.path} is not a witness's store")
        db.execute("PRAGMA synchronous=FULL")
        # Read back, since SQLite tells of a refused mode only in what the pragma returns.
        modes = [db.execute(f"PRAGMA {name}").fetchone()[0] for name in ("journal_mode", "synchronous")]
        if modes != ["wal", 2]:
            raise Refused(Code.UNSAFE_STATE, f"{self.path} cannot be written durably: write-ahead mode is refused")

    @property
    def trees(self) -> dict[str, Tree]:
        """The tree cosigned last of each log, by origin."""
        return self._trees

    def note(self, origin: str) -> bytes | None:
        """The checkpoint cosigned last of a log, as the log signed it."""
        row = self._db.execute("SELECT note FROM trees WHERE origin = ?", (origin,)).fetchone()
        return bytes(row[0]) if row else None

    def keep(self, origin: str, before: Tree, after: Tree, note: bytes) -> None:
        """Put the tree after in the place of the tree before, all or nothing; on disk on return.

        SPEC witness-8: the tree MUST be on disk before a cosignature is made, and only if the one on disk still is what
        the decision began from.
        """
        if self._failed:
            raise Refused(Code.UNSAFE_STATE, f"{self.path} is not written to any more")
        db = self._db
        try:
            db.execute("BEGIN IMMEDIATE")
            row = db.execute("SELECT size, root FROM trees WHERE origin = ?", (origin,)).fetchone()
            if (Tree(*row) if row else EMPTY) != before:
                raise sqlite3.IntegrityError("another process has changed it")
            db.execute("INSERT OR REPLACE INTO trees VALUES (?, ?, ?, ?)", (origin, after.size, after.root, note))
            db.execute("UPDATE identity SET serial = serial + 1")
            db.execute("COMMIT")
        except sqlite3.Error as error:
            self._failed = True
            with suppress(sqlite3.Error):
                db.execute("ROLLBACK")
            raise Refused(Code.UNSAFE_STATE, f"writing to {self.path} failed: {error}") from None
        self._trees[origin] = after
        self.serial += 1

    def close(self) -> None:
        self._db.close()
