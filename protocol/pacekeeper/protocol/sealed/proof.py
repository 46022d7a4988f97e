"""A range proof's bytes, in the form that dalek's bulletproofs crate writes.

A, S, T_1 and T_2 (points), t_x, its blinding and e's (scalars), L and R of each round (points), a and b (scalars); 32
bytes each. One value of 64 bits takes 672 bytes; each doubling of the values 64 more.
"""

from __future__ import annotations

from dataclasses import dataclass

from pacekeeper.protocol.sealed.inner_product import InnerProductProof
from pacekeeper.protocol.sealed.sodium import IDENTITY, read_scalar, write_scalar
from pacekeeper.protocol.sealed.transcript import Transcript


@dataclass(frozen=True)
class RangeProof:
    """A proof, read: points are 32 bytes that may be no points yet, scalars are canonical."""

    a: bytes
    s: bytes
    t_1: bytes
    t_2: bytes
    t_x: int
    t_x_blinding: int
    e_blinding: int
    inner: InnerProductProof

    def points(self) -> list[bytes]:
        """Return all points, in the order of the bytes."""
        return [self.a, self.s, self.t_1, self.t_2, *(point for pair in self.inner.rounds for point in pair)]


def proof_bytes(bits: int, values: int) -> int:
    """Return the length of a proof."""
    return 32 * (9 + 2 * (bits * values - 1).bit_length())


def begin(transcript: Transcript, bits: int, values: int) -> None:
    """Append what every range proof begins with: its kind and its shape."""
    transcript.append(b"dom-sep", b"rangeproof v1")
    transcript.append_number(b"n", bits)
    transcript.append_number(b"m", values)


def write_proof(proof: RangeProof) -> bytes:
    """Return the bytes of a proof."""
    scalars = b"".join(map(write_scalar, (proof.t_x, proof.t_x_blinding, proof.e_blinding)))
    points = proof.points()
    return b"".join((*points[:4], scalars, *points[4:], write_scalar(proof.inner.a), write_scalar(proof.inner.b)))


def read_proof(data: bytes, bits: int, values: int) -> RangeProof | None:
    """Read a proof of so many values; None if it is not one.

    SPEC sealed-9: its length MUST be that of its values, each scalar canonical, and no point the identity.
    """
    if len(data) != proof_bytes(bits, values):
        return None
    parts = [data[place : place + 32] for place in range(0, len(data), 32)]
    scalars = [read_scalar(part) for part in (*parts[4:7], *parts[-2:])]
    t_x, t_x_blinding, e_blinding, a, b = scalars
    if t_x is None or t_x_blinding is None or e_blinding is None or a is None or b is None:
        return None
    if IDENTITY in (*parts[:4], *parts[7:-2]):
        return None
    rounds = tuple(zip(parts[7:-2:2], parts[8:-2:2], strict=True))
    a_point, s_point, t_1, t_2 = parts[:4]
    return RangeProof(a_point, s_point, t_1, t_2, t_x, t_x_blinding, e_blinding, InnerProductProof(rounds, a, b))
