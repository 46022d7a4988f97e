"""Making a range proof: that each committed value lies in [0, 2^bits), and nothing else about it.

The prover's arithmetic is Python's, which is not constant-time: whoever can measure the prover's machine closely may
learn about the values. The bytes are those of the Rust crate, so that a lab may use that one instead.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from pacekeeper.protocol.sealed import inner_product, pedersen
from pacekeeper.protocol.sealed.generators import COUNTS, MAX_BITS, WIDTHS, blinding_base, vectors
from pacekeeper.protocol.sealed.inner_product import inner, sum_of
from pacekeeper.protocol.sealed.proof import RangeProof, begin, write_proof
from pacekeeper.protocol.sealed.sodium import IDENTITY, ORDER, add, multiply_base, subtract, wide_scalar
from pacekeeper.protocol.sealed.transcript import Transcript

Draw = Callable[[int], bytes]


class CannotProveError(ValueError):
    """A value outside the range: there is no proof of it."""


def prove(
    transcript: Transcript, values: Sequence[int], blindings: Sequence[int], draw: Draw, *, bits: int = MAX_BITS
) -> tuple[list[bytes], bytes]:
    """Return (commitments, proof) that each value is in [0, 2^bits), bound to what the transcript holds already.

    SPEC sealed-6: transcript and draws MUST come in this order.
    SPEC sealed-8: there MUST be no proof of a value outside the range.
    draw(n) returns n fresh, uniform and secret bytes: with any of them known, the values are. bits: 8, 16, 32 or 64;
    1, 2, 4, 8 or 16 values. Raises CannotProveError if a value is out of range, ValueError for other shapes.
    """
    if bits not in WIDTHS or len(values) not in COUNTS or len(blindings) != len(values):
        raise ValueError("a proof is of 1, 2, 4, 8 or 16 values of 8, 16, 32 or 64 bits, each with its blinding factor")
    if not all(0 <= value < 1 << bits for value in values):
        raise CannotProveError(f"a value is not in [0, 2^{bits})")
    count = len(values)
    g_points, h_points = vectors(bits, count)
    commitments = [pedersen.commit(value, blinding) for value, blinding in zip(values, blindings, strict=True)]

    begin(transcript, bits, count)
    a_bits = [value >> bit & 1 for value in values for bit in range(bits)]
    a_blinding = s_blinding = 0
    s_left: list[int] = []
    s_right: list[int] = []
    for _ in values:  # the order in which the crate's parties draw
        a_blinding += wide_scalar(draw(64))
        s_blinding += wide_scalar(draw(64))
        s_left += [wide_scalar(draw(64)) for _ in range(bits)]
        s_right += [wide_scalar(draw(64)) for _ in range(bits)]
    a_point = sum_of([(a_blinding, blinding_base())])
    for bit, g_point, h_point in zip(a_bits, g_points, h_points, strict=True):
        a_point = add(a_point, g_point) if bit else subtract(a_point, h_point)
    s_point = sum_of(
        [
            (s_blinding, blinding_base()),
            *zip(s_left, g_points, strict=True),
            *zip(s_right, h_points, strict=True),
        ]
    )
    for commitment in commitments:
        transcript.append(b"V", commitment)
    transcript.append(b"A", a_point)
    transcript.append(b"S", s_point)
    y, z = transcript.challenge(b"y"), transcript.challenge(b"z")

    # l(X) and r(X), whose product's constant term says that all bits are bits and make up the values.
    left_0 = [bit - z for bit in a_bits]
    right_0, right_1, y_power = [], [], 1
    z_power = z
    for party in range(count):
        z_power = z_power * z % ORDER
        for bit in range(bits):
            place = party * bits + bit
            right_0.append((y_power * (a_bits[place] - 1 + z) + (z_power << bit)) % ORDER)
            right_1.append(y_power * s_right[place] % ORDER)
            y_power = y_power * y % ORDER
    t_1 = (inner(left_0, right_1) + inner(s_left, right_0)) % ORDER
    t_2 = inner(s_left, right_1)
    t_blindings = [(wide_scalar(draw(64)), wide_scalar(draw(64))) for _ in values]
    t_1_blinding, t_2_blinding = (sum(column) for column in zip(*t_blindings, strict=True))
    t_1_point, t_2_point = pedersen.commit(t_1, t_1_blinding), pedersen.commit(t_2, t_2_blinding)
    transcript.append(b"T_1", t_1_point)
    transcript.append(b"T_2", t_2_point)
    x = transcript.challenge(b"x")

    left = [(zero + one * x) % ORDER for zero, one in zip(left_0, s_left, strict=True)]
    right = [(zero + one * x) % ORDER for zero, one in zip(right_0, right_1, strict=True)]
    t_x = inner(left, right)
    value_blinding = sum(pow(z, 2 + party, ORDER) * blinding for party, blinding in enumerate(blindings))
    t_x_blinding = (value_blinding + t_1_blinding * x + t_2_blinding * x * x) % ORDER
    e_blinding = (a_blinding + s_blinding * x) % ORDER
    transcript.append_scalar(b"t_x", t_x)
    transcript.append_scalar(b"t_x_blinding", t_x_blinding)
    transcript.append_scalar(b"e_blinding", e_blinding)
    q = multiply_base(transcript.challenge(b"w"))
    argument = inner_product.prove(transcript, q, pow(y, -1, ORDER), (g_points, h_points), left, right)
    points = (a_point, s_point, t_1_point, t_2_point)
    if IDENTITY in points:
        raise ValueError("drawn bytes that are not random")
    return commitments, write_proof(RangeProof(*points, t_x, t_x_blinding, e_blinding, argument))
