"""The points that everything is committed to, none of which anybody knows a multiple of another of.

BASE carries values, blinding_base() their blinding factors; G and H, one of each for every bit of every value of a
proof, are drawn from a stream that their party's number begins (dalek's bulletproofs 5, `generators.rs`).
"""

from __future__ import annotations

import hashlib
from functools import lru_cache
from typing import Final

from pacekeeper.protocol.sealed.sodium import BASE, from_uniform

MAX_BITS: Final = 64
WIDTHS: Final = (8, 16, 32, 64)  # bits of a value
COUNTS: Final = (1, 2, 4, 8, 16)  # values of a proof


@lru_cache(maxsize=1)
def blinding_base() -> bytes:
    """Return the point that blinding factors multiply.

    SPEC sealed-2: it MUST be the map of SHA3-512 of the base point's encoding.
    """
    return from_uniform(hashlib.sha3_512(BASE).digest())


@lru_cache(maxsize=32)
def vectors(bits: int, values: int) -> tuple[tuple[bytes, ...], tuple[bytes, ...]]:
    """Return (G, H), each of bits x values points, those of the first value first."""
    return (
        tuple(point for party in range(values) for point in _chain(b"G", party)[:bits]),
        tuple(point for party in range(values) for point in _chain(b"H", party)[:bits]),
    )


@lru_cache(maxsize=2 * COUNTS[-1])
def _chain(name: bytes, party: int) -> tuple[bytes, ...]:
    # SPEC sealed-3: point i of G or H MUST be the map of bytes 64 i to 64 i + 63 of the party's stream.
    seed = b"GeneratorsChain" + name + party.to_bytes(4, "little")
    stream = hashlib.shake_256(seed).digest(64 * MAX_BITS)
    return tuple(from_uniform(stream[place : place + 64]) for place in range(0, len(stream), 64))
