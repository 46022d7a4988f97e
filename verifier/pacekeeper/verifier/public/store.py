"""What a public witness must not lose: of each log, the tree that it cosigned last.

Each change is made only if the row still is what the decision began from. The serial counts the changes, so that the
key's marker can tell a store that was rolled back.
"""

from __future__ import annotations

import secrets
from pathlib import Path
from typing import Final

from pacekeeper.protocol.errors import Code, Refused
from pacekeeper.protocol.tlog.witness import EMPTY, Tree
from pacekeeper.verifier.database import Database, Form

_FORM: Final = Form(
    "a witness's store",
    0x50434B57,  # "PCKW"
    1,
    (
        "CREATE TABLE identity (one INTEGER PRIMARY KEY CHECK (one = 1), store TEXT NOT NULL, serial INTEGER NOT NULL)",
        "CREATE TABLE trees (origin TEXT PRIMARY KEY, size INTEGER NOT NULL, root BLOB NOT NULL, note BLOB NOT NULL)",
    ),
)


class WitnessStore(Database):
    """The trees cosigned last, by origin. Refused(unsafe-state) if the file is not sound or cannot be written."""

    def __init__(self, path: Path) -> None:
        try:
            path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        except OSError as error:
            raise Refused(Code.UNSAFE_STATE, f"{path.parent} cannot be used: {error.strerror}") from None
        first = ("INSERT INTO identity VALUES (1, ?, 0)", (secrets.token_hex(16),))
        super().__init__(path, _FORM, first, any_thread=True)  # the desk sees to it that one comes at a time
        identity = self._rows("SELECT store, serial FROM identity", ())
        if not identity:
            raise Refused(Code.UNSAFE_STATE, f"{path} is damaged: it has no identity")
        self.id, self.serial = identity[0]
        rows = self._rows("SELECT origin, size, root FROM trees", ())
        self._trees = {origin: Tree(size, root) for origin, size, root in rows}

    @property
    def trees(self) -> dict[str, Tree]:
        """The tree cosigned last of each log, by origin."""
        return self._trees

    def note(self, origin: str) -> bytes | None:
        """The checkpoint cosigned last of a log, as the log signed it."""
        rows = self._rows("SELECT note FROM trees WHERE origin = ?", (origin,))
        return bytes(rows[0][0]) if rows else None

    def keep(self, origin: str, before: Tree, after: Tree, note: bytes) -> None:
        """Put the tree after in the place of the tree before, all or nothing; on disk on return.

        SPEC witness-8: the tree MUST be on disk before a cosignature is made, and only if the one on disk still is what
        the decision began from.
        """
        with self._transaction() as db:
            row = db.execute("SELECT size, root FROM trees WHERE origin = ?", (origin,)).fetchone()
            if (Tree(*row) if row else EMPTY) != before:
                raise Refused(Code.UNSAFE_STATE, f"{self.path}: another process has changed what was cosigned last")
            db.execute("INSERT OR REPLACE INTO trees VALUES (?, ?, ?, ?)", (origin, after.size, after.root, note))
            db.execute("UPDATE identity SET serial = serial + 1")
        self._trees[origin] = after
        self.serial += 1
