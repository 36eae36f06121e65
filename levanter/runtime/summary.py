"""What a person reads when a run has ended: how good the model is, what it writes, and what to try next."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console

from levanter.compiler.elastic import device_counts
from levanter.config import TrainConfig
from levanter.data import TokenData
from levanter.inference.generate import generate, sample_key
from levanter.runtime.command import Command

PROMPT = "The"
_DEVICES = 8
"""That a CPU is asked to stand in for."""
_OF_A_RUN = ("--run-dir", "--plan", "--profile", "--devices", "--coordinator", "--processes", "--process-id")
"""Options of `train` that `compile` has no use for, or not beside a mesh."""


def ended(
    console: Console,
    command: Command,
    config: TrainConfig,
    path: Path,
    tokens: TokenData,
    model: Any,
    heldout_loss: float | None,
    heldout: Sequence[tuple[np.ndarray, ...]],
) -> None:
    """Print the end of a run that has made all its steps. Losses are in nats per token.

    Args:
        command: what started it; the commands to try next are this one with other options.
    """
    if heldout_loss is not None:
        unigram = tokens.unigram_loss(heldout)
        _print(console, f"\nheld-out loss {heldout_loss:.4f} (perplexity {math.exp(heldout_loss):,.1f})")
        _print(console, f"unigram model {unigram:.4f} (perplexity {math.exp(unigram):,.1f}): token frequencies alone")
    if config.trainer.sample_tokens:
        _print(console, f"\nsample: {sample(model, tokens, config)}")
    _print(console, f"\nrun directory: {path} (config.yaml, metrics.jsonl, checkpoints/)")
    _print(console, "what to try next:")
    for line, does in next_commands(command, config, path):
        _print(console, f"  {line}\n      {does}")


def next_commands(command: Command, config: TrainConfig, path: Path) -> list[tuple[str, str]]:
    """Commands to try after this run, with what each does."""
    longer = command.text(trainer__num_train_steps=2 * config.trainer.num_train_steps, run_dir=f"{path}-longer")
    found = [(longer, "train for longer")]
    elastic = device_counts(config.trainer.virtual_shards) if config.trainer.elastic else None
    batch = config.trainer.train_batch_size
    if config.trainer.mesh is None and (spread := _spread(batch, elastic)):
        mesh, does = spread
        found.append((command.text(mesh=mesh, run_dir=f"{path}-{mesh}"), does))
    if elastic:
        planned = command.text("compile", leave_out=_OF_A_RUN, mesh=f"{elastic[-1]}")
        return [*found, (planned, f"how this model would be stored on {elastic[-1]} chips, and why")]
    if command.is_bare:
        planned = "levanter compile --model gpt2_small --mesh 8x4"
        return [*found, (planned, "how a larger model would be sharded over 32 chips, and why")]
    data = math.gcd(batch, 8)
    planned = command.text("compile", leave_out=_OF_A_RUN, mesh=f"{data}x4")
    return [*found, (planned, f"how this model would be sharded over {data * 4} chips, and why")]


def _spread(batch: int, elastic: Sequence[int] | None) -> tuple[str, str] | None:
    """A mesh for the machine at hand, and what the run would be on it; `elastic` are the numbers of devices that an
    elastic run can have."""
    if elastic is None:
        return f"{math.gcd(batch, 4)}x2", "the same run on a mesh of CPU devices"
    devices = max(each for each in elastic if each <= _DEVICES)
    return (f"{devices}", f"the same run on {devices} CPU devices, to the same bits") if devices > 1 else None


def stopped(console: Console, path: Path, step: int, num_train_steps: int) -> None:
    """Print that a run was asked to stop before its last step."""
    _print(console, f"stopped after step {step} of {num_train_steps}, saved in {path}/checkpoints/step-{step}")
    _print(console, "rerun the same command to resume from there")


def sample(model: Any, tokens: TokenData, config: TrainConfig) -> str:
    """A text that the model writes, with its prompt. The same model and seed give the same text."""
    prompt = tokens.tokenizer.encode(PROMPT) or [0]
    drawn = generate(
        model,
        prompt,
        config.trainer.sample_tokens,
        vocab_size=tokens.vocab_size,
        key=sample_key(config.trainer.seed),
    )
    return tokens.tokenizer.decode([*prompt, *drawn])


def _print(console: Console, text: str) -> None:
    # The text is the user's or the model's: rich must not read markup in it, nor wrap a command.
    console.print(text, markup=False, highlight=False, soft_wrap=True)
