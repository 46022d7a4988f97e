"""The meter for JAX: counts a step function's operations by walking its jaxpr, then only adds integers.

    step = meter_step(meter, jax.jit(train_step))
    state = step(state, batch)

The count is made once per structure, shapes and dtypes of the arguments. A scanned body counts times its length; XLA's
own cost analysis counts it once. specs/metering.md has the convention.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from functools import wraps
from math import prod
from typing import Any, Final, ParamSpec, TypeVar

import jax
from jax.extend import core

from pacekeeper.node.meters.digest import join_path, tensors_digest
from pacekeeper.node.meters.flop_count import FlopCount, Tally
from pacekeeper.node.meters.jax_primitives import FREE, SUBROUTINES
from pacekeeper.node.meters.meter import Meter

_P = ParamSpec("_P")
_R = TypeVar("_R")
_BY_VALUE: Final = (str, bytes, type(None))  # arguments that choose what is traced; numbers are traced by their type


def count_flop(
    fn: Callable[..., Any], *args: Any, static_argnums: int | Sequence[int] = (), **kwargs: Any
) -> FlopCount:
    """Return what one call of fn with these arguments executes. Nothing is computed; shapes and dtypes suffice."""
    closed = jax.make_jaxpr(fn, static_argnums=static_argnums)(*args, **kwargs)
    tally = Tally()
    _walk(closed.jaxpr, tally, 1)
    return tally.result()


def meter_step(
    meter: Meter, step_fn: Callable[_P, _R], *, static_argnums: int | Sequence[int] = (), steps: int = 1
) -> Callable[_P, _R]:
    """Return step_fn with each call counted as so many optimizer steps (0: an evaluation) of the meter's job.

    A call waits before it begins while training is held: what the caller holds then is the state to save.
    """
    counts: dict[Any, int] = {}
    static = {static_argnums} if isinstance(static_argnums, int) else set(static_argnums)

    @wraps(step_fn)
    def metered(*args: _P.args, **kwargs: _P.kwargs) -> _R:
        key = _signature(args, kwargs, static)
        flop = counts.get(key)
        if flop is None:
            count = count_flop(step_fn, *args, static_argnums=static_argnums, **kwargs)
            for reason in count.reasons:
                meter.note_uncounted(f"JAX: {reason}")
            flop = counts[key] = count.flop
        if steps:
            meter.wait()
        result = step_fn(*args, **kwargs)
        meter.add(flop)
        for _ in range(steps):
            meter.count_step()
        return result

    return metered


def parameters_digest(tree: Any) -> bytes:
    """Return the canonical digest of a pytree of arrays, each named by its path."""
    leaves, _ = jax.tree_util.tree_flatten_with_path(tree)
    tensors = {join_path(tuple(_token(key) for key in path)): leaf for path, leaf in leaves}
    if len(tensors) != len(leaves):
        raise ValueError("two leaves of the tree have one path")
    return tensors_digest(tensors)


def _token(key: Any) -> str:
    for attribute in ("key", "idx", "name"):
        if hasattr(key, attribute):
            return str(getattr(key, attribute))
    return str(key)


def _signature(args: tuple[Any, ...], kwargs: dict[str, Any], static: set[int]) -> Any:
    fixed = tuple(args[index] for index in static) if static else ()
    traced = tuple([x for i, x in enumerate(args) if i not in static]) if static else args
    leaves, structure = jax.tree_util.tree_flatten((traced, kwargs))
    # This is all that a step costs training: a model's hundreds of arrays are told by their type, not by isinstance.
    return fixed, structure, tuple([leaf.aval if type(leaf) in _arrays else _kind(leaf) for leaf in leaves])


_arrays: set[type] = set()  # the types that were seen to be arrays of JAX, which isinstance is slow to say


def _kind(leaf: Any) -> Any:
    if isinstance(leaf, jax.Array):
        _arrays.add(type(leaf))
        return leaf.aval
    if hasattr(leaf, "dtype"):
        return leaf.shape, leaf.dtype
    return leaf if isinstance(leaf, _BY_VALUE) else type(leaf)


def _walk(jaxpr: Any, tally: Tally, times: int) -> None:
    for eqn in jaxpr.eqns:
        name = eqn.primitive.name
        if name == "dot_general":
            tally.count(name, _dot_general(eqn), times)
        elif name == "conv_general_dilated":
            tally.count(name, _convolution(eqn), times)
        elif name == "scan":
            tally.count(name, 0, times)
            _walk(_open(eqn.params["jaxpr"]), tally, times * eqn.params["length"])
        elif name == "while":
            _while(eqn, tally, times)
        elif name == "cond":
            tally.count(name, 0, times)
            _cond(eqn, tally, times)
        elif name == "shard_map":
            # The body is one device's part; every device of the axes it is split over runs it.
            tally.count(name, 0, times)
            sizes = dict(eqn.params["mesh"].shape)
            devices = prod(sizes[axis] for axis in eqn.params.get("newly_manual_axes", sizes))
            _walk(_open(eqn.params["jaxpr"]), tally, times * devices)
        elif name in SUBROUTINES:
            tally.count(name, 0, times)
            _walk(_open(eqn.params[SUBROUTINES[name]]), tally, times)
        elif name in FREE:
            tally.count(name, 0, times)
        else:
            _unknown(eqn, tally, times)


def _open(jaxpr: Any) -> Any:
    return jaxpr.jaxpr if isinstance(jaxpr, core.ClosedJaxpr) else jaxpr


def _dot_general(eqn: Any) -> int:
    """2*B*M*N*K: twice the output's elements times the contracted length."""
    (contracted, _), _ = eqn.params["dimension_numbers"]
    left = eqn.invars[0].aval.shape
    return 2 * int(prod(eqn.outvars[0].aval.shape)) * int(prod(left[axis] for axis in contracted))


def _convolution(eqn: Any) -> int:
    """Twice the products of a convolution: per spatial axis, as many window positions as output or input has, if fewer.

    So a convolution and its two gradients cost the same, as they do mathematically: the zeros that a gradient's
    dilation and padding put in are no operands.
    """
    left, right = (operand.aval.shape for operand in eqn.invars)
    output = eqn.outvars[0].aval.shape
    numbers = eqn.params["dimension_numbers"]
    positions = prod(
        min(left[axis], output[out_axis])
        for axis, out_axis in zip(numbers.lhs_spec[2:], numbers.out_spec[2:], strict=True)
    )
    window = prod(right[axis] for axis in numbers.rhs_spec[1:])
    return 2 * int(output[numbers.out_spec[0]] * output[numbers.out_spec[1]] * positions * window)


def _cond(eqn: Any, tally: Tally, times: int) -> None:
    """Count the branch with the most operations: which one runs is not in the jaxpr."""
    branches = []
    for branch in eqn.params["branches"]:
        inner = Tally()
        _walk(_open(branch), inner, times)
        branches.append(inner)
    most = max(branches, key=lambda inner: inner.flop)
    tally.flop += most.flop
    tally.by_primitive.update(most.by_primitive)
    for inner in branches:
        tally.unknown.update(inner.unknown)
        for reason in inner.reasons:
            tally.fail(reason)


def _while(eqn: Any, tally: Tally, times: int) -> None:
    """Count one round; how many there are is not in the jaxpr, so a round that counts makes the count incomplete."""
    inner = Tally()
    _walk(_open(eqn.params["cond_jaxpr"]), inner, times)
    _walk(_open(eqn.params["body_jaxpr"]), inner, times)
    tally.flop += inner.flop
    tally.by_primitive.update(inner.by_primitive)
    tally.unknown.update(inner.unknown)
    tally.unknown["while"] += times
    tally.count("while", 0, times)
    if inner.flop:
        tally.fail("a while loop of unknown length has products in it")
    for reason in inner.reasons:
        tally.fail(reason)


def _unknown(eqn: Any, tally: Tally, times: int) -> None:
    name = eqn.primitive.name
    sizes = [prod(getattr(item.aval, "shape", ())) for item in (*eqn.invars, *eqn.outvars)]
    tally.miss(name, int(max(sizes, default=0)), times)
    for inner in _inner_jaxprs(eqn.params.values()):
        hidden = Tally()
        _walk(inner, hidden, times)
        if hidden.flop or hidden.reasons:
            tally.fail(f"{name} runs products that have no formula")


def _inner_jaxprs(values: Iterable[Any]) -> Iterable[Any]:
    for value in values:
        if isinstance(value, core.ClosedJaxpr | core.Jaxpr):
            yield _open(value)
        elif isinstance(value, tuple | list):
            yield from _inner_jaxprs(value)
