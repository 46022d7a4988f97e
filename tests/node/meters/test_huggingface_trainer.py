"""The Trainer callback: tiny GPT-2, Llama and Mixtral built from configs, trained for real, counted exactly."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import pytest
from recording_gate import RecordingGate, eventually
from requirements import require

torch = require("torch")
transformers = require("transformers")
require("accelerate")

from pacekeeper.node.meters.huggingface import PacekeeperCallback  # noqa: E402
from pacekeeper.node.meters.torch_meter import parameters_digest  # noqa: E402

LAYERS, WIDTH, HIDDEN, VOCABULARY, BATCH, LENGTH = 2, 16, 32, 97, 2, 8
TOKENS = BATCH * LENGTH
ATTENTION = 12 * LAYERS * BATCH * LENGTH**2 * WIDTH


def gpt2() -> tuple[Any, int]:
    config = transformers.GPT2Config(
        vocab_size=VOCABULARY,
        n_positions=LENGTH,
        n_embd=WIDTH,
        n_layer=LAYERS,
        n_head=2,
        bos_token_id=0,
        eos_token_id=0,
    )
    return transformers.GPT2LMHeadModel(config), LAYERS * 12 * WIDTH * WIDTH + WIDTH * VOCABULARY


def llama() -> tuple[Any, int]:
    config = transformers.LlamaConfig(
        vocab_size=VOCABULARY,
        hidden_size=WIDTH,
        intermediate_size=HIDDEN,
        num_hidden_layers=LAYERS,
        num_attention_heads=2,
        num_key_value_heads=1,
        max_position_embeddings=LENGTH,
    )
    block = 2 * WIDTH * WIDTH + 2 * WIDTH * (WIDTH // 2) + 3 * WIDTH * HIDDEN
    return transformers.LlamaForCausalLM(config), LAYERS * block + WIDTH * VOCABULARY


def mixtral() -> tuple[Any, int]:
    """Two of four experts are active: what is executed counts."""
    config = transformers.MixtralConfig(
        vocab_size=VOCABULARY,
        hidden_size=WIDTH,
        intermediate_size=HIDDEN,
        num_hidden_layers=LAYERS,
        num_attention_heads=2,
        num_key_value_heads=1,
        num_local_experts=4,
        num_experts_per_tok=2,
        max_position_embeddings=LENGTH,
    )
    block = 2 * WIDTH * WIDTH + 2 * WIDTH * (WIDTH // 2) + WIDTH * 4 + 2 * 3 * WIDTH * HIDDEN
    return transformers.MixtralForCausalLM(config), LAYERS * block + WIDTH * VOCABULARY


def make_trainer(model: Any, directory: Path, **arguments: Any) -> Any:
    rows = [
        {
            "input_ids": torch.full((LENGTH,), row),
            "labels": torch.full((LENGTH,), row),
            "attention_mask": torch.ones(LENGTH),
        }
        for row in range(32)
    ]
    settings = {"max_steps": 5, "save_strategy": "no", **arguments}
    return transformers.Trainer(
        model=model,
        args=transformers.TrainingArguments(
            output_dir=str(directory),
            per_device_train_batch_size=BATCH,
            per_device_eval_batch_size=BATCH,
            use_cpu=True,
            report_to=[],
            disable_tqdm=True,
            logging_strategy="no",
            dataloader_pin_memory=False,
            **settings,
        ),
        train_dataset=rows,
        eval_dataset=rows[: 2 * BATCH],
    )


@pytest.mark.parametrize("build", [gpt2, llama, mixtral])
def test_one_added_line_counts_a_trainer_exactly(gate: RecordingGate, tmp_path: Path, build: Any) -> None:
    """SPEC metering-15: 6*N*T plus attention times five steps, masks and the Trainer's own wrapping included."""
    model, parameters = build()
    digest = parameters_digest(model)
    trainer = make_trainer(model, tmp_path)
    callback = PacekeeperCallback("run-1", chips=1, settings=gate.settings())
    trainer.add_callback(callback)
    trainer.train()
    book = gate.job
    assert (book.flop, book.steps) == (5 * (6 * parameters * TOKENS + ATTENTION), 5)
    assert (book.closed, callback.meter.complete) == (True, True)
    assert book.opening.initial_digest == digest


def test_accumulation_evaluation_and_checkpoints_are_accounted(gate: RecordingGate, tmp_path: Path) -> None:
    """SPEC metering-15: three passes per step and an evaluation's passes; every saved checkpoint has its digest."""
    model, parameters = gpt2()
    trainer = make_trainer(
        model, tmp_path, max_steps=2, gradient_accumulation_steps=3, eval_strategy="steps", eval_steps=2,
        save_strategy="steps", save_steps=1,
    )  # fmt: skip
    trainer.add_callback(PacekeeperCallback("run-1", settings=gate.settings()))
    trainer.train()
    training = 6 * parameters * TOKENS + ATTENTION
    assert (gate.job.flop, gate.job.steps) == (6 * training + 2 * training // 3, 2)
    assert len(gate.job.checkpoints) == 2
    assert parameters_digest(model) in gate.job.checkpoints


def test_a_held_trainer_saves_and_waits_before_its_next_step(gate: RecordingGate, tmp_path: Path) -> None:
    """SPEC metering-9: held at a step's end, it saves there and takes no further step until told to proceed."""
    model, _ = gpt2()
    trainer = make_trainer(model, tmp_path, max_steps=6)
    callback = PacekeeperCallback("run-1", settings=gate.settings())
    trainer.add_callback(callback)

    class HoldAtTwo(transformers.TrainerCallback):  # type: ignore[misc, name-defined]
        def on_optimizer_step(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
            if state.global_step == 1:
                gate.hold = "paused"
                eventually(lambda: callback.meter.held is not None, "the decision arrives")

    trainer.add_callback(HoldAtTwo())
    training = threading.Thread(target=trainer.train)
    training.start()
    eventually(lambda: bool(gate.jobs) and len(gate.job.checkpoints) == 1, "the Trainer saved")
    training.join(0.3)
    assert training.is_alive()
    assert gate.job.steps == 2
    assert (tmp_path / "checkpoint-2").is_dir()
    gate.hold = None
    training.join(30)
    assert (gate.job.steps, gate.job.closed) == (6, True)
