"""Trains a small byte-level transformer on the Python standard library's sources with PyTorch, under the meter.

    pacekeeper lab run ... -- python examples/torch_tiny_lm.py --run run-1 --seconds 20 --save first.pt

The training loop has no line for the meter: install() before it hooks in, and checkpoint() after it records what was
saved. The meter finds the lab daemon by PACEKEEPER_SOCKET and PACEKEEPER_SPOOL.
"""

from __future__ import annotations

import argparse
import os
import sys
import sysconfig
import time
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")  # so that several jobs share a small machine fairly, and repeat exactly

import torch
from torch import nn

from pacekeeper.node.meters.torch_meter import TorchMeter, install
from pacekeeper.protocol.errors import Refused

LAYERS, HEADS, WIDTH, CONTEXT, BATCH = 2, 4, 64, 64, 8
VOCABULARY = 256  # bytes
CORPUS_BYTES = 2_000_000


def read_corpus() -> Any:
    """The standard library's own modules, in the order of their names, up to CORPUS_BYTES."""
    text = bytearray()
    for path in sorted(Path(sysconfig.get_paths()["stdlib"]).glob("*.py")):
        text += path.read_bytes()
        if len(text) >= CORPUS_BYTES:
            break
    return torch.frombuffer(text[:CORPUS_BYTES], dtype=torch.uint8).long()


class Block(nn.Module):  # type: ignore[misc]
    def __init__(self) -> None:
        super().__init__()
        self.norm_1, self.norm_2 = nn.LayerNorm(WIDTH), nn.LayerNorm(WIDTH)
        self.qkv, self.out = nn.Linear(WIDTH, 3 * WIDTH), nn.Linear(WIDTH, WIDTH)
        self.up, self.down = nn.Linear(WIDTH, 4 * WIDTH), nn.Linear(4 * WIDTH, WIDTH)

    def forward(self, x: Any) -> Any:
        heads = self.qkv(self.norm_1(x)).unflatten(-1, (3, HEADS, -1)).permute(2, 0, 3, 1, 4)
        attended = nn.functional.scaled_dot_product_attention(*heads, is_causal=True)
        x = x + self.out(attended.transpose(1, 2).flatten(2))
        return x + self.down(nn.functional.gelu(self.up(self.norm_2(x))))


class LanguageModel(nn.Module):  # type: ignore[misc]
    def __init__(self) -> None:
        super().__init__()
        self.embedding, self.position = nn.Embedding(VOCABULARY, WIDTH), nn.Embedding(CONTEXT, WIDTH)
        self.blocks = nn.Sequential(*(Block() for _ in range(LAYERS)))
        self.head = nn.Linear(WIDTH, VOCABULARY, bias=False)

    def forward(self, text: Any) -> Any:
        x = self.embedding(text) + self.position.weight[: text.shape[1]]
        return self.head(self.blocks(x))


def train(model: Any, options: argparse.Namespace) -> None:
    """An ordinary training loop, as it would be without the meter."""
    corpus = read_corpus()
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3, betas=(0.9, 0.95))
    chance = torch.Generator().manual_seed(options.seed)
    begun = time.monotonic()
    number = 0
    while (options.steps is None or number < options.steps) and time.monotonic() - begun < options.seconds:
        number += 1
        starts = torch.randint(0, len(corpus) - CONTEXT - 1, (BATCH, 1), generator=chance)
        text = corpus[starts + torch.arange(CONTEXT + 1)]
        loss = nn.functional.cross_entropy(model(text[:, :-1]).flatten(0, 1), text[:, 1:].flatten())
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        if number % 50 == 0 or number == 1:
            print(f"{options.run} step {number} loss {loss.item():.4f}", flush=True)


def run(options: argparse.Namespace) -> None:
    torch.set_num_threads(1)
    torch.manual_seed(options.seed)
    model = LanguageModel()
    if options.init:
        model.load_state_dict(torch.load(options.init, weights_only=True))
    hooks: TorchMeter = install(
        options.run,
        from_checkpoint=options.init is not None,
        chips=options.chips,
        title="byte-level language model on the Python standard library (PyTorch)",
    )
    with hooks:
        train(model, options)
        if options.save:
            torch.save(model.state_dict(), options.save)
            hooks.checkpoint(model)
        print(f"{options.run} ended after {hooks.meter.steps} steps, {hooks.meter.flop} FLOP", flush=True)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--run", required=True, help="the run's id, such as run-1")
    parser.add_argument("--seconds", type=float, default=float("inf"), help="end after so many seconds")
    parser.add_argument("--steps", type=int, help="end after so many steps")
    parser.add_argument("--init", type=Path, metavar="CHECKPOINT.pt", help="start from this checkpoint")
    parser.add_argument("--save", type=Path, metavar="CHECKPOINT.pt", help="save the parameters here at the end")
    parser.add_argument("--chips", type=int, default=1, help="accelerators that this job occupies")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    if options.steps is None and options.seconds == float("inf"):
        parser.error("give --seconds or --steps")
    try:
        run(options)
    except (ValueError, OSError, Refused) as error:
        print(f"{parser.prog}: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
