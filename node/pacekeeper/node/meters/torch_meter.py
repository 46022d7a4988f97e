"""The meter for PyTorch, with no edit of the training loop.

    install("run-1", chips=8)         # before training; everything after is as it was

Global hooks see the outermost module of every forward pass and every optimizer step. A pass is counted once per
module, shapes, dtypes, trainable set and mode, on tensors without elements; from then on a pass adds one integer.

Every forward pass is counted: with gradients enabled and something to train, its backward pass too, whether or not it
is taken; under no_grad (an evaluation) the forward pass alone. An optimizer step is a step.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable
from types import TracebackType
from typing import Any, Final

import torch
from torch.nn.modules.module import register_module_forward_pre_hook
from torch.optim.optimizer import register_optimizer_step_post_hook
from torch.utils._pytree import tree_flatten

from pacekeeper.node.meters.digest import tensors_digest
from pacekeeper.node.meters.meter import Meter
from pacekeeper.node.meters.torch_count import count_module

_RELIST_EVERY: Final = 128  # passes until a module's parameters are listed again: adapters may have been added
_PLAIN: Final = (int, float, bool, str, bytes, type(None))
# Optimizers whose step is element-wise; another may run matrix products of its own (Muon, Shampoo).
_ELEMENTWISE_OPTIMIZERS: Final = frozenset(
    {"ASGD", "Adadelta", "Adafactor", "Adagrad", "Adam", "AdamW", "Adamax", "NAdam", "RAdam", "RMSprop", "Rprop", "SGD"}
    | {"SparseAdam", "Lion", "LARS", "LAMB"}
)


def parameters_digest(module: Any) -> bytes:
    """Return the canonical digest of a module's parameters and persistent buffers, by their names in state_dict()."""
    return tensors_digest({name: value for name, value in module.state_dict().items() if torch.is_tensor(value)})


def attach(meter: Meter, *, wait: bool = True) -> TorchMeter:
    """Count every forward pass and optimizer step of this process for a meter's job, until close() or detach().

    wait: an optimizer step waits while training is held. Without it the caller asks meter.held and meter.wait().
    """
    return TorchMeter(lambda module: meter, meter, wait=wait)


def install(run: str, *, initial_digest: bytes | None = None, **opening: Any) -> TorchMeter:
    """As attach, with a meter of its own, opened at the first forward pass that trains something.

    Unless initial_digest is given, the digest of the model's parameters at that moment is the run's initial state.
    Further arguments are Meter.open's.
    """

    def open_meter(module: Any) -> Meter:
        digest = initial_digest if initial_digest is not None else parameters_digest(_unwrapped(module))
        return Meter.open(run, initial_digest=digest, **opening)

    return TorchMeter(open_meter, None, wait=True)


class TorchMeter:
    """The hooks of one job. A context manager; close() ends the job."""

    def __init__(self, open_meter: Callable[[Any], Meter], meter: Meter | None, *, wait: bool) -> None:
        self._open_meter = open_meter
        self._meter = meter
        self._wait = wait
        self._passes: weakref.WeakKeyDictionary[Any, _Passes] = weakref.WeakKeyDictionary()
        self._root: Any = None
        self._detached = False
        self._flop = 0  # counted and not yet handed to the meter
        self._reasons: list[str] = []
        self._counted = False  # since the last optimizer step
        self._counting = False
        self._optimizers: set[type] = set()
        self._watch: Any = register_module_forward_pre_hook(self._before_forward)
        self._step_handle: Any = register_optimizer_step_post_hook(self._after_step)

    @property
    def meter(self) -> Meter:
        """The meter. RuntimeError while nothing was trained yet."""
        if self._meter is None:
            raise RuntimeError("no training step was seen yet, so no job is open")
        return self._meter

    def checkpoint(self, module: Any) -> None:
        """Record that the module's present parameters were saved as a checkpoint."""
        self.meter.checkpoint(parameters_digest(_unwrapped(module)))

    def detach(self) -> None:
        """Remove the hooks; the meter stays open."""
        self._detached = True
        self._watch.remove()
        self._step_handle.remove()
        for passes in self._passes.values():
            passes.handle.remove()
        self._passes.clear()

    def close(self) -> None:
        """Remove the hooks and end the job."""
        self.detach()
        if self._meter is not None:
            self._meter.close()

    def __enter__(self) -> TorchMeter:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _before_forward(self, module: Any, args: Any) -> None:
        # A module called from within a backward pass recomputes what its root's count includes already.
        if torch.compiler.is_compiling() or self._root is not None or torch._C._current_graph_task_id() != -1:
            return
        if module not in self._passes:
            self._passes[module] = _Passes(module, self._after_forward)
        # The hook is off until the outermost module is done: inner modules pay nothing, and compile as without it.
        self._root = module
        self._watch.remove()

    def _rearm(self) -> None:
        if self._root is not None:
            self._root = None
            if not self._detached:
                self._watch = register_module_forward_pre_hook(self._before_forward)

    def _after_forward(self, module: Any, args: tuple[Any, ...], kwargs: dict[str, Any], output: Any) -> None:
        if module is not self._root or self._counting:
            return
        try:
            if output is not None:  # a pass that raised is not counted: it has no end to measure
                self._count(module, args, kwargs)
        finally:
            self._rearm()

    def _count(self, module: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        passes = self._passes[module]
        key = passes.key(args, kwargs)
        flop = passes.counts.get(key)
        if flop is None:
            self._counting = True
            try:
                count = count_module(_unwrapped(module), args, kwargs, backward=torch.is_grad_enabled())
            finally:
                self._counting = False
            flop = passes.counts[key] = count.flop
            self._reasons.extend(count.reasons)
        self._flop += flop
        self._counted = True
        if self._meter is None and torch.is_grad_enabled() and passes.trains():
            self._meter = self._open_meter(module)
        if self._meter is not None:
            self._hand_over(self._meter)

    def _hand_over(self, meter: Meter) -> None:
        """Give the meter what was counted, evaluations before its opening included.

        SPEC metering-18: what was not counted goes first, so that no figure is on its way without it.
        """
        while self._reasons:
            meter.note_uncounted(f"PyTorch: {self._reasons.pop(0)}")
        meter.add(self._flop)
        self._flop = 0

    def _after_step(self, optimizer: Any, args: Any, kwargs: Any) -> None:
        self._rearm()  # a forward pass that was interrupted never reached its end
        meter = self._meter
        if meter is None:
            return
        if not self._counted:
            meter.note_uncounted("PyTorch: an optimizer step without a forward pass that was seen")
        self._counted = False
        if type(optimizer) not in self._optimizers:
            self._optimizers.add(type(optimizer))
            if type(optimizer).__name__ not in _ELEMENTWISE_OPTIMIZERS:
                meter.note_uncounted(f"PyTorch: the optimizer {type(optimizer).__name__} may run products of its own")
        meter.count_step()
        if self._wait:
            meter.wait()


class _Passes:
    """What is known of one outermost module: its counts by shape, and the hook at its end."""

    def __init__(self, module: Any, after: Callable[..., None]) -> None:
        self.counts: dict[Any, int] = {}
        self.handle = module.register_forward_hook(after, with_kwargs=True, always_call=True)
        self._module = weakref.ref(module)
        self._parameters: list[Any] = []
        self._passes = 0

    def key(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """All that a count depends on."""
        module = self._module()
        if self._passes % _RELIST_EVERY == 0:
            self._parameters = [weakref.ref(item) for item in module.parameters()] if module is not None else []
        self._passes += 1
        leaves, structure = tree_flatten((args, kwargs))
        kinds = tuple(
            (leaf.shape, leaf.dtype, leaf.requires_grad)
            if isinstance(leaf, torch.Tensor)
            else (leaf if isinstance(leaf, _PLAIN) else type(leaf))
            for leaf in leaves
        )
        trainable = tuple(item is not None and item.requires_grad for item in (ref() for ref in self._parameters))
        return structure, kinds, trainable, torch.is_grad_enabled(), module is not None and module.training

    def trains(self) -> bool:
        """Whether any parameter of the module is trained."""
        return any(item is not None and item.requires_grad for item in (ref() for ref in self._parameters))


def _unwrapped(module: Any) -> Any:
    """The user's module inside what torch.compile and data parallelism wrap around it."""
    while True:
        if hasattr(module, "_orig_mod"):
            module = module._orig_mod
        elif isinstance(module, torch.nn.DataParallel | torch.nn.parallel.DistributedDataParallel):
            module = module.module
        else:
            return module
