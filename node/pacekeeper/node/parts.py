"""The parts of a period: which of a job's usage was made before a constraint began, bit or ended, and which after.

Each report leaves a mark: until when it speaks, and what the job had used in the period by then. What was added from
one mark to the next belongs to the part that holds the earlier of the two. So what was done just before a boundary and
told just after it stays before it; nothing can be hidden by that but what was done within the second between two
reports, and training is held well before a pause bites. Where marks are further apart than reports are (the daemon was
down, and a spool file told it all at once), what was added is spread over the time between them in proportion.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterator, Sequence
from typing import Final, NamedTuple

PROMPT_MS: Final = 2_000  # a meter reports once a second
KEPT_MS: Final = 600_000  # how late a boundary may become known (a lift, seen through a bad line) and be found exactly
MAX_MARKS: Final = 1_200  # of one job in one period, before those that no boundary needs are dropped


class Mark(NamedTuple):
    """What a job had used in a period as of a moment."""

    as_of_ms: int
    flop: int
    steps: int
    chip_ms: int


def split_usage(
    marks: Sequence[Mark], since_ms: int, start_ms: int, end_ms: int, splits: Sequence[int]
) -> list[list[int]]:
    """Return what was used in each part of the period [start_ms, end_ms), which adds up to the last mark.

    since_ms: when the job began. splits: ascending moments inside the period.
    SPEC node-32: what was added between two reports MUST count in the part that holds the earlier one, and where they
    are further apart than reports are, in proportion to time.
    """
    parts = [[0, 0, 0] for _ in range(len(splits) + 1)]
    began = since_ms if marks and start_ms < since_ms < marks[0].as_of_ms else start_ms
    at_ms, known = min(began, end_ms), (0, 0, 0)
    for as_of_ms, *used in marks:
        until_ms = min(max(as_of_ms, at_ms), end_ms)
        added = [new - old for new, old in zip(used, known, strict=True)]
        for part, shares in _spread(added, at_ms, until_ms, splits):
            for kind, share in enumerate(shares):
                parts[part][kind] += share
        at_ms, known = until_ms, (used[0], used[1], used[2])
    return parts


def _spread(added: list[int], at_ms: int, until_ms: int, splits: Sequence[int]) -> Iterator[tuple[int, list[int]]]:
    first = bisect_right(splits, at_ms)
    if until_ms - at_ms <= PROMPT_MS:
        yield first, added
        return
    given = [0, 0, 0]
    for part in range(first, len(splits) + 1):
        stop_ms = min(until_ms, splits[part]) if part < len(splits) else until_ms
        upto = [whole * (stop_ms - at_ms) // (until_ms - at_ms) for whole in added]
        yield part, [new - old for new, old in zip(upto, given, strict=True)]
        given = upto
        if stop_ms == until_ms:
            return


def thin(marks: list[Mark], splits: Sequence[int], before_ms: int) -> None:
    """Drop marks from before a moment that no boundary known so far needs: all but those on either side of one."""
    times = [mark.as_of_ms for mark in marks]
    kept = {0, len(marks) - 1, *range(bisect_left(times, before_ms), len(marks))}
    for split in splits:
        after = bisect_left(times, split)
        # Of marks with one time the last one says all; before the boundary it is that one that counts.
        kept.update(index for index in (after - 1, bisect_right(times, split) - 1, after) if 0 <= index < len(marks))
    marks[:] = [mark for index, mark in enumerate(marks) if index in kept]
