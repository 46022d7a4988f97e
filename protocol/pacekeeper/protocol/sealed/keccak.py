"""Keccak with a sponge of 168 bytes and the padding of cSHAKE (FIPS 202, SP 800-185): what transcripts are hashed with.

OpenSSL 3 has it under the name of what it is made for, KMAC, without KMAC's own framing; where Python's hashlib does
not lead to it, the permutation is done here. Both give the same bytes (a test compares them).
"""

from __future__ import annotations

import hashlib
from struct import Struct
from typing import Final, Protocol

RATE: Final = 168
_PAD: Final = 0x04
_MASK: Final = 2**64 - 1
_LANES: Final = Struct("<25Q")


class Sponge(Protocol):
    """Absorbs bytes; digest(length) is what would be squeezed now, and changes nothing."""

    def update(self, data: bytes, /) -> None:
        """Absorb."""

    def digest(self, length: int, /) -> bytes:
        """Return so many bytes of output."""


def sponge() -> Sponge:
    """Return an empty sponge, OpenSSL's where there is one."""
    try:
        return hashlib.new("KECCAK-KMAC-128")  # type: ignore[return-value]
    except ValueError:
        return PlainSponge()


class PlainSponge:
    """The sponge in Python."""

    def __init__(self) -> None:
        """Make an empty one."""
        self._lanes = [0] * 25
        self._pending = b""

    def update(self, data: bytes, /) -> None:
        """Absorb."""
        data = self._pending + data
        whole = len(data) - len(data) % RATE
        for start in range(0, whole, RATE):
            self._lanes = _absorb(self._lanes, data[start : start + RATE])
        self._pending = data[whole:]

    def digest(self, length: int, /) -> bytes:
        """Return so many bytes of output."""
        block = bytearray(self._pending + bytes(RATE - len(self._pending)))
        block[len(self._pending)] ^= _PAD
        block[-1] ^= 0x80
        lanes, out = _absorb(self._lanes, bytes(block)), b""
        while True:
            out += _LANES.pack(*lanes)[:RATE]
            if len(out) >= length:
                return out[:length]
            lanes = permute(lanes)


def _absorb(lanes: list[int], block: bytes) -> list[int]:
    fresh = _LANES.unpack(block + bytes(200 - RATE))
    return permute([lane ^ new for lane, new in zip(lanes, fresh, strict=True)])


def _round_constants() -> list[int]:
    constants, register = [], 1
    for _ in range(24):
        constant = 0
        for power in range(7):
            if register & 1:
                constant |= 1 << (2**power - 1)
            register <<= 1
            if register & 0x100:
                register ^= 0x171
        constants.append(constant)
    return constants


def _rotations() -> list[tuple[int, int, int]]:
    """(from, to, rotation) of rho and pi together, for each lane."""
    moves = [(0, 0, 0)]
    x, y = 1, 0
    for step in range(24):
        moves.append((x + 5 * y, y + 5 * ((2 * x + 3 * y) % 5), (step + 1) * (step + 2) // 2 % 64))
        x, y = y, (2 * x + 3 * y) % 5
    return moves


_CONSTANTS: Final = _round_constants()
_MOVES: Final = _rotations()
_ROWS: Final = [(5 * y + x, 5 * y + (x + 1) % 5, 5 * y + (x + 2) % 5) for y in range(5) for x in range(5)]


def permute(lanes: list[int]) -> list[int]:
    """Keccak-f[1600] of 25 lanes of 64 bits, lane x + 5y."""
    for constant in _CONSTANTS:
        parity = [lanes[x] ^ lanes[x + 5] ^ lanes[x + 10] ^ lanes[x + 15] ^ lanes[x + 20] for x in range(5)]
        theta = [parity[x - 1] ^ (parity[(x + 1) % 5] << 1 & _MASK | parity[(x + 1) % 5] >> 63) for x in range(5)]
        moved = [0] * 25
        for source, target, rotation in _MOVES:
            lane = lanes[source] ^ theta[source % 5]
            moved[target] = (lane << rotation | lane >> 64 - rotation) & _MASK
        lanes = [moved[a] ^ (~moved[b] & moved[c]) & _MASK for a, b, c in _ROWS]
        lanes[0] ^= constant
    return lanes
