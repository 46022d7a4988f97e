"""The inner-product argument of a range proof: that two vectors, committed to by G and H, have the product claimed.

Each round folds both vectors in half, and says two points, L and R; after log2(n) rounds one scalar of each is left.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from pacekeeper.protocol.sealed.sodium import IDENTITY, ORDER, add, multiply
from pacekeeper.protocol.sealed.transcript import Transcript

Term = tuple[int, bytes]  # a scalar, and the point that it multiplies


@dataclass(frozen=True)
class InnerProductProof:
    """The points of each round, first round first, and the scalars that are left."""

    rounds: tuple[tuple[bytes, bytes], ...]
    a: int
    b: int


def sum_of(terms: Sequence[Term]) -> bytes:
    """Return the sum of scalars times points. Raises NotAPointError, also for a point that scalar 0 multiplies."""
    result = IDENTITY
    for scalar, point in terms:
        product = multiply(scalar, point)
        if product != IDENTITY:
            result = product if result == IDENTITY else add(result, product)
    return result


def sum_of_powers(base: int, count: int) -> int:
    """Return 1 + base + ... + base^(count - 1) modulo ORDER, for a count that is a power of two."""
    total, power = 1, base
    while count > 1:
        total, power, count = total * (1 + power) % ORDER, power * power % ORDER, count // 2
    return total


def inner(first: Sequence[int], second: Sequence[int]) -> int:
    """Return the inner product modulo ORDER."""
    return sum(a * b for a, b in zip(first, second, strict=True)) % ORDER


def prove(
    transcript: Transcript,
    q: bytes,
    h_factor: int,
    points: tuple[Sequence[bytes], Sequence[bytes]],
    a: list[int],
    b: list[int],
) -> InnerProductProof:
    """Prove that <a, b> is what q is multiplied by in the commitment that a and b make with G and h_factor^i H_i.

    a, b, G and H have the same length, a power of two. Points are folded up to a common factor, which costs one
    multiplication a point and not two: with u the round's challenge, G = g (G_L + u^2 G_R) where g gathers the u^-1.
    """
    g_points, h_points = list(points[0]), list(points[1])
    g_scale, h_scale = 1, 1  # of every G; of every H, which has h_factor^i besides
    rounds = []
    transcript.append(b"dom-sep", b"ipp v1")
    transcript.append_number(b"n", len(a))
    while len(a) > 1:
        half = len(a) // 2
        powers = _powers(h_factor, 2 * half, h_scale)
        a_left, a_right, b_left, b_right = a[:half], a[half:], b[:half], b[half:]
        left = sum_of(
            [
                (inner(a_left, b_right), q),
                *((g_scale * scalar, point) for scalar, point in zip(a_left, g_points[half:], strict=True)),
                *(
                    (scalar * power, point)
                    for scalar, power, point in zip(b_right, powers[:half], h_points[:half], strict=True)
                ),
            ]
        )
        right = sum_of(
            [
                (inner(a_right, b_left), q),
                *((g_scale * scalar, point) for scalar, point in zip(a_right, g_points[:half], strict=True)),
                *(
                    (scalar * power, point)
                    for scalar, power, point in zip(b_left, powers[half:], h_points[half:], strict=True)
                ),
            ]
        )
        rounds.append((left, right))
        transcript.append(b"L", left)
        transcript.append(b"R", right)
        u = transcript.challenge(b"u")
        u_inverse = pow(u, -1, ORDER)
        a = [(x * u + y * u_inverse) % ORDER for x, y in zip(a_left, a_right, strict=True)]
        b = [(x * u_inverse + y * u) % ORDER for x, y in zip(b_left, b_right, strict=True)]
        if half > 1:
            g_ratio, h_ratio = u * u, u_inverse * u_inverse * pow(h_factor, half, ORDER)
            g_points = [add(x, multiply(g_ratio, y)) for x, y in zip(g_points[:half], g_points[half:], strict=True)]
            h_points = [add(x, multiply(h_ratio, y)) for x, y in zip(h_points[:half], h_points[half:], strict=True)]
            g_scale, h_scale = g_scale * u_inverse % ORDER, h_scale * u % ORDER
    return InnerProductProof(tuple(rounds), a[0], b[0])


def folded(transcript: Transcript, length: int, proof: InnerProductProof) -> tuple[list[int], list[int], list[int]]:
    """Replay the rounds over a transcript; return (u^2 of each, u^-2 of each, s): s is the weight of each G in the end.

    The weight of H_i is 1 / s_i, which is s_(length - 1 - i).
    """
    transcript.append(b"dom-sep", b"ipp v1")
    transcript.append_number(b"n", length)
    squares, inverse_squares, product = [], [], 1
    for left, right in proof.rounds:
        transcript.append(b"L", left)
        transcript.append(b"R", right)
        u = transcript.challenge(b"u")
        u_inverse = pow(u, -1, ORDER)
        squares.append(u * u % ORDER)
        inverse_squares.append(u_inverse * u_inverse % ORDER)
        product = product * u_inverse % ORDER
    weights = [product]
    for square in reversed(squares):
        weights += [weight * square % ORDER for weight in weights]
    return squares, inverse_squares, weights


def _powers(base: int, count: int, first: int = 1) -> list[int]:
    powers = [first]
    for _ in range(count - 1):
        powers.append(powers[-1] * base % ORDER)
    return powers
