"""Ed25519's curve in slow, plain integers, to make the keys and signatures that honest software never makes.

Points are affine (x, y) on -x^2 + y^2 = 1 + d x^2 y^2 over the integers modulo P; L is the order of the base point's
group and 8 the cofactor. RFC 8032, section 5.1.
"""

from __future__ import annotations

import hashlib
from typing import Final, TypeAlias

P: Final = 2**255 - 19
L: Final = 2**252 + 27742317777372353535851937790883648493
_D: Final = -121665 * pow(121666, -1, P) % P

Point: TypeAlias = tuple[int, int]
IDENTITY: Final[Point] = (0, 1)


def recover_x(y: int, sign: int) -> int | None:
    """Return the x of a point with that y and that lowest bit of x, if there is one."""
    square = (y * y - 1) * pow(_D * y * y + 1, -1, P) % P
    root = pow(square, (P + 3) // 8, P)
    if root * root % P != square:
        root = root * pow(2, (P - 1) // 4, P) % P
    if root * root % P != square or (root == 0 and sign):
        return None
    return root if root % 2 == sign else P - root


def add(a: Point, b: Point) -> Point:
    cross = _D * a[0] * b[0] * a[1] * b[1] % P
    x = (a[0] * b[1] + b[0] * a[1]) * pow(1 + cross, -1, P) % P
    y = (a[1] * b[1] + a[0] * b[0]) * pow(1 - cross, -1, P) % P
    return (x, y)


def multiply(scalar: int, point: Point) -> Point:
    total = IDENTITY
    while scalar:
        if scalar & 1:
            total = add(total, point)
        point = add(point, point)
        scalar >>= 1
    return total


def encode(point: Point) -> bytes:
    return encode_y(point[1], point[0] & 1)


def encode_y(y: int, sign: int) -> bytes:
    """Encode a y that need not be reduced, with any sign bit."""
    return (y | sign << 255).to_bytes(32, "little")


def _base() -> Point:
    y = 4 * pow(5, -1, P) % P
    x = recover_x(y, 0)
    assert x is not None
    return (x, y)


BASE: Final = _base()


def torsion() -> list[Point]:
    """Return the eight points of small order: multiples 0 to 7 of one of order 8."""
    for y in range(2, 100):
        x = recover_x(y, 0)
        if x is None:
            continue
        generator = multiply(L, (x, y))
        if multiply(4, generator) != IDENTITY:
            return [multiply(k, generator) for k in range(8)]
    raise AssertionError("half of all points have a part of order 8")


def secret_scalar(seed: bytes) -> int:
    """Return the scalar that RFC 8032 makes from a seed."""
    head = bytearray(hashlib.sha512(seed).digest()[:32])
    head[0] &= 248
    head[31] = head[31] & 63 | 64
    return int.from_bytes(head, "little")


def challenge(r: bytes, key: bytes, message: bytes) -> int:
    return int.from_bytes(hashlib.sha512(r + key + message).digest(), "little") % L
