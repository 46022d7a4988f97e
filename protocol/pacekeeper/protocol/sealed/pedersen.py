"""Pedersen commitments: value x BASE + blinding x blinding_base(). They hide the value and add up as values do."""

from __future__ import annotations

from collections.abc import Iterable

from pacekeeper.protocol.sealed.generators import blinding_base
from pacekeeper.protocol.sealed.sodium import IDENTITY, add, multiply, multiply_base, subtract


def commit(value: int, blinding: int) -> bytes:
    """Return the commitment to a value under a blinding factor, both taken modulo the group's order."""
    return add(multiply_base(value), multiply(blinding, blinding_base()))


def total(commitments: Iterable[bytes]) -> bytes:
    """Return the commitment to the sum of values. Raises NotAPointError."""
    result = IDENTITY
    for commitment in commitments:
        result = add(result, commitment)
    return result


def headroom(cap: int, committed: bytes) -> bytes:
    """Return the commitment to what a cap leaves: cap x BASE less what is committed. Raises NotAPointError.

    SPEC sealed-7: who checks a cap MUST form this from the commitments on the log, never take it from who proves.
    Its blinding factor is minus that of what is committed.
    """
    return subtract(multiply_base(cap), committed)
