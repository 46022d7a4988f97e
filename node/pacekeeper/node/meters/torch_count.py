"""Counts one forward pass of a PyTorch module, with its backward pass, without computing anything.

The module runs once on tensors that have shapes and no elements: on the meta device, or, where its code asks for an
element, under fake tensors of the real device. Its parameters are replaced for the call and the random generator is
not touched; forward hooks of its own run and see such tensors.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import fields, is_dataclass
from typing import Any, Final

import torch
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map_only
from torch.utils.flop_counter import FlopCounterMode

from pacekeeper.node.meters.flop_count import FlopCount, Tally
from pacekeeper.node.meters.torch_operations import FORMULAS, is_free
from pacekeeper.protocol.text import printable

# What a module's own code may raise when its tensors have no elements.
_CANNOT: Final = (RuntimeError, TypeError, ValueError, AttributeError, LookupError, ArithmeticError, AssertionError)


def count_module(module: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any], *, backward: bool) -> FlopCount:
    """Return what one call of the module executes, and its backward pass if asked for and possible.

    SPEC metering-15: the count is what the graph executes for these shapes: frozen parameters get no gradient product,
    recomputed activations count again. What cannot be run without elements gives an incomplete count, never zero.
    """
    why = ""
    for attempt in (_on_meta, _with_fakes, _with_half_fakes):
        try:
            with _quiet():
                return attempt(module, args, kwargs, backward)
        except _CANNOT as error:
            why = why or printable(f"{type(error).__name__}: {error}", 200)
    return FlopCount(0, reasons=(f"{type(module).__name__} cannot be run without elements ({why})",))


def _on_meta(module: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any], backward: bool) -> FlopCount:
    return _run(module, args, kwargs, backward, lambda tensor: torch.empty_like(tensor, device="meta"))


def _with_fakes(module: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any], backward: bool) -> FlopCount:
    """For a module that asks for an element, or a kernel without a meta form: fake tensors know more."""
    with FakeTensorMode(allow_non_fake_inputs=True) as mode:
        return _run(module, args, kwargs, backward, mode.from_tensor)


def _with_half_fakes(module: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any], backward: bool) -> FlopCount:
    """For kernels whose shape rule, unlike the kernel, takes bfloat16 alone (grouped products): the count is equal."""

    def halved(tensor: Any) -> Any:
        return tensor.to(torch.bfloat16) if tensor.is_floating_point() else tensor

    with FakeTensorMode(allow_non_fake_inputs=True) as mode:
        return _run(module, args, kwargs, backward, lambda tensor: halved(mode.from_tensor(tensor)))


def _run(
    module: Any,
    args: tuple[Any, ...],
    kwargs: Mapping[str, Any],
    backward: bool,
    convert: Callable[[Any], Any],
) -> FlopCount:
    def shadow(tensor: Any) -> Any:
        empty = convert(tensor.detach())
        return empty.requires_grad_() if backward and tensor.requires_grad else empty

    state = {name: shadow(tensor) for name, tensor in (*module.named_parameters(), *module.named_buffers())}
    shadow_args, shadow_kwargs = tree_map_only(torch.Tensor, shadow, (args, dict(kwargs)))
    tally = Tally()
    counter = FlopCounterMode(display=False, custom_mapping=FORMULAS)
    with ExitStack() as stack:
        stack.enter_context(_plain_attention())
        stack.enter_context(torch.set_grad_enabled(backward))
        stack.enter_context(_Listing(tally, counter))  # below the counter, so that it sees what the counter executes
        stack.enter_context(counter)
        output = torch.func.functional_call(module, state, shadow_args, shadow_kwargs)
        if backward:
            _backward(output, tally, any(tensor.requires_grad for tensor in state.values()))
    tally.flop = counter.get_total_flops()
    return tally.result()


def _backward(output: Any, tally: Tally, trainable: bool) -> None:
    loss = output.get("loss") if isinstance(output, Mapping) else getattr(output, "loss", None)
    if isinstance(loss, torch.Tensor) and loss.requires_grad:
        ends = [loss]
    else:
        ends = [tensor for tensor in _tensors(output) if tensor.requires_grad and tensor.is_floating_point()]
    if ends:
        torch.autograd.backward(ends, [torch.empty_like(tensor) for tensor in ends])
    elif trainable:
        tally.fail("the module's output has no tensor to go back from")


def _tensors(value: Any) -> Iterator[Any]:
    for leaf in tree_leaves(value):
        if isinstance(leaf, torch.Tensor):
            yield leaf
        elif is_dataclass(leaf) and not isinstance(leaf, type):
            for item in fields(leaf):
                yield from _tensors(getattr(leaf, item.name))


@contextmanager
def _plain_attention() -> Iterator[None]:
    """Switch off the fused inference path of nn.TransformerEncoderLayer, which is one operation without a formula."""
    was = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        yield
    finally:
        torch.backends.mha.set_fastpath_enabled(was)


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep torch from logging an attempt that fails and is followed by another."""
    logger = logging.getLogger("torch._subclasses.fake_tensor")
    was = logger.level
    logger.setLevel(logging.CRITICAL + 1)
    try:
        yield
    finally:
        logger.setLevel(was)


class _Listing(TorchDispatchMode):  # type: ignore[misc]
    """Lists every operation that is executed, and those that are neither free nor have a formula."""

    def __init__(self, tally: Tally, counter: Any) -> None:
        super().__init__()
        self._tally, self._counter = tally, counter

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        name = str(func).removesuffix(".default")
        if func._overloadpacket in self._counter.flop_registry or is_free(func):
            if func.namespace != "prim":
                self._tally.count(name)
            return result
        sizes = [leaf.numel() for leaf in tree_leaves((args, kwargs, result)) if isinstance(leaf, torch.Tensor)]
        self._tally.miss(name, max(sizes, default=0))
        return result
