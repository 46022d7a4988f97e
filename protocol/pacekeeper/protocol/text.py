"""Text from the log is hostile: this makes it inert before it reaches a terminal, a log line or a report.

What is escaped is a fixed list of ranges and not what the running Python's Unicode tables say, since the replay refuses
free text by the same list: two machines must not disagree about an entry because one has newer tables.
"""

from __future__ import annotations

import re
from typing import Final

# SPEC statements-11: text that cannot be shown MUST be decided by this list: C0, DEL, C1, surrogates, private use,
# non-characters, invisible fillers, zero-width, bidirectional and line-separating ones, variation selectors, tags.
_HOSTILE: Final = re.compile(
    "[\x00-\x1f\x7f-\x9f\u00ad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180b-\u180f\u200b-\u200f\u2028-\u202e"
    "\u2060-\u206f\u3164\ud800-\udfff\ue000-\uf8ff\ufdd0-\ufdef\ufe00-\ufe0f\ufeff\uffa0\ufff0-\uffff"
    "\U0001fffe-\U0001ffff\U000e0000-\U000e0fff\U000f0000-\U0010ffff]"
)


def printable(text: str, limit: int = 400) -> str:
    """Return text on one line with control, format, invisible and bidirectional characters escaped, and bounded."""
    shown = _HOSTILE.sub(lambda match: f"\\u{{{ord(match[0]):x}}}", text[:limit])
    return shown + ("..." if len(text) > limit else "")


def is_plain(text: str, limit: int) -> bool:
    """Whether text needs no escaping and is at most limit characters: what a statement's free text must be."""
    return len(text) <= limit and _HOSTILE.search(text) is None


def count_of(number: int, word: str) -> str:
    """Write a number with its noun: 1 lab, 2 labs."""
    if number == 1:
        return f"1 {word}"
    return f"{number} {word[:-1]}ies" if word.endswith("y") else f"{number} {word}s"
