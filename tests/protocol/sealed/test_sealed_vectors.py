"""The range proofs of another implementation: made again to the byte, and verified."""

from __future__ import annotations

import pytest
from sealing import Vector, document, stream, vectors

from pacekeeper.protocol.sealed import generators
from pacekeeper.protocol.sealed.prove import prove
from pacekeeper.protocol.sealed.sodium import BASE, wide_scalar, write_scalar
from pacekeeper.protocol.sealed.verify import failing, verify

VECTORS = vectors()
IDS = [f"{len(vector.values)}x{vector.bits}-{place}" for place, vector in enumerate(VECTORS)]


def test_the_generators_are_the_published_ones() -> None:
    """SPEC sealed-2; SPEC sealed-3."""
    said = document()
    assert BASE.hex() == said["B"]
    assert generators.blinding_base().hex() == said["B_blinding"]
    g, h = generators.vectors(64, 2)
    assert [point.hex() for point in g[: len(said["G"])]] == said["G"]
    assert [point.hex() for point in h[: len(said["H"])]] == said["H"]
    assert g[64].hex() == said["G_party1_first"]
    assert len(set(g + h)) == 256


@pytest.mark.parametrize("vector", VECTORS, ids=IDS)
def test_the_prover_makes_the_same_bytes(vector: Vector) -> None:
    """SPEC sealed-4; SPEC sealed-6: from the same randomness."""
    draw = stream(vector.seed)
    blindings = [wide_scalar(draw(64)) for _ in vector.values]
    assert [write_scalar(blinding) for blinding in blindings] == vector.blindings
    commitments, proof = prove(vector.transcript(), vector.values, blindings, draw, bits=vector.bits)
    assert tuple(commitments) == vector.commitments
    assert proof == vector.proof


@pytest.mark.parametrize("vector", VECTORS, ids=IDS)
def test_the_proofs_verify(vector: Vector) -> None:
    assert verify(vector.claim())


def test_all_verify_together() -> None:
    """SPEC sealed-11: of any widths and counts."""
    assert failing([vector.claim() for vector in VECTORS]) == []
