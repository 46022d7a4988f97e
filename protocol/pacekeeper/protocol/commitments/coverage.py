"""Which commitments hold for a participant throughout a period: what growth limits and caps count by.

A pause or a rate is judged to the millisecond, and accounts are split for it. A window holds whole periods: one that a
limit began in, or ended in, counts for nothing, so that nobody is judged for what was done before or after.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from pacekeeper.protocol.commitments.constraints import Span
from pacekeeper.protocol.commitments.registry import Registry
from pacekeeper.protocol.documents.commitment_model import CapLimits, Growth


def throughout(registry: Registry, participant: str, start_ms: int, end_ms: int) -> tuple[str, ...]:
    """Return the growth limits and caps, by their commitments' ids, that hold for a lab or party in all of
    [start_ms, end_ms), as far as the log is known; a lab's are its party's besides its own.

    SPEC commitments-60: a window MUST count the periods in which the limit is in force from their first moment to their
    last, and no others.
    """
    found: dict[str, list[Span]] = {}
    for span in windowed_spans(registry, participant, start_ms, end_ms):
        found.setdefault(span.commitment, []).append(span)
    return tuple(sorted(commitment for commitment, spans in found.items() if _cover(spans, start_ms, end_ms)))


def windowed_spans(registry: Registry, participant: str, start_ms: int, end_ms: int) -> Iterator[Span]:
    """Yield the spans of growth limits and caps that touch a time. One that is only planned is none: an outage of the
    log may put off its beginning."""
    for span in registry.spans(participant, start_ms, end_ms):
        if isinstance(span.measure, CapLimits | Growth) and not is_planned(registry, span):
            yield span


def is_planned(registry: Registry, span: Span) -> bool:
    """Whether a span has not begun by the log: its commitment is not in force yet."""
    return span.until_ms is None and registry.standing(span.commitment).force is None


def _cover(spans: Iterable[Span], start_ms: int, end_ms: int) -> bool:
    """Whether spans, one after the other or over each other, leave nothing of a time out."""
    reached_ms = start_ms
    for span in sorted(spans, key=lambda span: span.from_ms):
        if span.from_ms <= reached_ms:
            reached_ms = max(reached_ms, end_ms if span.until_ms is None else span.until_ms)
    return reached_ms >= end_ms
