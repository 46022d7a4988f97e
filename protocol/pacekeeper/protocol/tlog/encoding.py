"""The two encodings inside C2SP texts, each with exactly one accepted form: decimal numbers and standard base64.

Both functions return None for anything else, so that each caller refuses with its own code and sentence.
"""

from __future__ import annotations

import base64
import binascii
from typing import Final

from pacekeeper.protocol import limits

_MAX_DIGITS: Final = len(str(limits.MAX_TREE_SIZE))


def parse_decimal(text: str, maximum: int = limits.MAX_TREE_SIZE) -> int | None:
    """Read an ASCII decimal from 0 to maximum.

    SPEC note-10: numbers MUST be ASCII digits without sign or leading zero.
    """
    if not 0 < len(text) <= _MAX_DIGITS or not text.isascii() or not text.isdigit():
        return None
    if text[0] == "0" and len(text) > 1:
        return None
    value = int(text)
    return value if value <= maximum else None


def parse_base64(text: str) -> bytes | None:
    """Read standard base64 with padding.

    SPEC note-4: base64 MUST be the one canonical encoding: no other alphabet, no white space, padding bits zero.
    """
    try:
        data = base64.b64decode(text, validate=True)
    except (ValueError, binascii.Error):
        return None
    return data if format_base64(data) == text else None


def format_base64(data: bytes) -> str:
    """Write standard base64 with padding."""
    return base64.b64encode(data).decode("ascii")
