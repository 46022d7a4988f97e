"""Typed reading of term tables: each value with its unit, each fault with its line.

A reader goes on after a fault, so that all faults of a document are found together: the fault is noted and a neutral
value stands in. Whoever reads must look at the faults before using any value; compile_agreement does. A key that
nobody asks for is unknown, and unknown keys are faults too.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Final, TypeVar

from pacekeeper.protocol.documents import values as kinds
from pacekeeper.protocol.documents.blocks import DocumentError
from pacekeeper.protocol.documents.tables import Table
from pacekeeper.protocol.errors import Refused
from pacekeeper.protocol.tlog.vkey import NoteKey

# Stands in for a key that could not be read: the curve's base point, so that it is well-formed.
_NO_KEY: Final = bytes.fromhex("58" + "66" * 31)

T = TypeVar("T")
D = TypeVar("D")


class TableReader:
    """Reads one table's keys; notes a fault and returns a neutral value where one cannot be read."""

    def __init__(self, table: Table, faults: list[DocumentError]) -> None:
        self.table = table
        self._faults = faults
        self._asked: set[str] = set()

    def has(self, key: str) -> bool:
        """Whether the key is written; asking makes it known."""
        self._asked.add(key)
        return key in self.table.lines

    def fault(self, key: str, message: str) -> None:
        """Note a fault at a key's line."""
        self._faults.append(DocumentError(self.table.line_of(key), message))

    def text(self, key: str) -> str:
        return self.read(key, kinds.as_text, "")

    def ident(self, key: str) -> str:
        return self.read(key, kinds.as_ident, "")

    def name(self, key: str) -> str:
        return self.read(key, kinds.as_name, "")

    def duration(self, key: str) -> int:
        return self.read(key, kinds.as_duration, 1)

    def public_key(self, key: str) -> bytes:
        return self.read(key, kinds.as_public_key, _NO_KEY)

    def vkey(self, key: str, algorithm: int) -> NoteKey:
        return self.read(key, kinds.as_vkey(algorithm), NoteKey("unreadable", algorithm, _NO_KEY))

    def pin(self, key: str) -> bytes:
        return self.read(key, kinds.as_pin, bytes(32))

    def address(self, key: str) -> str:
        return self.read(key, kinds.as_address, "")

    def count(self, key: str, low: int, high: int) -> int:
        return self.read(key, kinds.as_count(low, high), low)

    def read(self, key: str, parse: Callable[[object], T], neutral: T) -> T:
        """Return the key's parsed value; on a fault note it and return the neutral value."""
        if not self.has(key):
            # SPEC documents-11: a key or table that is missing MUST be refused.
            self.fault(key, f"[{self.table.name}] lacks the key {key}")
            return neutral
        try:
            return parse(self.table.values[key])
        except ValueError as error:
            self.fault(key, f"{key}: {error}")
        except Refused as refusal:
            self.fault(key, f"{key}: {refusal.message}")
        return neutral

    def optional(self, key: str, parse: Callable[[object], T], absent: D) -> T | D:
        """Return the key's parsed value, or absent when it is not written; a fault is noted as in read."""
        if not self.has(key):
            return absent
        try:
            return parse(self.table.values[key])
        except ValueError as error:
            self.fault(key, f"{key}: {error}")
        except Refused as refusal:
            self.fault(key, f"{key}: {refusal.message}")
        return absent

    def part(self, name: str) -> TableReader:
        """Return the reader of [table.name]."""
        self._asked.add(name)
        part = self.table.parts.get(name)
        if part is None:
            self.fault(name, f"[[{self.table.name}]] lacks its [{self.table.name}.{name}]")
            part = Table(f"{self.table.name}.{name}", self.table.line, repeated=False)
            return TableReader(part, [])  # one missing table is one fault, not one per key
        return TableReader(part, self._faults)

    def close(self) -> None:
        """Note every key and part that nobody asked for.

        SPEC documents-10: an unknown key or table MUST be refused.
        """
        for key, line in self.table.lines.items():
            if key not in self._asked:
                self._faults.append(DocumentError(line, f"[{self.table.name}] has no key {key}"))
        for name, part in self.table.parts.items():
            if name not in self._asked:
                self._faults.append(DocumentError(part.line, f"unknown table [{part.name}]"))


class TermsReader:
    """Reads a document's tables by name and notes those that nobody asked for."""

    def __init__(self, tables: Iterable[Table], faults: list[DocumentError], last_line: int) -> None:
        self._tables = list(tables)
        self._last_line = last_line  # where a missing table could still be written
        self._faults = faults
        self._asked: set[tuple[str, bool]] = set()

    def one(self, name: str) -> TableReader:
        """Return the reader of the table [name], which the document has once."""
        self._asked.add((name, False))
        for table in self._tables:
            if table.name == name and not table.repeated:
                return TableReader(table, self._faults)
        self._faults.append(DocumentError(self._last_line, f"the document has no table [{name}]"))
        return TableReader(Table(name, self._last_line, repeated=False), [])

    def maybe(self, name: str) -> TableReader | None:
        """Return the reader of the table [name] if the document has it."""
        self._asked.add((name, False))
        found = (table for table in self._tables if table.name == name and not table.repeated)
        table = next(found, None)
        return None if table is None else TableReader(table, self._faults)

    def many(self, name: str, at_most: int) -> list[TableReader]:
        """Return the readers of all [[name]] tables: at least one, and at most so many."""
        # SPEC documents-23: there MUST be a party, a lab and a cap, and not more than the limits allow.
        found = self.any(name, at_most)
        if not found:
            self._faults.append(DocumentError(self._last_line, f"the document has no table [[{name}]]"))
        return found

    def any(self, name: str, at_most: int) -> list[TableReader]:
        """Return the readers of all [[name]] tables, perhaps none, and at most so many."""
        self._asked.add((name, True))
        found = [table for table in self._tables if table.name == name and table.repeated]
        if len(found) > at_most:
            self._faults.append(DocumentError(found[at_most].line, f"more than {at_most} tables [[{name}]]"))
        return [TableReader(table, self._faults) for table in found[:at_most]]

    def close(self) -> None:
        """Note every table that nobody asked for."""
        for table in self._tables:
            if (table.name, table.repeated) not in self._asked:
                form = f"[[{table.name}]]" if table.repeated else f"[{table.name}]"
                self._faults.append(DocumentError(table.line, f"unknown table {form}"))
