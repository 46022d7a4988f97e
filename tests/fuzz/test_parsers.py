"""Mutated bytes against every parser of the network, in the time that a test suite has. `make fuzz` goes on for longer.

Well-formed bytes are cut, spliced, repeated and flipped, so that most of what a parser sees is nearly right.
"""

from __future__ import annotations

from typing import Any

import pytest
from fuzz_targets import attempt, targets
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

TELLING = (b"\n", b"\n\n", b"\0", b" ", b"0", b"\xff", b"\r")


@st.composite
def mutated(draw: Any, seeds: tuple[bytes, ...]) -> bytes:
    data = bytearray(draw(st.sampled_from(seeds)))
    for _ in range(draw(st.integers(1, 4))):
        at = draw(st.integers(0, len(data)))
        upto = draw(st.integers(at, min(len(data), at + 40)))
        match draw(st.sampled_from(["flip", "cut", "insert", "repeat", "splice", "swap"])):
            case "flip" if at < len(data):
                data[at] ^= 1 << draw(st.integers(0, 7))
            case "cut":
                del data[at:upto]
            case "insert":
                data[at:at] = draw(
                    st.binary(max_size=6) | st.sampled_from([b"\n", b"\n\n", b"\0", b" ", b"0", b"\xff"])
                )
            case "repeat":
                data[at:at] = data[at:upto]
            case "splice":
                other = draw(st.sampled_from(seeds))
                start = draw(st.integers(0, len(other)))
                data[at:upto] = other[start : start + 40]
            case "swap":
                data[at:upto] = bytes(reversed(data[at:upto]))
    return bytes(data)


@pytest.mark.parametrize("name", sorted(targets()))
def test_whatever_the_bytes_a_parser_returns_or_refuses(name: str) -> None:
    target = targets()[name]

    @settings(max_examples=250, deadline=None, suppress_health_check=[HealthCheck.too_slow])
    @given(mutated(target.seeds) | st.binary(max_size=120))
    def fuzzed(data: bytes) -> None:
        attempt(target, data)

    fuzzed()


@pytest.mark.parametrize("name", sorted(targets()))
def test_what_is_well_formed_is_read(name: str) -> None:
    """So that the mutations begin near what the parser takes."""
    for seed in targets()[name].seeds:
        targets()[name].call(seed)
