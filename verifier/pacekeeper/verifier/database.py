"""What the verifier's stores share: one SQLite file whose commits are on disk on return, and that stops when one fails.

After a failed write nothing is written again: what is on disk is unknown until a new process has read it. Reads go on.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

from pacekeeper.protocol.errors import Code, Refused


@dataclass(frozen=True)
class Form:
    """What a file of one kind is: its name in sentences, the number that marks it, its version and its tables."""

    name: str
    application_id: int
    version: int
    tables: Sequence[str]


class Database:
    """A file of one form, made with its first row if it is not there. Refused(unsafe-state) if it is another.

    first: a statement with its values, executed once after the tables are made. any_thread: for callers that see to it
    themselves that one thread at a time comes.
    """

    def __init__(
        self, path: Path, form: Form, first: tuple[str, Sequence[object]], *, any_thread: bool = False
    ) -> None:
        self.path = path
        self._failed = False
        try:
            self._db = sqlite3.connect(path, isolation_level=None, timeout=5, check_same_thread=not any_thread)
            self._prepare(form, first)
        except sqlite3.Error as error:
            raise Refused(Code.UNSAFE_STATE, f"{path} cannot be opened as {form.name}: {error}") from error

    def _prepare(self, form: Form, first: tuple[str, Sequence[object]]) -> None:
        db = self._db
        found = _pragma(db, "application_id"), _pragma(db, "user_version")
        if found == (0, 0) and db.execute("SELECT 1 FROM sqlite_master").fetchone() is None:
            db.execute("PRAGMA journal_mode=WAL")
            db.execute("BEGIN IMMEDIATE")
            for table in form.tables:
                db.execute(table)
            db.execute(*first)
            db.execute(f"PRAGMA application_id={form.application_id}")
            db.execute(f"PRAGMA user_version={form.version}")
            db.execute("COMMIT")
        elif found != (form.application_id, form.version):
            raise Refused(Code.UNSAFE_STATE, f"{self.path} is not {form.name} of version {form.version}")
        db.execute("PRAGMA synchronous=FULL")
        # SPEC verifier-9: read back, since SQLite tells of a refused mode only in what the pragma returns.
        if _pragma(db, "journal_mode") != "wal" or _pragma(db, "synchronous") != 2:
            raise Refused(Code.UNSAFE_STATE, f"{self.path} cannot be written durably: write-ahead mode is refused")

    @contextmanager
    def _transaction(self) -> Iterator[sqlite3.Connection]:
        if self._failed:
            raise Refused(Code.UNSAFE_STATE, f"{self.path} is not written to any more")
        try:
            self._db.execute("BEGIN IMMEDIATE")
            yield self._db
            self._db.execute("COMMIT")
        except (sqlite3.Error, Refused) as error:
            self._fail(error)

    def _fail(self, error: Exception) -> NoReturn:
        # SPEC verifier-11: after a failed write a verifier MUST stop and MUST NOT sign: what is on disk is unknown.
        self._failed = True
        if self._db.in_transaction:
            with suppress(sqlite3.Error):  # reads go on, and must not see half of what failed
                self._db.execute("ROLLBACK")
        if isinstance(error, Refused):
            raise error
        raise Refused(Code.UNSAFE_STATE, f"writing to {self.path} failed: {error}") from error

    def _rows(self, query: str, parameters: tuple[object, ...]) -> list[tuple]:  # type: ignore[type-arg]
        try:
            return self._db.execute(query, parameters).fetchall()
        except sqlite3.Error as error:
            raise Refused(Code.UNSAFE_STATE, f"{self.path} cannot be read: {error}") from error

    def close(self) -> None:
        """Close the file."""
        self._db.close()


def _pragma(db: sqlite3.Connection, name: str) -> int | str:
    value: int | str = db.execute(f"PRAGMA {name}").fetchone()[0]
    return value
