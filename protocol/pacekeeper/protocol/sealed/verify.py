"""Checking range proofs, one or many at once.

A proof holds if a certain sum of scalars times points is the identity. Sums of many proofs are checked together, each
with a weight that nobody could choose: the generators, which all share, are then multiplied once for all. The weights
are hashed from everything that is checked, so that a verdict is a function of bytes.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from pacekeeper.protocol.sealed.generators import COUNTS, MAX_BITS, WIDTHS, blinding_base, vectors
from pacekeeper.protocol.sealed.inner_product import Term, folded, sum_of, sum_of_powers
from pacekeeper.protocol.sealed.proof import begin, read_proof
from pacekeeper.protocol.sealed.sodium import (
    IDENTITY,
    ORDER,
    POINT_BYTES,
    NotAPointError,
    add,
    multiply_base,
    wide_scalar,
    write_scalar,
)
from pacekeeper.protocol.sealed.transcript import Transcript


@dataclass(frozen=True)
class Claim:
    """That values behind commitments are in [0, 2^bits), under a statement that the proof is bound to.

    transcript makes a fresh transcript that holds the statement; it is called once per look.
    """

    transcript: Callable[[], Transcript]
    commitments: tuple[bytes, ...]
    proof: bytes
    bits: int = MAX_BITS


@dataclass(frozen=True)
class _Equation:
    """What a claim comes to: own terms, and what base, blinding base, G and H are multiplied by, sum up to the identity
    if it holds. mark is a hash over all of it; the lists have MAX_BITS places for each value."""

    mark: bytes
    own: list[Term]
    base: int
    blinding: int
    g: list[int]
    h: list[int]


def verify(claim: Claim) -> bool:
    """Whether a claim holds. Never raises on bytes.

    SPEC sealed-10: bytes that are no proof, no point or no scalar MUST be refused as a proof that does not hold.
    """
    return not failing([claim])


def failing(claims: Sequence[Claim]) -> list[int]:
    """Return the places of the claims that do not hold, ascending. Never raises on bytes.

    SPEC sealed-11: a batch MUST name each claim that does not hold, and hold if and only if each does alone.
    """
    bad: list[int] = []
    sound: list[tuple[int, _Equation]] = []
    for place, claim in enumerate(claims):
        equation = _equation(claim)
        if equation is None:
            bad.append(place)
        else:
            sound.append((place, equation))
    return sorted(bad + _search(sound))


def _search(sound: Sequence[tuple[int, _Equation]]) -> list[int]:
    """Halve what does not hold together until the culprits are alone."""
    if not sound or _holds([equation for _, equation in sound]):
        return []
    if len(sound) == 1:
        return [sound[0][0]]
    half = len(sound) // 2
    return _search(sound[:half]) + _search(sound[half:])


def _equation(claim: Claim) -> _Equation | None:
    """Replay the transcript over a claim; None if its bytes are not of the right shape."""
    bits, count = claim.bits, len(claim.commitments)
    if bits not in WIDTHS or count not in COUNTS:
        return None
    proof = read_proof(claim.proof, bits, count)
    if proof is None or any(len(commitment) != POINT_BYTES for commitment in claim.commitments):
        return None
    transcript = claim.transcript()
    begin(transcript, bits, count)
    for commitment in claim.commitments:
        transcript.append(b"V", commitment)
    transcript.append(b"A", proof.a)
    transcript.append(b"S", proof.s)
    y, z = transcript.challenge(b"y"), transcript.challenge(b"z")
    transcript.append(b"T_1", proof.t_1)
    transcript.append(b"T_2", proof.t_2)
    x = transcript.challenge(b"x")
    transcript.append_scalar(b"t_x", proof.t_x)
    transcript.append_scalar(b"t_x_blinding", proof.t_x_blinding)
    transcript.append_scalar(b"e_blinding", proof.e_blinding)
    w = transcript.challenge(b"w")
    squares, inverse_squares, weights = folded(transcript, bits * count, proof.inner)
    # SPEC sealed-12: weights MUST depend on every byte that is checked. The transcript has all but a and b.
    last = write_scalar(transcript.challenge(b"pacekeeper weight"))
    mark = hashlib.sha512(b"pacekeeper/sealed/weight/v1\n" + last + claim.proof).digest()
    c = wide_scalar(mark)

    a, b, zz = proof.inner.a, proof.inner.b, z * z % ORDER
    own = [(1, proof.a), (x, proof.s), (c * x, proof.t_1), (c * x * x, proof.t_2)]
    for square, inverse_square, (left, right) in zip(squares, inverse_squares, proof.inner.rounds, strict=True):
        own += [(square, left), (inverse_square, right)]
    g, h = [0] * (MAX_BITS * count), [0] * (MAX_BITS * count)
    y_inverse, y_power, z_power, place = pow(y, -1, ORDER), 1, zz, 0
    for party, commitment in enumerate(claim.commitments):
        own.append((c * z_power, commitment))
        for bit in range(bits):
            slot = party * MAX_BITS + bit
            g[slot] = -z - a * weights[place]
            h[slot] = z + y_power * ((z_power << bit) - b * weights[-1 - place])
            y_power = y_power * y_inverse % ORDER
            place += 1
        z_power = z_power * z % ORDER
    delta = (z - zz) * sum_of_powers(y, bits * count) - zz * z * ((1 << bits) - 1) * sum_of_powers(z, count)
    return _Equation(
        mark=mark,
        own=own,
        base=w * (proof.t_x - a * b) + c * (delta - proof.t_x),
        blinding=-proof.e_blinding - c * proof.t_x_blinding,
        g=g,
        h=h,
    )


def _holds(equations: Sequence[_Equation]) -> bool:
    width = max(len(equation.g) for equation in equations)
    g, h, base, blinding = [0] * width, [0] * width, 0, 0
    own: list[Term] = []
    for weight, equation in zip(_weights(equations), equations, strict=True):
        own += [(weight * scalar, point) for scalar, point in equation.own]
        base += weight * equation.base
        blinding += weight * equation.blinding
        for place, scalar in enumerate(equation.g):
            g[place] += weight * scalar
        for place, scalar in enumerate(equation.h):
            h[place] += weight * scalar
    g_points, h_points = vectors(MAX_BITS, width // MAX_BITS)
    try:
        # What is hostile comes first, so that bytes that are no point cost less than a verification.
        sums = sum_of(
            [*own, (blinding, blinding_base()), *zip(g, g_points, strict=True), *zip(h, h_points, strict=True)]
        )
        return add(sums, multiply_base(base)) == IDENTITY
    except NotAPointError:
        return False


def _weights(equations: Sequence[_Equation]) -> list[int]:
    """Return 1 for a claim alone, else what nobody could choose, since it follows from all of them."""
    if len(equations) == 1:
        return [1]
    seed = hashlib.sha512(b"".join(equation.mark for equation in equations)).digest()
    return [wide_scalar(hashlib.sha512(seed + place.to_bytes(8, "big")).digest()) for place in range(len(equations))]
