"""The calendar of an agreement: which moment belongs to which period, and when its account is due.

Period k is half-open: [epoch + k * length, epoch + (k + 1) * length), in milliseconds. Its account is due a fixed
time after its end. A silence of the log longer than a tick interval moves what fell due in it by the silence's length;
and for as long again after the silence nothing falls due, so that deadlines keep their order and a lab that had to wait
for the log has that time back.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Iterator
from typing import NamedTuple


class Silence(NamedTuple):
    """A time without any entry, longer than the agreement's tick interval: after start, up to end."""

    start_ms: int
    end_ms: int


def shift_by_silence(due_ms: int, silence: Silence) -> int:
    """Return a deadline after one silence: never earlier, and two deadlines never change their order.

    SPEC replay-4: a deadline that falls into a silence of the log MUST move by the silence's length, and one that falls
    within that length after it MUST move to the end of that length.
    """
    if due_ms <= silence.start_ms:
        return due_ms
    length = silence.end_ms - silence.start_ms
    return due_ms + length if due_ms <= silence.end_ms else max(due_ms, silence.end_ms + length)


class Silences:
    """All silences so far, in order of time. A deadline beyond the reach of the earlier ones does not look at them."""

    __slots__ = ("_all", "_reach")

    def __init__(self, silences: Iterable[Silence] = ()) -> None:
        self._all: list[Silence] = []
        self._reach: list[int] = []  # the last moment that this silence or one before it moves
        for silence in silences:
            self.add(silence)

    def __iter__(self) -> Iterator[Silence]:
        return iter(self._all)

    def __len__(self) -> int:
        return len(self._all)

    def add(self, silence: Silence) -> None:
        """Add the latest silence."""
        reach = silence.end_ms + (silence.end_ms - silence.start_ms)
        self._all.append(silence)
        self._reach.append(max(reach, self._reach[-1]) if self._reach else reach)

    def shift(self, due_ms: int) -> int:
        """Return a deadline after all silences."""
        reach = self._reach
        if not reach or due_ms >= reach[-1]:
            return due_ms
        for place in range(bisect_right(reach, due_ms), len(reach)):
            silence = self._all[place]
            if silence.start_ms >= due_ms:
                break
            due_ms = shift_by_silence(due_ms, silence)
        return due_ms
