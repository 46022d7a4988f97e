"""A training loop under the meter, measured from within: what a step costs, and what of it is the meter's.

The meter's part is measured directly. In the training thread: the metered call around a step that does nothing, with
the model's real arguments, less the bare call. Beside it: the CPU of every thread that came to life when the meter was
opened (its recorder and courier, and any other), while training goes on.
"""

from __future__ import annotations

import os
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any, Final

from benchmarks.support.probes import Probes, thread_cpu_s, threads


@dataclass(frozen=True)
class Shape:
    """The model: a decoder-only transformer over bytes; and for how long it is measured."""

    layers: int
    width: int
    context: int
    batch: int
    seconds: float
    calls: int


SHAPES: Final = {
    "tiny": Shape(layers=1, width=32, context=16, batch=2, seconds=1.3, calls=200),
    "quick": Shape(layers=6, width=512, context=128, batch=2, seconds=6, calls=2_000),
    "full": Shape(layers=6, width=512, context=128, batch=4, seconds=30, calls=5_000),
}
VOCABULARY: Final = 256
_HEADS: Final = 8


def run_training(size: str, directory: Path) -> dict[str, Any]:
    """Train in this process with the gate in that directory, and return what was measured."""
    os.environ.setdefault("JAX_PLATFORMS", "cpu")
    import jax

    from pacekeeper.node.meters.jax_meter import meter_step
    from pacekeeper.node.meters.meter import Meter
    from pacekeeper.node.meters.settings import MeterSettings

    shape = SHAPES[size]
    parameters, step, text = _model(shape)
    parameters, loss = step(parameters, text)  # compiles, and starts the threads that compute
    loss.block_until_ready()
    probes = Probes(directory)
    probes.take()
    before = threads()
    settings = MeterSettings(directory / "gate.sock", directory / "spool")
    with Meter.open("run-1", settings=settings) as meter:
        metered = meter_step(meter, step)
        parameters, loss = metered(parameters, text)  # counts the operations, once for this shape
        loss.block_until_ready()
        beside = threads() - before
        first = _beside_s(beside)
        cpu, wall, steps = time.process_time(), time.perf_counter(), 0
        while time.perf_counter() - wall < shape.seconds:
            parameters, loss = metered(parameters, text)
            loss.block_until_ready()
            steps += 1
        wall_s = time.perf_counter() - wall
        spent = {name: seconds - first[name] for name, seconds in _beside_s(beside).items()}
        beside_s = sum(spent.values())
        step_s = time.process_time() - cpu - beside_s
        flop = meter.flop // meter.steps  # before the calls below, which are no steps of this model
        probes.take()
        call_us = _call_us(meter_step(meter, _nothing, steps=0), parameters, text, shape.calls)
        raw_step_us = _raw_step_us(meter, shape.calls)
    return {
        "parameters": sum(leaf.size for leaf in jax.tree.leaves(parameters)),
        "flop": flop,
        "steps": steps,
        "cores": len(os.sched_getaffinity(0)),
        "step_cpu_s": step_s / steps,
        "step_wall_s": wall_s / steps,
        "call_us": call_us,
        "raw_step_us": raw_step_us,
        "beside_us": beside_s / steps * 1e6,
        "beside_us_per_s": {name: seconds / wall_s * 1e6 for name, seconds in spent.items()},
        "raw": probes.said(),
    }


def _beside_s(beside: set[int]) -> dict[str, float]:
    """CPU seconds so far of the threads beside training: the meter's own two by name, and all others together."""
    named = {thread.native_id: thread.name for thread in threading.enumerate()}
    spent = {"pacekeeper-recorder": 0.0, "pacekeeper-courier": 0.0, "any other": 0.0}
    for thread in beside:
        name = named.get(thread, "any other")
        spent[name if name in spent else "any other"] += thread_cpu_s(thread)
    return spent


def _nothing(parameters: Any, text: Any) -> Any:
    """A step that does nothing; what surrounds it is then all that is measured."""


def _call_us(metered: Any, parameters: Any, text: Any, calls: int) -> float:
    """CPU us that the meter adds to a call, medians of groups of calls with and without it in turn."""
    metered(parameters, text)
    added = []
    for _ in range(10):
        with_meter, without = (_calls_us(call, parameters, text, calls // 10) for call in (metered, _nothing))
        added.append(with_meter - without)
    return median(added)


def _calls_us(call: Any, parameters: Any, text: Any, calls: int) -> float:
    start = time.thread_time_ns()
    for _ in range(calls):
        call(parameters, text)
    return (time.thread_time_ns() - start) / calls / 1000


def _raw_step_us(meter: Any, calls: int) -> float:
    """CPU us of Meter.step itself, which the three-line loop calls."""
    start = time.thread_time_ns()
    for _ in range(calls):
        meter.step(0)
    return (time.thread_time_ns() - start) / calls / 1000


def _model(shape: Shape) -> tuple[Any, Any, Any]:
    """Fresh parameters, one jitted step of gradient descent, and a batch of text."""
    import jax
    import jax.numpy as jnp
    import numpy as np

    width, layers = shape.width, shape.layers
    shapes = {
        "embedding": (VOCABULARY, width),
        "qkv": (layers, width, 3 * width),
        "out": (layers, width, width),
        "up": (layers, width, 4 * width),
        "down": (layers, 4 * width, width),
        "head": (width, VOCABULARY),
    }
    chance = np.random.default_rng(0)
    parameters = jax.device_put(
        {name: chance.normal(0, size[-2] ** -0.5, size).astype(np.float32) for name, size in shapes.items()}
    )

    def normalized(x: Any) -> Any:
        return x * jax.lax.rsqrt(jnp.mean(x * x, axis=-1, keepdims=True) + 1e-6)

    def block(x: Any, layer: Any) -> Any:
        heads = (normalized(x) @ layer["qkv"]).reshape(*x.shape[:2], 3, _HEADS, width // _HEADS)
        seen = jax.nn.dot_product_attention(heads[:, :, 0], heads[:, :, 1], heads[:, :, 2], is_causal=True)
        x = x + seen.reshape(x.shape) @ layer["out"]
        return x + jax.nn.gelu(normalized(x) @ layer["up"]) @ layer["down"], None

    def loss_of(parameters: Any, text: Any) -> Any:
        x = parameters["embedding"][text[:, :-1]]
        x, _ = jax.lax.scan(block, x, {name: parameters[name] for name in ("qkv", "out", "up", "down")})
        predicted = jax.nn.log_softmax(x @ parameters["head"])
        return -jnp.take_along_axis(predicted, text[:, 1:, None], axis=-1).mean()

    def step(parameters: Any, text: Any) -> Any:
        loss, gradient = jax.value_and_grad(loss_of)(parameters, text)
        return jax.tree.map(lambda p, g: p - 1e-3 * g, parameters, gradient), loss

    text = jax.device_put(chance.integers(0, VOCABULARY, (shape.batch, shape.context + 1)).astype(np.int32))
    return parameters, jax.jit(step), text
