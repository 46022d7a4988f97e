"""The jaxpr walk against arithmetic: exact for plain, scanned and rematerialised models, else incomplete."""

from __future__ import annotations

import threading
from typing import Any

import pytest
from analytic_flop import GptShape
from recording_gate import RecordingGate, eventually
from requirements import require

jax = require("jax")
np = require("numpy")
jnp = jax.numpy

from pacekeeper.node.meters.jax_meter import count_flop, meter_step, parameters_digest  # noqa: E402
from pacekeeper.node.meters.meter import Meter  # noqa: E402

SHAPE = GptShape(layers=3, width=16, hidden=48, vocabulary=50, batch=2, length=8)
HEADS = 2


def parameters() -> dict[str, Any]:
    keys = jax.random.split(jax.random.key(0), 8)
    d, h, n = SHAPE.width, SHAPE.hidden, SHAPE.layers
    return {
        "embedding": jax.random.normal(keys[0], (SHAPE.vocabulary, d)),
        "head": jax.random.normal(keys[1], (d, SHAPE.vocabulary)),
        "qkv": jax.random.normal(keys[2], (n, d, 3 * d)),
        "out": jax.random.normal(keys[3], (n, d, d)),
        "up": jax.random.normal(keys[4], (n, d, h)),
        "down": jax.random.normal(keys[5], (n, h, d)),
    }


def block(x: Any, layer: dict[str, Any]) -> Any:
    batch, length, width = x.shape
    q, k, v = jnp.split((x @ layer["qkv"]).reshape(batch, length, HEADS, -1), 3, axis=-1)
    x = x + jax.nn.dot_product_attention(q, k, v, is_causal=True).reshape(batch, length, width) @ layer["out"]
    return x + jax.nn.gelu(x @ layer["up"]) @ layer["down"]


def loss(params: dict[str, Any], tokens: Any, *, scanned: bool, body: Any) -> Any:
    layers = {name: params[name] for name in ("qkv", "out", "up", "down")}
    x = params["embedding"][tokens]
    if scanned:
        x, _ = jax.lax.scan(lambda carry, layer: (body(carry, layer), None), x, layers)
    else:
        for index in range(SHAPE.layers):
            x = body(x, {name: value[index] for name, value in layers.items()})
    logits = jax.nn.log_softmax(x @ params["head"])
    return -jnp.take_along_axis(logits, tokens[..., None], axis=-1).mean()


TOKENS = np.zeros((SHAPE.batch, SHAPE.length), np.int32)


@pytest.mark.parametrize("scanned", [False, True])
@pytest.mark.parametrize("jitted", [False, True])
def test_a_gpt_counts_as_arithmetic_says(scanned: bool, jitted: bool) -> None:
    """SPEC metering-15: 6*N*T plus attention, exactly, scanned or not."""

    def step(params: Any, tokens: Any) -> Any:
        return jax.value_and_grad(lambda p: loss(p, tokens, scanned=scanned, body=block))(params)

    count = count_flop(jax.jit(step) if jitted else step, parameters(), TOKENS)
    assert count.flop == SHAPE.training()
    assert count.complete
    assert count.unknown == {}
    assert count.by_primitive["dot_general"] > 0
    assert count.by_primitive["exp"] > 0  # element-wise work is listed


@pytest.mark.parametrize("scanned", [False, True])
def test_rematerialised_blocks_count_their_second_forward_pass(scanned: bool) -> None:
    """SPEC metering-15: what is recomputed is counted again, but for what the compiler finds unneeded in the graph."""
    body = jax.checkpoint(block)
    count = count_flop(jax.grad(lambda p: loss(p, TOKENS, scanned=scanned, body=body)), parameters())
    # Nothing that the backward pass does not need is recomputed: a block's last product is not.
    recomputed = SHAPE.block_forward() - 2 * SHAPE.tokens * SHAPE.hidden * SHAPE.width
    assert count.flop == SHAPE.training() + SHAPE.layers * recomputed
    assert count.complete


def test_a_forward_pass_counts_its_products_only() -> None:
    count = count_flop(lambda p: loss(p, TOKENS, scanned=True, body=block), parameters())
    assert count.flop == SHAPE.forward()


def test_xla_counts_a_scanned_layer_once_and_this_does_not() -> None:
    """Why there is a walk of our own: the compiler's figure for the same function."""
    function = jax.jit(lambda p: loss(p, TOKENS, scanned=True, body=block))
    analysis = function.lower(parameters()).compile().cost_analysis()
    assert analysis["flops"] < 0.8 * SHAPE.forward()
    assert count_flop(function, parameters()).flop == SHAPE.forward()


def test_products_of_every_form_cost_twice_their_multiplications() -> None:
    a, b = jnp.ones((5, 7)), jnp.ones((7, 11))
    assert count_flop(jnp.matmul, a, b).flop == 2 * 5 * 7 * 11
    assert count_flop(jnp.dot, jnp.ones(9), jnp.ones(9)).flop == 2 * 9
    assert count_flop(lambda x, y: jnp.einsum("bij,bkj->bik", x, y), jnp.ones((3, 4, 5)), jnp.ones((3, 6, 5))).flop == (
        2 * 3 * 4 * 5 * 6
    )
    assert count_flop(jax.vmap(jnp.matmul), jnp.ones((3, 5, 7)), jnp.ones((3, 7, 11))).flop == 3 * 2 * 5 * 7 * 11


@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("padding", ["SAME", "VALID"])
@pytest.mark.parametrize("groups", [1, 2])
def test_a_convolution_and_its_two_gradients_cost_the_same(stride: int, padding: str, groups: int) -> None:
    """SPEC metering-15: the zeros that a gradient's dilation puts in are no operands."""
    image, kernel = jnp.ones((2, 4, 12, 12)), jnp.ones((6, 4 // groups, 3, 3))

    def convolve(x: Any, w: Any) -> Any:
        return jax.lax.conv_general_dilated(x, w, (stride, stride), padding, feature_group_count=groups)

    side = convolve(image, kernel).shape[-1]
    forward = 2 * 2 * 6 * side * side * (4 // groups) * 9
    assert count_flop(convolve, image, kernel).flop == forward
    assert count_flop(jax.vjp(convolve, image, kernel)[1], jnp.ones((2, 6, side, side))).flop == 2 * forward


def test_a_loop_of_known_length_counts_and_one_of_unknown_length_is_incomplete() -> None:
    """SPEC metering-16: a while loop's products are counted for one round and the count says it is incomplete."""
    a = jnp.ones((4, 4))
    known = count_flop(lambda x: jax.lax.fori_loop(0, 5, lambda i, c: c @ x, x), a)
    assert (known.flop, known.complete) == (5 * 2 * 4**3, True)
    unknown = count_flop(lambda x: jax.lax.while_loop(lambda c: c.sum() < 5, lambda c: c @ x, x), a)
    assert (unknown.flop, unknown.complete) == (2 * 4**3, False)
    assert "while" in unknown.unknown
    harmless = count_flop(lambda x: jax.lax.while_loop(lambda c: c.sum() < 5, lambda c: c + 1, x), a)
    assert harmless.complete


def test_of_the_branches_of_a_condition_the_largest_counts() -> None:
    a = jnp.ones((4, 4))
    count = count_flop(lambda x: jax.lax.cond(x.sum() > 0, lambda c: c @ c @ c, lambda c: c @ c, x), a)
    assert count.flop == 2 * 2 * 4**3


def test_nested_functions_are_walked() -> None:
    """SPEC metering-15: jit, custom gradients, remat and a scan within a scan."""
    a = jnp.ones((4, 4))

    @jax.custom_vjp  # type: ignore[untyped-decorator]
    def square(x: Any) -> Any:
        return x @ x

    square.defvjp(lambda x: (x @ x, x), lambda x, g: (g @ x.T + x.T @ g,))

    @jax.custom_jvp  # type: ignore[untyped-decorator]
    def cube(x: Any) -> Any:
        return x @ x @ x

    cube.defjvp(lambda primals, tangents: (cube(*primals), tangents[0]))
    assert count_flop(square, a).flop == 2 * 4**3
    assert count_flop(jax.grad(lambda x: square(x).sum()), a).flop == 3 * 2 * 4**3
    assert count_flop(jax.jit(jax.jit(cube)), a).flop == 2 * 2 * 4**3

    def inner(c: Any, _: Any) -> Any:
        return jax.lax.scan(lambda d, _: (d @ a, None), c, None, length=3)[0], None

    assert count_flop(lambda x: jax.lax.scan(inner, x, None, length=5)[0], a).flop == 15 * 2 * 4**3


def test_a_sharded_function_counts_all_its_devices() -> None:
    mesh = jax.sharding.Mesh(np.array(jax.devices()[:1]), ("x",))
    spec = jax.sharding.PartitionSpec()
    sharded = jax.shard_map(lambda x: x @ x, mesh=mesh, in_specs=spec, out_specs=spec)
    count = count_flop(sharded, jnp.ones((4, 4)))
    assert (count.flop, count.complete) == (2 * 4**3, True)


def test_an_operation_without_a_formula_is_listed_and_a_large_one_makes_the_count_incomplete() -> None:
    """SPEC metering-16: unknown is never zero."""
    small = count_flop(jnp.linalg.cholesky, jnp.ones((4, 4)))
    assert (small.unknown, small.complete) == ({"cholesky": 1}, True)
    large = count_flop(jnp.linalg.cholesky, jnp.ones((256, 256)))
    assert (large.unknown, large.complete) == ({"cholesky": 1}, False)
    assert "cholesky" in large.reasons[0]


def test_a_metered_step_counts_once_per_shape_and_then_only_adds(gate: RecordingGate) -> None:
    """SPEC metering-15: traced once for each set of shapes and dtypes; SPEC metering-3: the daemon has the sum."""
    traced = []

    def step(x: Any, scale: float) -> Any:
        traced.append(x.shape)
        return (x @ x) * scale

    with Meter.open("run-1", settings=gate.settings()) as meter:
        metered = meter_step(meter, step)
        evaluate = meter_step(meter, step, steps=0)
        for number in range(10):
            metered(np.ones((4, 4), np.float32), float(number))
        assert len(traced) == 11  # ten calls and one count
        metered(np.ones((8, 8), np.float32), 1.0)
        evaluate(np.ones((4, 4), np.float32), 1.0)
        assert metered(np.ones((2, 2), np.float32), 3.0).tolist() == [[6, 6], [6, 6]]
    assert (gate.job.flop, gate.job.steps) == (11 * 2 * 4**3 + 2 * 8**3 + 2 * 2**3, 12)


def test_arrays_of_one_type_count_by_their_shape_and_dtype(gate: RecordingGate) -> None:
    """SPEC metering-15: JAX's arrays, NumPy's and numbers, in any order, once their types are known."""
    with Meter.open("run-1", settings=gate.settings()) as meter:
        metered = meter_step(meter, lambda x, scale: (x @ x) * scale)
        for size in (2, 3, 2):
            for x in (jnp.ones((size, size)), np.ones((size, size), np.float32), jnp.ones((size, size), jnp.int32)):
                for scale in (2.0, jnp.ones(()), np.float32(2)):
                    metered(x, scale)
        assert meter.flop == 9 * (2 * 2**3 + 2 * 3**3 + 2 * 2**3)


def test_static_arguments_choose_their_own_count(gate: RecordingGate) -> None:
    def step(x: Any, rounds: int) -> Any:
        for _ in range(rounds):
            x = x @ x
        return x

    jitted = jax.jit(step, static_argnums=1)
    with Meter.open("run-1", settings=gate.settings()) as meter:
        metered = meter_step(meter, jitted, static_argnums=1)
        metered(np.ones((4, 4), np.float32), 1)
        metered(np.ones((4, 4), np.float32), 3)
        assert meter.flop == 4 * 2 * 4**3


def test_an_incomplete_step_is_noted(gate: RecordingGate) -> None:
    """SPEC metering-16: the job says that its count is incomplete."""
    with Meter.open("run-1", settings=gate.settings()) as meter:
        meter_step(meter, jax.jit(jnp.linalg.cholesky))(np.eye(256, dtype=np.float32))
        assert not meter.complete


def test_a_trees_digest_names_leaves_by_their_path() -> None:
    """SPEC metering-14: "a/b" as one key and as two keys are two names."""
    one = parameters_digest({"a": {"b": jnp.ones(2)}})
    assert one == parameters_digest({"a": {"b": np.ones(2, np.float32)}})
    assert one != parameters_digest({"a/b": jnp.ones(2)})
    assert one != parameters_digest({"a": [jnp.ones(2)]})


def test_a_held_step_can_save_the_state_that_the_last_one_returned(gate: RecordingGate) -> None:
    """SPEC metering-21: the call waits before it begins, so the checkpoint lacks nothing that was computed."""
    saved: list[float] = []
    state = jnp.zeros(())
    with Meter.open("run-1", on_hold=lambda _: saved.append(float(state)), settings=gate.settings()) as meter:
        step = meter_step(meter, jax.jit(lambda x: x + 1))
        for _ in range(3):
            state = step(state)
        gate.hold = "paused"
        eventually(lambda: meter.held is not None, "the decision arrives")
        lifting = threading.Timer(0.3, lambda: setattr(gate, "hold", None))
        lifting.start()
        state = step(state)
        lifting.join()
    assert (saved, float(state), gate.job.steps) == ([3.0], 4.0, 4)
