"""Signature checks, ahead of the replay and on every core.

Verifying Ed25519 is most of an audit's work and needs no state but the keys. Worker processes check whole chunks of
entries and answer one truth per entry; the replay then asks only whose key it was and whether that was allowed. What a
worker does not vouch for, the replay verifies itself, so that every refusal is worded in one place.
"""

from __future__ import annotations

import multiprocessing
from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from typing import Final

from google.protobuf.message import DecodeError

from pacekeeper.protocol import keys
from pacekeeper.protocol.envelope import pae
from pacekeeper.v1 import envelope_pb2

Chunk = list[bytes]

_INLINE_BELOW: Final = 2_048  # entries; starting processes costs more than checking so few


def check_chunk(entries: Chunk, keyring: dict[bytes, bytes]) -> bytes:
    """Return one byte per entry: 1 if it parses and all its signatures verify under keys of the ring, else 0."""
    verdicts = bytearray(len(entries))
    parsed = envelope_pb2.Entry()
    verify = keys.verify
    for number, data in enumerate(entries):
        try:
            parsed.ParseFromString(data)
        except DecodeError:
            continue
        envelope = parsed.envelope
        message = pae(envelope.payload_type, envelope.payload)
        verdicts[number] = len(envelope.signatures) > 0 and all(
            (key := keyring.get(signature.key_id)) is not None and verify(key, message, signature.signature)
            for signature in envelope.signatures
        )
    return bytes(verdicts)


def checked(
    chunks: Iterable[Chunk], keyring: dict[bytes, bytes], *, total: int, jobs: int
) -> Iterator[tuple[Chunk, bytes]]:
    """Yield each chunk with its verdicts, in order. At most a few chunks per worker are held at any time."""
    if total < _INLINE_BELOW or jobs < 1:
        for chunk in chunks:
            yield chunk, check_chunk(chunk, keyring)
        return
    # Spawned, not forked: the caller may hold gRPC channels and threads.
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(max_workers=jobs, mp_context=context) as pool:
        waiting: deque[tuple[Chunk, Future[bytes]]] = deque()
        for chunk in chunks:
            waiting.append((chunk, pool.submit(check_chunk, chunk, keyring)))
            if len(waiting) > 3 * jobs:
                entries, verdicts = waiting.popleft()
                yield entries, verdicts.result()
        for entries, verdicts in waiting:
            yield entries, verdicts.result()
