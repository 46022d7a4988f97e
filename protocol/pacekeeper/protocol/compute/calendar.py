"""The calendar of an agreement: which moment belongs to which period, and when its account is due.

Period k is half-open: [epoch + k * length, epoch + (k + 1) * length), in milliseconds. Its account is due a fixed
time after its end. A silence of the log longer than a tick interval moves what fell due in it by the silence's length.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple


class Silence(NamedTuple):
    """A time without any entry, longer than the agreement's tick interval: after start, up to end."""

    start_ms: int
    end_ms: int


def shift_by_silences(due_ms: int, silences: Sequence[Silence]) -> int:
    """Return a deadline after every silence that it falls into has moved it. Silences come in order of time.

    SPEC replay-4: a deadline that falls into a silence of the log MUST move by the silence's length.
    """
    for silence in silences:
        if silence.start_ms < due_ms <= silence.end_ms:
            due_ms += silence.end_ms - silence.start_ms
    return due_ms
