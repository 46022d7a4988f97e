"""The parts below the proofs: points by libsodium, and the sponge under the transcript."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pacekeeper.protocol.sealed import keccak, sodium, transcript
from pacekeeper.protocol.sealed.sodium import BASE, IDENTITY, ORDER, NotAPointError
from pacekeeper.protocol.sealed.transcript import Transcript

# RFC 9496, A.2: encodings that are refused: not reduced, negative, no square, negative product, zero y, and -1.
THREE = "94741f5d5d52755ece4f23f044ee27d5d1ea1e2bd196b462166b16152a9d0259"
BAD = [
    "00ffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff",
    "0100000000000000000000000000000000000000000000000000000000000000",
    "26948d35ca62e643e26a83177332e6b6afeb9d08e4268b650f1f5bbd8d81d371",
    "3eb858e78f5a7254d8c9731174a94f76755fd3941c0ac93735c07ba14579630e",
    "ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
]


COMBINED: list[tuple[Callable[[Any, Any], bytes], Any, Any]] = [
    (sodium.add, BASE, None),
    (sodium.add, None, BASE),
    (sodium.subtract, BASE, None),
    (sodium.multiply, 2, None),
    (sodium.multiply, 0, None),
    (sodium.multiply, ORDER, None),
]


@pytest.mark.parametrize("bad", [*map(bytes.fromhex, BAD), b"", BASE[:31], BASE + b"\0"])
def test_what_is_no_point(bad: bytes) -> None:
    """SPEC sealed-1: whatever it is combined with, a scalar of zero included."""
    assert not sodium.is_point(bad)
    for combine, first, second in COMBINED:
        with pytest.raises(NotAPointError):
            combine(bad if first is None else first, bad if second is None else second)


def test_the_group() -> None:
    """SPEC sealed-1: multiples of the base point as RFC 9496, A.1 lists them, and the identity."""
    assert sodium.multiply_base(1) == sodium.multiply(1, BASE) == BASE
    assert sodium.multiply_base(3).hex() == THREE
    assert sodium.add(sodium.add(BASE, BASE), BASE) == sodium.multiply_base(3)
    assert sodium.subtract(BASE, BASE) == IDENTITY
    assert sodium.multiply_base(0) == sodium.multiply_base(ORDER) == sodium.multiply(0, BASE) == IDENTITY
    assert sodium.multiply(5, IDENTITY) == IDENTITY
    assert sodium.multiply_base(-1) == sodium.subtract(IDENTITY, BASE)


def test_scalars() -> None:
    """SPEC sealed-1."""
    assert sodium.read_scalar(sodium.write_scalar(ORDER - 1)) == ORDER - 1
    assert sodium.read_scalar(ORDER.to_bytes(32, "little")) is None
    assert sodium.read_scalar(bytes(31)) is None
    with pytest.raises(ValueError, match="64 bytes"):
        sodium.wide_scalar(bytes(32))
    with pytest.raises(ValueError, match="64 bytes"):
        sodium.from_uniform(bytes(32))


def test_without_the_systems_library_that_of_the_wheel_is_taken(tmp_path: Path) -> None:
    """The same verdicts, and the copy that the wheel unpacks at each import is not left behind."""
    program = f"""
from pacekeeper.protocol.sealed import sodium
sodium._NAMES = ()
assert [sodium.is_point(bytes.fromhex(bad)) for bad in {BAD}] == [False] * {len(BAD)}
assert sodium.multiply_base(3).hex() == "{THREE}"
import sys
assert "rbcl" in sys.modules
"""
    subprocess.run([sys.executable, "-c", program], env=os.environ | {"TMPDIR": str(tmp_path)}, check=True, timeout=60)
    assert list(tmp_path.iterdir()) == []


@settings(max_examples=30, deadline=None)
@given(st.lists(st.binary(max_size=400), max_size=4), st.integers(1, 500))
def test_both_sponges_are_one(chunks: list[bytes], length: int) -> None:
    ours, theirs = keccak.PlainSponge(), keccak.sponge()
    for chunk in chunks:
        ours.update(chunk)
        theirs.update(chunk)
        assert ours.digest(length) == theirs.digest(length)


def test_the_permutation_is_keccaks() -> None:
    """By SHAKE128 of hashlib, which differs from ours in its padding alone."""
    block = bytearray(b"abc" + bytes(keccak.RATE - 3))
    block[3] ^= 0x1F
    block[-1] ^= 0x80
    lanes = keccak.permute([*keccak._LANES.unpack(bytes(block) + bytes(32))])
    assert keccak._LANES.pack(*lanes)[:64] == hashlib.shake_128(b"abc").digest(64)


@settings(max_examples=20, deadline=None)
@given(st.lists(st.tuples(st.binary(max_size=20), st.binary(max_size=400)), max_size=6))
def test_transcripts_are_the_same_over_both_sponges(messages: list[tuple[bytes, bytes]]) -> None:
    """SPEC sealed-4: and a challenge depends on all before it, and changes what follows."""

    def run() -> list[int]:
        said = Transcript(b"test")
        found = []
        for label, message in messages:
            said.append(label, message)
            found.append(said.challenge(b"c"))
        return [*found, said.challenge(b"c"), said.challenge(b"c")]

    fast = run()
    assert len(set(fast)) == len(fast)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(transcript, "sponge", keccak.PlainSponge)
        assert run() == fast


def test_a_message_of_every_length_moves_the_challenge() -> None:
    """SPEC sealed-4: around each end of a block, where the place of an operation's beginning is kept or forgotten."""
    seen = set()
    for length in range(400):
        said = Transcript(b"test")
        said.append(b"m", bytes(length))
        seen.add(said.challenge(b"c"))
    assert len(seen) == 400
