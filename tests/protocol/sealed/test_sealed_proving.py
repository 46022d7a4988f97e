"""What can be proven: values within the range and headroom within a cap, and nothing outside."""

from __future__ import annotations

import random

import pytest
from sealing import statement, stream

from pacekeeper.protocol.sealed import pedersen
from pacekeeper.protocol.sealed.proof import proof_bytes
from pacekeeper.protocol.sealed.prove import CannotProveError, prove
from pacekeeper.protocol.sealed.sodium import ORDER, wide_scalar
from pacekeeper.protocol.sealed.verify import Claim, failing, verify

ABOUT = statement("a test")


@pytest.mark.parametrize("count", [1, 2, 4, 8, 16])
def test_every_number_of_values(count: int) -> None:
    """SPEC sealed-6: proofs of 8 bits, so that sixteen of them take no minute."""
    draw = stream(count)
    blindings = [wide_scalar(draw(64)) for _ in range(count)]
    values = [random.Random(place).randrange(256) for place in range(count)]
    commitments, proof = prove(ABOUT(), values, blindings, draw, bits=8)
    assert len(proof) == proof_bytes(8, count)
    assert verify(Claim(ABOUT, tuple(commitments), proof, 8))
    assert not verify(Claim(ABOUT, tuple(commitments), proof, 16))


@pytest.mark.parametrize("value", [0, 1, 2**63, 2**64 - 1])
def test_the_edges_of_the_range(value: int) -> None:
    draw = stream(9)
    commitments, proof = prove(ABOUT(), [value], [wide_scalar(draw(64))], draw)
    assert verify(Claim(ABOUT, tuple(commitments), proof))


@pytest.mark.parametrize("value", [-1, 2**64, ORDER, ORDER - 1, 2**64 + ORDER])
def test_nothing_outside_the_range(value: int) -> None:
    """SPEC sealed-8."""
    with pytest.raises(CannotProveError):
        prove(ABOUT(), [value], [1], stream(1))


@pytest.mark.parametrize(
    ("values", "blindings", "bits"), [([], [], 64), ([1] * 3, [1] * 3, 64), ([1], [], 64), ([1], [1], 63)]
)
def test_shapes_that_do_not_exist(values: list[int], blindings: list[int], bits: int) -> None:
    with pytest.raises(ValueError, match="a proof is of"):
        prove(ABOUT(), values, blindings, stream(1), bits=bits)


def test_headroom_is_the_checkers_own_sum() -> None:
    """SPEC sealed-7: at exactly the cap there is a proof; and over it the same proof is one of another commitment."""
    draw, cap = stream(3), 1_000
    used, blindings = [600, 300, 100], [wide_scalar(draw(64)) for _ in range(3)]
    commitments = [pedersen.commit(value, blinding) for value, blinding in zip(used, blindings, strict=True)]
    left = pedersen.headroom(cap, pedersen.total(commitments))
    [committed], proof = prove(ABOUT(), [cap - sum(used)], [-sum(blindings) % ORDER], draw)
    assert committed == left
    assert verify(Claim(ABOUT, (left,), proof))
    over = pedersen.headroom(cap, pedersen.total([*commitments, pedersen.commit(1, 0)]))
    assert over != left
    assert not verify(Claim(ABOUT, (over,), proof))


def test_over_the_cap_no_attempt_succeeds() -> None:
    """SPEC sealed-8: with the headroom taken modulo the order, or anything else for it, under its true commitment."""
    draw, cap, used = stream(4), 100, 101
    chance = random.Random(7)
    blinding = wide_scalar(draw(64))
    left = pedersen.headroom(cap, pedersen.commit(used, blinding))
    with pytest.raises(CannotProveError):
        prove(ABOUT(), [(cap - used) % ORDER], [-blinding % ORDER], draw, bits=8)
    claims = []
    for _ in range(100):
        lie, other = chance.randrange(256), chance.choice([-blinding % ORDER, wide_scalar(draw(64))])
        _, proof = prove(ABOUT(), [lie], [other], draw, bits=8)
        claims.append(Claim(ABOUT, (left,), proof, 8))
    assert failing(claims) == list(range(100))
