"""How a batch of entries is one blob: each entry after its length in two bytes, big-endian."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from pacekeeper.protocol.errors import Code, Refused


def frame(entries: Sequence[bytes]) -> bytes:
    """Return the blob of a batch. OverflowError for an entry over 65,535 bytes."""
    return b"".join([part for entry in entries for part in (len(entry).to_bytes(2, "big"), entry)])


def unframe(blob: bytes, first_index: int, skip: int = 0) -> Iterator[bytes]:
    """Yield the blob's entries after the first `skip`. Refused(unsafe-state) names the index where it is cut short."""
    position, index, end = 0, first_index, len(blob)
    while position < end:
        start = position + 2
        stop = start + int.from_bytes(blob[position:start], "big")
        if stop > end:
            raise Refused(Code.UNSAFE_STATE, f"stored entry {index} is cut short")
        if index - first_index >= skip:
            yield blob[start:stop]
        position, index = stop, index + 1
