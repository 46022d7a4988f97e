"""Text from the log is hostile: this makes it inert before it reaches a terminal, a log line or a report."""

from __future__ import annotations

import unicodedata
from typing import Final

_BIDI: Final = frozenset("\u061c\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")


def printable(text: str, limit: int = 400) -> str:
    """Return text on one line with control, format, bidirectional and unassigned characters escaped, and bounded."""
    out: list[str] = []
    for character in text[:limit]:
        category = unicodedata.category(character)
        if character in _BIDI or category in {"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"}:
            out.append(f"\\u{{{ord(character):x}}}")
        else:
            out.append(character)
    return "".join(out) + ("..." if len(text) > limit else "")


def is_plain(text: str, limit: int) -> bool:
    """Whether text needs no escaping and is at most limit characters: what a statement's free text must be."""
    return len(text) <= limit and printable(text, limit) == text
