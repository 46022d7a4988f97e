"""Damaged proofs: each family is refused, and none raises."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sealing import LABEL, Vector, vectors

from pacekeeper.protocol.sealed import verify as verify_module
from pacekeeper.protocol.sealed.proof import read_proof
from pacekeeper.protocol.sealed.sodium import IDENTITY, ORDER, add, is_point
from pacekeeper.protocol.sealed.transcript import bound
from pacekeeper.protocol.sealed.verify import Claim, failing, verify

ONE, TWO = vectors()[0], vectors()[2]
FIELD = 2**255 - 19
SCALARS = (4, 5, 6, -2, -1)


def parts(proof: bytes) -> list[bytes]:
    return [proof[place : place + 32] for place in range(0, len(proof), 32)]


def with_part(vector: Vector, place: int, part: bytes) -> Claim:
    elements = parts(vector.proof)
    elements[place] = part
    return replace(vector.claim(), proof=b"".join(elements))


def scalar_places(vector: Vector) -> set[int]:
    return {place % len(parts(vector.proof)) for place in SCALARS}


def families(vector: Vector) -> Iterator[tuple[str, Claim]]:
    """Every damage that a proof can take in one place, each of another kind."""
    claim, elements = vector.claim(), parts(vector.proof)
    for place, element in enumerate(elements):
        kind = "scalar" if place in scalar_places(vector) else "point"
        for bit in (0, 7, 100, 254, 255):
            flipped = bytearray(element)
            flipped[bit // 8] ^= 1 << bit % 8
            yield f"{kind} {place} bit {bit}", with_part(vector, place, bytes(flipped))
        yield f"{kind} {place} zeros", with_part(vector, place, bytes(32))
        yield f"{kind} {place} ones", with_part(vector, place, b"\xff" * 32)
        yield f"{kind} {place} its neighbour's", with_part(vector, place, elements[place - 1])
        if kind == "scalar":
            padded = (int.from_bytes(element, "little") + ORDER).to_bytes(32, "little")
            yield f"scalar {place} not canonical", with_part(vector, place, padded)
        else:
            yield f"point {place} identity", with_part(vector, place, IDENTITY)
            negative = (FIELD - int.from_bytes(element, "little")).to_bytes(32, "little")
            yield f"point {place} negative", with_part(vector, place, negative)
            wrapped = (int.from_bytes(element, "little") + FIELD) % 2**256
            yield f"point {place} not reduced", with_part(vector, place, wrapped.to_bytes(32, "little"))
            yield f"point {place} doubled", with_part(vector, place, add(element, element))
    for length in (0, 1, 31, 32, 640, len(vector.proof) - 1, len(vector.proof) - 32):
        yield f"cut to {length}", replace(claim, proof=vector.proof[:length])
    yield "with a byte more", replace(claim, proof=vector.proof + b"\0")
    yield "with two rounds more", replace(claim, proof=vector.proof + bytes(64))
    yield "no commitment", replace(claim, commitments=())
    yield "one commitment more", replace(claim, commitments=(*vector.commitments, vector.commitments[0]))
    yield "three commitments", replace(claim, commitments=(vector.commitments * 3)[:3])
    yield "another commitment", replace(claim, commitments=(elements[0], *vector.commitments[1:]))
    yield "a commitment of no point", replace(claim, commitments=(b"\xff" * 32, *vector.commitments[1:]))
    yield "a commitment cut", replace(claim, commitments=(vector.commitments[0][:31], *vector.commitments[1:]))
    yield "the identity committed", replace(claim, commitments=(IDENTITY, *vector.commitments[1:]))
    for bits in (0, 1, 8, 16, 32, 63, 128, -64):
        yield f"{bits} bits", replace(claim, bits=bits)
    yield "another statement", replace(claim, transcript=lambda: bound(LABEL, vector.statement + b" "))
    yield "no statement", replace(claim, transcript=lambda: bound(LABEL, b""))
    yield "another label", replace(claim, transcript=lambda: bound(LABEL + b"/2", vector.statement))


@pytest.mark.parametrize("vector", [ONE, TWO], ids=["one value", "two values"])
def test_every_damaged_proof_is_refused(vector: Vector) -> None:
    """SPEC sealed-5; SPEC sealed-9; SPEC sealed-10."""
    assert verify(vector.claim())
    taken = []
    for name, claim in families(vector):
        if claim != vector.claim() and verify(claim):
            taken.append(name)
    assert taken == []


def test_what_is_not_even_read() -> None:
    """SPEC sealed-9: whatever the sums would say of it."""
    assert read_proof(ONE.proof, 64, 1) is not None
    for place in set(range(len(parts(ONE.proof)))) - scalar_places(ONE):
        assert read_proof(with_part(ONE, place, IDENTITY).proof, 64, 1) is None
    for more in (b"\0", bytes(32), bytes(64)):
        assert read_proof(ONE.proof + more, 64, 1) is None
    assert read_proof(ONE.proof, 64, 2) is None
    assert read_proof(ONE.proof, 32, 1) is None


def test_commitments_have_their_order() -> None:
    assert not verify(replace(TWO.claim(), commitments=TWO.commitments[::-1]))
    assert not verify(replace(TWO.claim(), commitments=(TWO.commitments[0],) * 2))


def test_a_batch_names_its_culprits() -> None:
    """SPEC sealed-11: wherever they are, and whether their bytes or their sums are bad."""
    good = [vector.claim() for vector in vectors()[:3]]
    bad = with_part(ONE, 4, parts(ONE.proof)[5])
    no_point = with_part(TWO, 1, b"\xff" * 32)
    short = replace(ONE.claim(), proof=b"")
    assert is_point(parts(TWO.proof)[1])
    assert failing([bad, *good, no_point, good[0], short]) == [0, 4, 6]
    assert failing([]) == []


def test_two_errors_do_not_make_one_truth() -> None:
    """SPEC sealed-12: sums that are off by as much in opposite directions, which only weights keep apart."""
    equation = verify_module._equation(ONE.claim())
    assert equation is not None
    above, below = replace(equation, base=equation.base + 1), replace(equation, base=equation.base - 1)
    assert verify_module._holds([equation, equation])
    assert not verify_module._holds([above, below])


def test_weights_depend_on_everything() -> None:
    """SPEC sealed-12: the scalars that the transcript does not have, and a statement that nothing else shows."""
    marks = set()
    for claim in (
        ONE.claim(),
        with_part(ONE, -1, parts(ONE.proof)[-2]),
        with_part(ONE, -2, parts(ONE.proof)[-1]),
        replace(ONE.claim(), transcript=lambda: bound(LABEL, b"another")),
    ):
        equation = verify_module._equation(claim)
        assert equation is not None
        marks.add(equation.mark)
    assert len(marks) == 4


@settings(max_examples=50, deadline=None)
@given(st.binary(max_size=800), st.lists(st.binary(max_size=40), max_size=3), st.sampled_from([8, 64]))
def test_no_bytes_raise(proof: bytes, commitments: list[bytes], bits: int) -> None:
    """SPEC sealed-10."""
    assert not verify(Claim(ONE.transcript, tuple(commitments), proof, bits))
