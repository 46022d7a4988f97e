"""Sealed figures: commit, prove and verify, over the scalar multiplications that they need.

A scalar multiplication of libsodium is nearly all that this costs, so it is the floor: the multiplications of one
operation are counted, and its CPU time is read against as many raw ones, timed in the same run.
"""

from __future__ import annotations

import ctypes
import hashlib
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from statistics import median
from typing import Any, Final

from benchmarks.support.figures import Figure, Figures
from benchmarks.support.probes import Probes
from pacekeeper.protocol.sealed import inner_product, pedersen, prove, sodium, verify
from pacekeeper.protocol.sealed.generators import blinding_base, vectors
from pacekeeper.protocol.sealed.transcript import bound
from pacekeeper.protocol.sealed.verify import Claim

VERIFY_BOUND: Final = 1.25
BATCH_BOUND: Final = 1.6
PROVE_BOUND: Final = 1.3
_ABOUT: Final = partial(bound, b"benchmark", b"a figure")


@dataclass(frozen=True)
class Config:
    """repeats: of each operation, in turn with raw multiplications; batch: proofs verified together."""

    repeats: int
    batch: int = 64


TINY: Final = Config(repeats=1, batch=2)
QUICK: Final = Config(repeats=3)
FULL: Final = Config(repeats=9)


@dataclass(frozen=True)
class _Cost:
    """One operation: CPU milliseconds, the multiplications in it, and what as many raw ones cost at that moment."""

    ms: float
    multiplications: int
    floor_ms: float

    @property
    def ratio(self) -> float:
        return self.ms / self.floor_ms


def measure(config: Config) -> Figures:
    """Make and check proofs of one value of 64 bits."""
    probes = Probes()
    vectors(64, 1), blinding_base()  # made once a process
    draw = _stream()
    claims = [_claim(draw, value) for value in range(config.batch)]
    assert verify.verify(claims[0])
    operations: dict[str, Callable[[], Any]] = {
        "verify": lambda: verify.verify(claims[0]),
        f"verify {config.batch} together": lambda: verify.failing(claims),
        "prove": lambda: _claim(draw, 12_345),
        "commit": lambda: pedersen.commit(12_345, 2**251 + 1),
    }
    found: dict[str, list[_Cost]] = {name: [] for name in operations}
    for _ in range(config.repeats):
        probes.take()
        for name, operation in operations.items():
            found[name].append(_cost(operation, 20 if name == "commit" else 1))
    bounds = {"commit": None, "prove": PROVE_BOUND, "verify": VERIFY_BOUND}
    raw_us = median(cost.floor_ms / cost.multiplications * 1_000 for costs in found.values() for cost in costs)
    raw = f"scalar multiplication {raw_us:.0f} us, {probes.verify_said()}"
    rows = []
    for name, costs in found.items():
        middle = sorted(costs, key=lambda cost: cost.ratio)[len(costs) // 2]
        note = f"{median(cost.ms for cost in costs):.3g} ms, {middle.multiplications} multiplications"
        rows.append(Figure(name, middle.ratio, "of its multiplications", raw, bounds.get(name, BATCH_BOUND), note=note))
    return Figures("sealed", "one process, one thread", tuple(rows))


def _claim(draw: Callable[[int], bytes], value: int) -> Claim:
    commitments, proof = prove.prove(_ABOUT(), [value], [sodium.wide_scalar(draw(64))], draw)
    return Claim(_ABOUT, tuple(commitments), proof)


def _stream() -> Callable[[int], bytes]:
    count = 0

    def draw(length: int) -> bytes:
        nonlocal count
        count += 1
        return hashlib.shake_128(count.to_bytes(8, "big")).digest(length)

    return draw


def _cost(operation: Callable[[], Any], repeats: int) -> _Cost:
    """Time an operation between two stretches of raw multiplications, and count its own."""
    multiplications = _count(operation)
    before = _raw_us()
    start = time.thread_time_ns()
    for _ in range(repeats):
        operation()
    ms = (time.thread_time_ns() - start) / repeats / 1e6
    raw_us = (before + _raw_us()) / 2
    return _Cost(ms, multiplications, multiplications * raw_us / 1_000)


def _raw_us(count: int = 200) -> float:
    """CPU microseconds of libsodium's own function, with nothing around it."""
    point, scalar, target = blinding_base(), bytes([7] * 31 + [1]), ctypes.create_string_buffer(32)
    function = sodium._library().crypto_scalarmult_ristretto255
    start = time.thread_time_ns()
    for _ in range(count):
        function(target, scalar, point)
    return (time.thread_time_ns() - start) / count / 1_000


def _count(operation: Callable[[], Any]) -> int:
    """Run an operation once and count its multiplications, those of the base point among them."""
    count = 0
    kept = {name: getattr(sodium, name) for name in ("multiply", "multiply_base")}

    def counting(function: Callable[..., bytes]) -> Callable[..., bytes]:
        def counted(*args: Any) -> bytes:
            nonlocal count
            count += 1
            return function(*args)

        return counted

    places = [
        (module, name)
        for module in (sodium, pedersen, inner_product, prove, verify)
        for name in kept
        if hasattr(module, name)
    ]
    for module, name in places:
        setattr(module, name, counting(kept[name]))
    try:
        operation()
    finally:
        for module, name in places:
            setattr(module, name, kept[name])
    return count
