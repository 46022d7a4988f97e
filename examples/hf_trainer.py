"""Trains a tiny GPT-2, built from a config, with a Hugging Face Trainer. One line is added for the meter.

    pacekeeper lab run ... -- python examples/hf_trainer.py --run run-1 --steps 50

The text is the Python standard library's own sources, as bytes; nothing is downloaded. The meter finds the lab daemon
by PACEKEEPER_SOCKET and PACEKEEPER_SPOOL.
"""

from __future__ import annotations

import argparse
import sys
import sysconfig
import tempfile
from pathlib import Path
from typing import Any

import torch
from transformers import GPT2Config, GPT2LMHeadModel, Trainer, TrainingArguments

from pacekeeper.node.meters.huggingface import PacekeeperCallback
from pacekeeper.protocol.errors import Refused

CONTEXT, BATCH, CORPUS_BYTES = 64, 8, 1_000_000


def read_rows() -> list[dict[str, Any]]:
    """The standard library's own modules, in the order of their names, cut into rows of CONTEXT bytes."""
    text = b"".join(path.read_bytes() for path in sorted(Path(sysconfig.get_paths()["stdlib"]).glob("*.py")))
    tokens = torch.tensor(list(text[:CORPUS_BYTES]))
    return [{"input_ids": row, "labels": row} for row in tokens[: len(tokens) // CONTEXT * CONTEXT].split(CONTEXT)]


def train(run: str, steps: int, output: str, seed: int) -> None:
    torch.manual_seed(seed)
    config = GPT2Config(
        vocab_size=256, n_positions=CONTEXT, n_embd=64, n_layer=2, n_head=4, bos_token_id=0, eos_token_id=0
    )
    trainer = Trainer(
        model=GPT2LMHeadModel(config),
        args=TrainingArguments(
            output_dir=output,
            max_steps=steps,
            per_device_train_batch_size=BATCH,
            learning_rate=3e-3,
            logging_steps=10,
            save_strategy="steps",
            save_steps=steps,
            seed=seed,
            use_cpu=True,
            report_to=[],
            dataloader_pin_memory=False,
        ),
        train_dataset=read_rows(),
    )
    trainer.add_callback(PacekeeperCallback(run))  # the one added line
    trainer.train()


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--run", required=True, help="the run's id, such as run-1")
    parser.add_argument("--steps", type=int, default=50)
    parser.add_argument("--output", help="directory for checkpoints; a temporary one by default")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    try:
        with tempfile.TemporaryDirectory() as scratch:
            train(options.run, options.steps, options.output or scratch, options.seed)
    except (ValueError, OSError, Refused) as error:
        print(f"{parser.prog}: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
