"""Term blocks are TOML, in a small subset that has one way of writing each thing and one line for each key.

    [calendar]                     a table, once in the document
    [[lab]]                        one of several; [lab.part] after it belongs to it
    period = "1 d"                 text without escapes, so that what is read is what is meant
    quorum = 3                     a whole number
    subjects = ["borealis"]        a list of texts

tomllib parses the blocks as one file, blank where the prose is, so that its line numbers are the document's; the scan
here refuses what is outside the subset and remembers where each key stands.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from pacekeeper.protocol.documents.blocks import Block, Document, DocumentError

_NAME: Final = r"[a-z][a-z0-9_-]{0,63}"
_TEXT: Final = r'"[^"\\\u200c\u200d]*"'  # joiners are letters' business in prose, and a trap in a name
_COUNT: Final = r"(?:0|[1-9][0-9]{0,17})"
_LIST: Final = rf"\[ *(?:{_TEXT}(?: *, *{_TEXT})* *)?\]"
_TAIL: Final = r" *(?:#.*)?"
_NOTHING: Final = re.compile(_TAIL)
_HEADER: Final = re.compile(rf"\[({_NAME})(?:\.({_NAME}))?\]{_TAIL}")
_ITEM: Final = re.compile(rf"\[\[({_NAME})\]\]{_TAIL}")
_PAIR: Final = re.compile(rf" *({_NAME}) *= *(?:{_TEXT}|{_COUNT}|{_LIST}){_TAIL}")
_AT_LINE: Final = re.compile(r" \(at line (\d+), column \d+\)$")


@dataclass
class Table:
    """One table of the terms: its values, the line of its header and of each key, and its parts by name."""

    name: str
    line: int
    repeated: bool
    values: Mapping[str, object] = field(default_factory=dict)
    lines: dict[str, int] = field(default_factory=dict)
    parts: dict[str, Table] = field(default_factory=dict)

    def line_of(self, key: str) -> int:
        """Return the line of a key, or the header's when the key is absent."""
        return self.lines.get(key, self.line)


def parse_tables(document: Document) -> list[Table]:
    """Return the tables of all term blocks in order of appearance, parts inside their tables.

    Raises DocumentError at the first line outside the subset, and for what TOML itself refuses, such as a key twice.
    """
    tables: list[Table] = []
    for block in document.blocks:
        _scan(block, tables)
    _fill(tables, _load(document))
    return tables


def _scan(block: Block, tables: list[Table]) -> None:
    here: list[Table] = []  # SPEC documents-9: a part MUST stand in its table's block, and a key under a header
    current: Table | None = None
    for number, line in enumerate(block.lines, start=block.first_line):
        if _NOTHING.fullmatch(line):
            continue
        if (item := _ITEM.fullmatch(line)) is not None:
            current = Table(item[1], number, repeated=True)
            here.append(current)
        elif (header := _HEADER.fullmatch(line)) is not None:
            current = _open(header[1], header[2], number, here)
        elif (pair := _PAIR.fullmatch(line)) is not None:
            if current is None:
                raise DocumentError(number, "a key before the first [table] of its block")
            current.lines[pair[1]] = number
        else:
            # SPEC documents-8: term blocks MUST be TOML in the subset above.
            raise DocumentError(number, 'expected [table], key = "text", key = 123 or key = ["a", "b"] on one line')
    tables.extend(here)


def _open(name: str, part: str | None, number: int, here: list[Table]) -> Table:
    table = Table(name if part is None else f"{name}.{part}", number, repeated=False)
    if part is None:
        here.append(table)
        return table
    owner = here[-1] if here else None
    if owner is None or owner.name != name:
        raise DocumentError(number, f"[{name}.{part}] stands after its table in the same block")
    if part in owner.parts or part in owner.lines:
        raise DocumentError(number, f"{part} is in this {name} already")
    owner.parts[part] = table
    return table


def _load(document: Document) -> dict[str, Any]:
    text = [""] * len(document.lines)
    for block in document.blocks:
        text[block.first_line - 1 : block.first_line - 1 + len(block.lines)] = block.lines
    try:
        return tomllib.loads("\n".join(text))
    except tomllib.TOMLDecodeError as error:
        place = _AT_LINE.search(str(error))
        line = int(place[1]) if place else len(document.lines)
        raise DocumentError(line, _AT_LINE.sub("", str(error))) from None


def _fill(tables: Iterable[Table], tree: Mapping[str, Any]) -> None:
    seen: dict[str, int] = {}
    for table in tables:
        if table.repeated:
            position = seen.get(table.name, 0)
            seen[table.name] = position + 1
            table.values = tree[table.name][position]
        else:
            table.values = tree[table.name]
        for name, part in table.parts.items():
            part.values = table.values[name]  # type: ignore[assignment]
