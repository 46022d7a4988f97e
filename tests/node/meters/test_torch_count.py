"""The count of a PyTorch module against arithmetic: exact for attention of every kind, frozen parts, recomputation."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from analytic_flop import GptShape
from requirements import require

torch = require("torch")
nn = torch.nn

from pacekeeper.node.meters.torch_count import count_module  # noqa: E402

SHAPE = GptShape(layers=2, width=16, hidden=48, vocabulary=50, batch=2, length=8)
HEADS = 2
TOKENS = torch.zeros((SHAPE.batch, SHAPE.length), dtype=torch.long)


def manual_attention(q: Any, k: Any, v: Any) -> Any:
    scores = (q @ k.transpose(-1, -2)).masked_fill(torch.ones(q.shape[-2], q.shape[-2]).triu(1).bool(), float("-inf"))
    return scores.softmax(-1) @ v


def fused_attention(q: Any, k: Any, v: Any) -> Any:
    return nn.functional.scaled_dot_product_attention(q, k, v, is_causal=True)


def reading_attention(q: Any, k: Any, v: Any) -> Any:
    """As some models do: asks its mask for an element, which the meta device does not have."""
    mask = torch.ones(q.shape[-2], q.shape[-2], dtype=torch.bool, device=q.device).tril()
    if q.device.type == "meta":
        mask[0, 0].item()
    return nn.functional.scaled_dot_product_attention(q, k, v, attn_mask=mask)


class Block(nn.Module):  # type: ignore[misc, name-defined]
    def __init__(self, attention: Callable[..., Any]) -> None:
        super().__init__()
        d = SHAPE.width
        self.attention = attention
        self.qkv = nn.Linear(d, 3 * d)
        self.out = nn.Linear(d, d)
        self.up = nn.Linear(d, SHAPE.hidden)
        self.down = nn.Linear(SHAPE.hidden, d)
        self.first, self.second = nn.LayerNorm(d), nn.LayerNorm(d)

    def forward(self, x: Any) -> Any:
        heads = self.qkv(self.first(x)).unflatten(-1, (3, HEADS, -1)).permute(2, 0, 3, 1, 4)
        x = x + self.out(self.attention(*heads).transpose(1, 2).flatten(2))
        return x + self.down(nn.functional.gelu(self.up(self.second(x))))


class Gpt(nn.Module):  # type: ignore[misc, name-defined]
    def __init__(self, attention: Callable[..., Any] = fused_attention, recompute: bool | None = None) -> None:
        super().__init__()
        self.recompute = recompute
        self.embedding = nn.Embedding(SHAPE.vocabulary, SHAPE.width)
        self.blocks = nn.ModuleList(Block(attention) for _ in range(SHAPE.layers))
        self.head = nn.Linear(SHAPE.width, SHAPE.vocabulary, bias=False)

    def forward(self, tokens: Any) -> Any:
        x = self.embedding(tokens)
        for block in self.blocks:
            if self.recompute is None:
                x = block(x)
            else:
                x = torch.utils.checkpoint.checkpoint(block, x, use_reentrant=self.recompute)
        return self.head(x)


@pytest.mark.parametrize("attention", [manual_attention, fused_attention, reading_attention])
def test_a_gpt_counts_as_arithmetic_says(attention: Callable[..., Any]) -> None:
    """SPEC metering-15: 6*N*T plus attention, exactly, whichever kernel runs it and wherever it can be counted."""
    count = count_module(Gpt(attention), (TOKENS,), {}, backward=True)
    assert count.flop == SHAPE.training()
    assert count.complete
    assert count.unknown == {}
    assert count.by_primitive["aten.gelu"] == SHAPE.layers  # element-wise work is listed
    assert count_module(Gpt(attention), (), {"tokens": TOKENS}, backward=False).flop == SHAPE.forward()


def test_counting_touches_neither_parameters_nor_gradients_nor_the_random_generator() -> None:
    model = nn.Sequential(nn.Linear(4, 4), nn.BatchNorm1d(4), nn.Dropout(0.5), nn.Linear(4, 4))
    before = {name: value.clone() for name, value in model.state_dict().items()}
    generator = torch.get_rng_state()
    assert count_module(model, (torch.ones(8, 4),), {}, backward=True).flop == 2 * 8 * 16 * (2 + 3)
    assert torch.equal(torch.get_rng_state(), generator)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert all(parameter.grad is None for parameter in model.parameters())


def test_multi_head_attention_and_encoder_layers_count() -> None:
    """SPEC metering-15: torch's own attention modules, training and evaluating (its fused path included)."""
    shape = GptShape(layers=1, width=16, hidden=48, vocabulary=0, batch=2, length=8)
    x = torch.ones(2, 8, 16, requires_grad=True)
    layer = nn.TransformerEncoderLayer(16, HEADS, 48, batch_first=True)
    assert count_module(layer, (x,), {}, backward=True).flop == shape.training()
    evaluated = count_module(layer.eval(), (x.detach(),), {}, backward=False)
    assert (evaluated.flop, evaluated.complete) == (shape.forward(), True)
    attention = nn.MultiheadAttention(16, HEADS, batch_first=True)
    parts = count_module(attention, (x, x, x), {"need_weights": False}, backward=True)
    assert parts.flop == 6 * 4 * 16 * 16 * 16 + 12 * 2 * 8 * 8 * 16


def test_frozen_parts_get_no_gradient_products() -> None:
    """SPEC metering-15: a frozen weight costs no gradient of its own; below the last trained one, nothing goes back."""
    model = Gpt()
    for parameter in model.parameters():
        parameter.requires_grad_(False)
    assert count_module(model, (TOKENS,), {}, backward=True).flop == SHAPE.forward()
    model.head.weight.requires_grad_(True)
    head = 2 * SHAPE.width * SHAPE.vocabulary * SHAPE.tokens
    assert count_module(model, (TOKENS,), {}, backward=True).flop == SHAPE.forward() + head
    model.blocks[-1].down.weight.requires_grad_(True)
    down = 2 * SHAPE.width * SHAPE.hidden * SHAPE.tokens
    assert count_module(model, (TOKENS,), {}, backward=True).flop == SHAPE.forward() + 2 * head + down


def test_low_rank_adapters_count_their_own_products() -> None:
    class Adapted(nn.Module):  # type: ignore[misc, name-defined]
        def __init__(self) -> None:
            super().__init__()
            self.base = nn.Linear(32, 32, bias=False).requires_grad_(False)
            self.a, self.b = nn.Linear(32, 4, bias=False), nn.Linear(4, 32, bias=False)

        def forward(self, x: Any) -> Any:
            return self.base(x) + self.b(self.a(x))

    small = 2 * 10 * 32 * 4
    count = count_module(Adapted(), (torch.ones(10, 32),), {}, backward=True)
    # The input needs no gradient: the base has no backward product at all, a has one, b has two.
    assert count.flop == 2 * 10 * 32 * 32 + small * 2 + small * 1 + small * 2


@pytest.mark.parametrize("reentrant", [False, True])
def test_recomputed_blocks_count_again(reentrant: bool) -> None:
    """SPEC metering-15: a checkpointed block's second forward pass is work."""
    model = Gpt(recompute=reentrant)
    count = count_module(model, (TOKENS,), {}, backward=True)
    # Without re-entry torch stops a recomputation once it has what the backward pass needs: before the last product.
    unneeded = 0 if reentrant else 2 * SHAPE.tokens * SHAPE.hidden * SHAPE.width
    assert count.flop == SHAPE.training() + SHAPE.layers * (SHAPE.block_forward() - unneeded)
    assert count.complete


@pytest.mark.parametrize("groups", [1, 2])
@pytest.mark.parametrize("transposed", [False, True])
def test_a_convolution_and_its_two_gradients_cost_the_same(groups: int, transposed: bool) -> None:
    """SPEC metering-15: also in groups, where torch's own formula counts the weight's gradient once per group."""
    kind = nn.ConvTranspose2d if transposed else nn.Conv2d
    convolution = kind(4, 6, 3, stride=2, groups=groups)
    x = torch.ones(2, 4, 11, 11, requires_grad=True)
    side = 11 if transposed else convolution(x).shape[-1]
    forward = 2 * 2 * 4 * 6 // groups * 9 * side * side
    assert count_module(convolution, (x,), {}, backward=False).flop == forward
    assert count_module(convolution, (x,), {}, backward=True).flop == 3 * forward


def test_a_recurrent_network_counts_its_products() -> None:
    lstm = nn.LSTM(8, 16, batch_first=True)
    count = count_module(lstm, (torch.ones(2, 5, 8),), {}, backward=False)
    assert (count.flop, count.complete) == (2 * 2 * 5 * 4 * 16 * (8 + 16), True)


def test_grouped_expert_products_count() -> None:
    """SPEC metering-15: torch's own counter has no formula for them."""

    class Experts(nn.Module):  # type: ignore[misc, name-defined]
        def __init__(self) -> None:
            super().__init__()
            self.weight = nn.Parameter(torch.ones(4, 16, 32, dtype=torch.bfloat16))

        def forward(self, x: Any, ends: Any) -> Any:
            return torch._grouped_mm(x, self.weight, offs=ends)

    x = torch.ones(64, 16, dtype=torch.bfloat16, requires_grad=True)
    ends = torch.tensor([16, 32, 48, 64], dtype=torch.int32)
    assert count_module(Experts(), (x, ends), {}, backward=False).flop == 2 * 64 * 16 * 32
    assert count_module(Experts(), (x, ends), {}, backward=True).flop == 3 * 2 * 64 * 16 * 32


class Spectrum(nn.Module):  # type: ignore[misc, name-defined]
    def forward(self, x: Any) -> Any:
        return torch.linalg.qr(x)[0]


def test_an_operation_without_a_formula_is_listed_and_a_large_one_makes_the_count_incomplete() -> None:
    """SPEC metering-16: unknown is never zero."""
    small = count_module(Spectrum(), (torch.ones(4, 4),), {}, backward=False)
    assert (dict(small.unknown), small.complete) == ({"aten.linalg_qr": 1}, True)
    large = count_module(Spectrum(), (torch.ones(256, 256),), {}, backward=False)
    assert not large.complete
    assert "linalg_qr" in large.reasons[0]


def test_a_module_that_cannot_run_without_elements_is_incomplete() -> None:
    """SPEC metering-16."""

    class Reading(nn.Module):  # type: ignore[misc, name-defined]
        def forward(self, x: Any) -> Any:
            return x[: int(x.sum().item())]

    count = count_module(Reading(), (torch.ones(4),), {}, backward=False)
    assert not count.complete
    assert "Reading cannot be run without elements" in count.reasons[0]


def test_torchs_own_counter_misses_attention_on_the_cpu() -> None:
    """Why there are formulas of our own: the same model under the unextended counter, run for real."""
    from torch.utils.flop_counter import FlopCounterMode

    model = Gpt()
    with FlopCounterMode(display=False) as counter:
        model(TOKENS).sum().backward()
    assert counter.get_total_flops() == SHAPE.training() - 12 * SHAPE.layers * SHAPE.batch * SHAPE.length**2 * (
        SHAPE.width
    )
