"""Trains a small byte-level transformer on the Python standard library's sources with JAX, under the meter.

    python examples/jax_tiny_lm.py --run run-1 --seconds 20 --save first.npz
    python examples/jax_tiny_lm.py --run run-2 --steps 300 --init first.npz
    python examples/jax_tiny_lm.py --run run-3 --steps 300 --state run-3.npz --exit-on-hold

The same arguments give the same losses on the same machine. The meter finds the lab daemon by PACEKEEPER_SOCKET and
PACEKEEPER_SPOOL. Three lines belong to it: Meter.open, meter_step, meter.checkpoint.

While a pause holds the run, training stands still at a step boundary and goes on by itself when the pause ends. With
--state everything that the next step needs is saved before that, and a later call with the same --state goes on from
there, as if nothing had been between. With --exit-on-hold the program ends with status 75 once it has saved.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import sysconfig
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

# One thread, so that several jobs share a small machine fairly and a run repeats bit for bit.
os.environ.setdefault("XLA_FLAGS", "--xla_cpu_multi_thread_eigen=false intra_op_parallelism_threads=1")
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("JAX_PLATFORMS", "cpu")

import jax
import jax.numpy as jnp
import numpy as np

from pacekeeper.node.meters.jax_meter import meter_step, parameters_digest
from pacekeeper.node.meters.meter import Meter
from pacekeeper.protocol.errors import Refused

LAYERS, HEADS, WIDTH, CONTEXT, BATCH = 2, 4, 64, 64, 8
VOCABULARY = 256  # bytes
CORPUS_BYTES = 2_000_000
LEARNING_RATE, BETA_1, BETA_2, EPSILON = 3e-3, 0.9, 0.95, 1e-8
Parameters = dict[str, jax.Array]


def read_corpus() -> np.ndarray[Any, np.dtype[np.uint8]]:
    """The standard library's own modules, in the order of their names, up to CORPUS_BYTES."""
    text = bytearray()
    for path in sorted(Path(sysconfig.get_paths()["stdlib"]).glob("*.py")):
        text += path.read_bytes()
        if len(text) >= CORPUS_BYTES:
            break
    return np.frombuffer(bytes(text[:CORPUS_BYTES]), np.uint8)


def fresh_parameters(seed: int) -> Parameters:
    """Drawn at random; the layers of one kind are stacked, so that a scan runs over them."""
    shapes = {
        "embedding": (VOCABULARY, WIDTH),
        "position": (CONTEXT, WIDTH),
        "qkv": (LAYERS, WIDTH, 3 * WIDTH),
        "out": (LAYERS, WIDTH, WIDTH),
        "up": (LAYERS, WIDTH, 4 * WIDTH),
        "down": (LAYERS, 4 * WIDTH, WIDTH),
        "head": (WIDTH, VOCABULARY),
    }
    chance = np.random.default_rng(seed)  # NumPy draws at once; JAX would first compile a program per shape
    drawn = {name: chance.normal(0, shape[-2] ** -0.5, shape).astype(np.float32) for name, shape in shapes.items()}
    scales = {name: np.ones((LAYERS, WIDTH), np.float32) for name in ("scale_1", "scale_2")}
    parameters: Parameters = jax.device_put(drawn | scales)
    return parameters


def normalized(x: jax.Array, scale: jax.Array) -> jax.Array:
    return x * jax.lax.rsqrt(jnp.mean(x * x, axis=-1, keepdims=True) + 1e-6) * scale


def block(x: jax.Array, layer: Parameters) -> tuple[jax.Array, None]:
    batch, length, _ = x.shape
    heads = (normalized(x, layer["scale_1"]) @ layer["qkv"]).reshape(batch, length, 3, HEADS, WIDTH // HEADS)
    attended = jax.nn.dot_product_attention(heads[:, :, 0], heads[:, :, 1], heads[:, :, 2], is_causal=True)
    x = x + attended.reshape(batch, length, WIDTH) @ layer["out"]
    return x + jax.nn.gelu(normalized(x, layer["scale_2"]) @ layer["up"]) @ layer["down"], None


def loss_of(parameters: Parameters, text: jax.Array) -> jax.Array:
    """Mean cross-entropy, in nats per byte, of each next byte."""
    layers = {name: parameters[name] for name in ("qkv", "out", "up", "down", "scale_1", "scale_2")}
    x = parameters["embedding"][text[:, :-1]] + parameters["position"]
    x, _ = jax.lax.scan(block, x, layers)
    predicted = jax.nn.log_softmax(x @ parameters["head"])
    return -jnp.take_along_axis(predicted, text[:, 1:, None], axis=-1).mean()


def train_step(
    parameters: Parameters, first: Parameters, second: Parameters, number: jax.Array, text: jax.Array
) -> tuple[Parameters, Parameters, Parameters, jax.Array]:
    """One step of Adam; first and second are the running moments of the gradient."""
    loss, gradient = jax.value_and_grad(loss_of)(parameters, text)
    first = jax.tree.map(lambda m, g: BETA_1 * m + (1 - BETA_1) * g, first, gradient)
    second = jax.tree.map(lambda v, g: BETA_2 * v + (1 - BETA_2) * g * g, second, gradient)
    rate = LEARNING_RATE * jnp.sqrt(1 - BETA_2**number) / (1 - BETA_1**number)
    parameters = jax.tree.map(lambda p, m, v: p - rate * m / (jnp.sqrt(v) + EPSILON), parameters, first, second)
    return parameters, first, second, loss


def save(path: Path, parameters: Parameters) -> None:
    write_arrays(path, {name: np.asarray(value) for name, value in parameters.items()})


def load(path: Path) -> Parameters:
    with np.load(path) as arrays:
        return {name: jnp.asarray(arrays[name]) for name in arrays.files}


def write_arrays(path: Path, arrays: dict[str, Any]) -> None:
    """Write a file whole or not at all: training may be ended while it saves."""
    beside = path.with_name(f".{path.name}.{os.getpid()}")
    with beside.open("wb") as file:
        np.savez(file, **arrays)
    beside.replace(path)


@dataclass
class Training:
    """Everything that the next step depends on. number: steps taken."""

    parameters: Parameters
    first: Parameters
    second: Parameters
    chance: np.random.Generator
    number: int = 0
    drawn_from: str = ""

    def mark(self) -> None:
        """Remember where the dice stand before a step: a hold may come after its batch was drawn."""
        self.drawn_from = json.dumps(self.chance.bit_generator.state)

    def save(self, path: Path) -> None:
        kinds = {"parameters": self.parameters, "first": self.first, "second": self.second}
        arrays = {f"{kind}/{name}": np.asarray(value) for kind, tree in kinds.items() for name, value in tree.items()}
        write_arrays(path, {**arrays, "number": np.int64(self.number), "chance": np.array(self.drawn_from)})

    @classmethod
    def load(cls, path: Path) -> Training:
        chance = np.random.default_rng()
        with np.load(path) as arrays:
            trees = {
                kind: {
                    name.partition("/")[2]: jnp.asarray(arrays[name]) for name in arrays.files if name.startswith(kind)
                }
                for kind in ("parameters/", "first/", "second/")
            }
            chance.bit_generator.state = json.loads(str(arrays["chance"]))
            number = int(arrays["number"])
        return cls(trees["parameters/"], trees["first/"], trees["second/"], chance, number)

    @classmethod
    def begin(cls, parameters: Parameters, seed: int) -> Training:
        zeros = [jax.device_put({name: np.zeros_like(value) for name, value in parameters.items()}) for _ in range(2)]
        return cls(parameters, zeros[0], zeros[1], np.random.default_rng(seed))


class Held(Exception):
    """Training is held, and its state is saved."""


def train(options: argparse.Namespace) -> None:
    corpus = read_corpus()
    resumed = options.state is not None and options.state.exists()
    if resumed:
        training = Training.load(options.state)
    else:
        training = Training.begin(load(options.init) if options.init else fresh_parameters(options.seed), options.seed)

    def on_hold(reason: str) -> None:
        if options.state and training.number:
            training.save(options.state)
            meter.checkpoint(parameters_digest(training.parameters))
            print(f"{options.run} saved after step {training.number}", flush=True)
        print(f"{options.run} held after step {training.number}: {reason}", flush=True)
        if options.exit_on_hold and options.state:
            raise Held

    with Meter.open(
        options.run,
        initial_digest=parameters_digest(training.parameters),
        from_checkpoint=resumed or options.init is not None,
        chips=options.chips,
        title="byte-level language model on the Python standard library (JAX)",
        on_hold=on_hold,
    ) as meter:
        step = meter_step(meter, jax.jit(train_step, donate_argnums=(0, 1, 2)))
        begun = time.monotonic()
        while (options.steps is None or training.number < options.steps) and time.monotonic() - begun < options.seconds:
            number = training.number + 1
            training.mark()
            starts = training.chance.integers(0, len(corpus) - CONTEXT - 1, BATCH)
            text = np.stack([corpus[start : start + CONTEXT + 1] for start in starts]).astype(np.int32)
            training.parameters, training.first, training.second, loss = step(
                training.parameters, training.first, training.second, np.float32(number), text
            )
            loss.block_until_ready()
            training.number = number
            if number % 50 == 0 or number == 1:
                print(f"{options.run} step {number} loss {float(loss):.4f}", flush=True)
        if options.save:
            save(options.save, training.parameters)
            meter.checkpoint(parameters_digest(training.parameters))
        print(f"{options.run} ended after {training.number} steps, {meter.flop} FLOP", flush=True)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--run", required=True, help="the run's id, such as run-1")
    parser.add_argument("--seconds", type=float, default=float("inf"), help="end after so many seconds")
    parser.add_argument("--steps", type=int, help="end after so many steps")
    parser.add_argument("--init", type=Path, metavar="CHECKPOINT.npz", help="start from this checkpoint")
    parser.add_argument("--save", type=Path, metavar="CHECKPOINT.npz", help="save the parameters here at the end")
    parser.add_argument("--state", type=Path, metavar="STATE.npz", help="save here when held; go on from here if there")
    parser.add_argument("--exit-on-hold", action="store_true", help="end with status 75 once the state is saved")
    parser.add_argument("--chips", type=int, default=1, help="accelerators that this job occupies")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    if options.steps is None and options.seconds == float("inf"):
        parser.error("give --seconds or --steps")
    try:
        train(options)
    except Held:
        return 75
    except (ValueError, OSError, Refused) as error:
        print(f"{parser.prog}: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
