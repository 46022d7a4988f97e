"""Signature checks, ahead of the replay and on every core.

Verifying Ed25519 is most of an audit's work and needs no state but the keys. The audit reads each entry once; worker
processes get what is signed, whole chunks at a time, and answer one truth per entry; the replay then asks only whose
key it was and whether that was allowed. What a worker does not vouch for, the replay verifies itself, so that every
refusal is worded in one place.
"""

from __future__ import annotations

import multiprocessing
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from typing import Final

from pacekeeper.protocol import keys
from pacekeeper.protocol.envelope import Signed, read_entry
from pacekeeper.protocol.errors import Refused

_INLINE_BELOW: Final = 2_048  # entries; starting processes costs more than checking so few


Read = tuple[int, Signed] | bytes  # an entry's log time and what was signed, or its bytes where they are refused
Task = tuple[bytes, bytes, bytes]  # public key, message, signature


def check_chunk(tasks: list[Task | None]) -> bytes:
    """Return one byte per task: 1 if its signature verifies, else 0."""
    verify = keys.verify
    return bytes([task is not None and verify(*task) for task in tasks])


def read_all(entries: Iterable[bytes]) -> list[Read]:
    """Read entries; one that is refused is left to the replay, which says why."""
    chunk: list[Read] = []
    for data in entries:
        try:
            chunk.append(read_entry(data))
        except Refused:
            chunk.append(data)
    return chunk


def task_of(entry: Read, keyring: dict[bytes, bytes]) -> Task | None:
    """Return what a worker verifies for an entry: its one signature, by a key of the ring; None if it is not so."""
    if isinstance(entry, bytes) or len(entry[1].signatures) != 1:
        return None
    signed = entry[1]
    [(key_id, signature)] = signed.signatures
    key = keyring.get(key_id)
    return None if key is None else (key, signed.message, signature)


def checked(
    chunks: Iterable[list[bytes]],
    keyring: dict[bytes, bytes],
    *,
    total: int,
    jobs: int,
    known: Callable[[int], bool] | None = None,
) -> Iterator[tuple[list[Read], bytes]]:
    """Yield each chunk, read, with the workers' verdicts, in order. A few chunks are held at any time.

    known: whether the entry at an index is taken as verified, so that no worker is asked. total: entries that are not.
    """
    if total < _INLINE_BELOW or jobs < 1:
        for data in chunks:
            yield read_all(data), bytes(len(data))
        return
    # Spawned, not forked: the caller may hold gRPC channels and threads.
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(max_workers=jobs, mp_context=context) as pool:
        waiting: deque[tuple[list[Read], Future[bytes]]] = deque()
        first = 0
        for data in chunks:
            chunk = read_all(data)
            tasks = [
                None if known is not None and known(index) else task_of(entry, keyring)
                for index, entry in enumerate(chunk, start=first)
            ]
            first += len(chunk)
            waiting.append((chunk, pool.submit(check_chunk, tasks)))
            if len(waiting) > 2 * jobs:
                chunk, verdicts = waiting.popleft()
                yield chunk, verdicts.result()
        for chunk, verdicts in waiting:
            yield chunk, verdicts.result()
