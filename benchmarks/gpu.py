"""Tokens a second and MFU of a training step on one GPU, ours beside a plain `torch.compile` step of the same model.

    python benchmarks/gpu.py                        GPT-2 small and LLaMA 3.2 1B in bf16, under 8 minutes
    python benchmarks/gpu.py --models gpt2_small    one of them; any configuration of GPT-2 or LLaMA, by name
    python benchmarks/gpu.py --tiny                 the same at a size for a CPU, in a minute: it tests this script

It needs JAX and PyTorch, both with CUDA. Every measurement is a process of its own, so that each has all of the card's
memory, and they follow each other in one call, so that all are of the same card. Both sides keep float32 parameters and
moments, compute in bf16, use flash attention, clip the gradient, use AdamW, and recompute nothing in the backward pass.
MFU counts 6 FLOPs a parameter and token, and 12 · layers · heads · head_size · position for attention (PaLM, Chowdhery
et al., 2022, appendix B, which counts the half that a causal mask leaves out too), over the card's dense bf16 peak.

Prints a table and writes benchmarks/results/gpu-DATE.json. No GPU was at hand when this was written: the figures of a
card are in benchmarks/results/ only where someone has run it there.
"""

from __future__ import annotations

import argparse
import dataclasses
import datetime
import json
import os
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

RESULTS = Path(__file__).parent / "results"
SIDES = ("ours", "torch.compile")
PEAKS = {"H100": 989e12, "H200": 989e12, "A100": 312e12}
"""Dense bf16 FLOP/s by a part of the card's name."""
SHAPES = {"gpt2_small": (1024, 32), "llama3_1b": (2048, 4)}
"""Places of a sequence and sequences of a batch."""
TINY = ("--model.num_layers=2", "--model.hidden_dim=64", "--model.num_heads=4", "--model.vocab_size=384")
TINY_LLAMA = ("--model.num_kv_heads=2", "--model.head_dim=16", "--model.intermediate_dim=96")
WARM_UP, ROUNDS = 3, 5


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--models", nargs="+", default=list(SHAPES))
    parser.add_argument("--seconds", type=float, default=10.0, help="of each measurement, after compiling")
    parser.add_argument("--steps", type=int, help="of each round; left out: as many as fill --seconds in all")
    parser.add_argument("--limit", type=float, default=460.0, help="seconds of all together; what is left out is said")
    parser.add_argument("--tiny", action="store_true", help="a size for a CPU")
    parser.add_argument("--out", type=Path, help="the file of results; left out: benchmarks/results/gpu-DATE.json")
    parser.add_argument("--side", choices=SIDES, help=argparse.SUPPRESS)  # of the processes that measure
    options = parser.parse_args()
    if options.side:
        measure = ours if options.side == "ours" else theirs
        print(json.dumps(measure(options.models[0], options.seconds, options.steps, options.tiny)))
        return
    end = time.monotonic() + options.limit
    rows = [measured(options, model, side, end) for model in options.models for side in SIDES]
    print(table(rows))
    path = options.out or RESULTS / f"gpu-{datetime.date.today().isoformat()}.json"
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps({"command": " ".join(["python", *sys.argv]), "rows": rows}, indent=1) + "\n")
    print(f"written to {path}")
    if any("error" in row for row in rows):
        sys.exit(1)


def measured(options: argparse.Namespace, model: str, side: str, end: float) -> dict[str, Any]:
    """What a process of its own finds, or what went wrong there."""
    row = {"model": model, "side": side}
    command = [sys.executable, __file__, "--models", model, "--side", side, "--seconds", str(options.seconds)]
    command += ["--steps", str(options.steps)] if options.steps else []
    left = end - time.monotonic()
    if left < 5:
        return {**row, "error": "no time left"}
    try:
        done = subprocess.run(
            [*command, *(["--tiny"] if options.tiny else [])], capture_output=True, text=True, timeout=left
        )
    except subprocess.TimeoutExpired:
        return {**row, "error": "no time left"}
    if done.returncode:
        print(done.stderr, file=sys.stderr)
        return {**row, "error": (done.stderr.strip().splitlines() or ["failed"])[-1]}
    return {**row, **json.loads(done.stdout.splitlines()[-1])}


def configured(model: str, tiny: bool) -> tuple[Any, int]:
    """The configuration of a model here, and the sequences of a batch."""
    from levanter.config import load

    length, batch = (32, 2) if tiny else SHAPES.get(model, (1024, 8))
    dtype = "float32" if tiny else "bfloat16"
    overrides = [f"--model.seq_len={length}", f"--trainer.train_batch_size={batch}", f"--model.compute_dtype={dtype}"]
    small = [*TINY, *(() if model.startswith("gpt2") else TINY_LLAMA)] if tiny else []
    return load(model, [*overrides, "--model.gradient_checkpointing=false", *small]), batch


def ours(model: str, seconds: float, count: int | None, tiny: bool) -> dict[str, Any]:
    """The step of `levanter train`."""
    if tiny:
        os.environ.setdefault("JAX_PLATFORMS", "cpu")
    import jax
    import numpy as np

    from haliax import NamedArray
    from levanter.compiler.compile import compile_training
    from levanter.runtime.state import LmBatch, batch_axes, init_state

    config, batch = configured(model, tiny)
    compiled = compile_training(config)
    state = init_state(config, compiled.state_shardings)
    random, axes = np.random.default_rng(0), batch_axes(config)
    ids = random.integers(0, config.model.vocab_size, tuple(axis.size for axis in axes)).astype(np.int32)
    batch_of = LmBatch(NamedArray(ids, axes), NamedArray(np.roll(ids, -1, axis=1), axes))
    data = jax.device_put(batch_of, compiled.batch_shardings)

    def steps(count: int) -> float:
        nonlocal state
        metrics: Any = {}
        for _ in range(count):
            state, metrics = compiled.train_step(state, data)
        return float(metrics["loss"])

    found = timed(steps, seconds, count)
    parameters = sum(leaf.size for leaf in jax.tree.leaves(state.model))
    return {**found, **facts(config, batch, parameters, found, jax.devices()[0].device_kind)}


def theirs(model: str, seconds: float, count: int | None, tiny: bool) -> dict[str, Any]:
    """The step of plain PyTorch."""
    import plain_torch
    import torch

    config, batch = configured(model, tiny)
    device, backend = ("cpu", "eager") if tiny else ("cuda", "inductor")
    torch.set_float32_matmul_precision("high")
    sizes = dataclasses.asdict(config.model)
    family = "gpt2" if model.startswith("gpt2") else "llama"
    module, step = plain_torch.make_step(family, sizes, config.model.Vocab.size, device, backend)
    ids = torch.randint(0, config.model.vocab_size, (batch, config.model.seq_len), device=device)

    def steps(count: int) -> float:
        loss = None
        for _ in range(count):
            loss = step(ids, ids.roll(-1, 1))
        assert loss is not None
        return float(loss)

    found = timed(steps, seconds, count)
    parameters = sum(parameter.numel() for parameter in module.parameters())
    name = torch.cuda.get_device_name() if device == "cuda" else "cpu"
    return {**found, **facts(config, batch, parameters, found, name)}


def timed(steps: Any, seconds: float, count: int | None) -> dict[str, Any]:
    """Seconds of a step, the median of rounds of `count`. `steps(n)` makes n and returns the last loss, so it waits."""
    began = time.perf_counter()
    first = steps(1)
    compiling = time.perf_counter() - began
    steps(WARM_UP)
    began = time.perf_counter()
    steps(1)
    count = count or max(1, int(seconds / ROUNDS / (time.perf_counter() - began)))
    rounds = []
    for _ in range(ROUNDS):
        began = time.perf_counter()
        last = steps(count)
        rounds.append((time.perf_counter() - began) / count)
    return {
        "seconds_per_step": statistics.median(rounds),
        "rounds": rounds,
        "steps_per_round": count,
        "compile_seconds": compiling,
        "first_loss": first,
        "last_loss": last,
    }


def facts(config: Any, batch: int, parameters: int, found: dict[str, Any], device: str) -> dict[str, Any]:
    """Tokens a second and MFU of a measurement."""
    model = config.model
    size = getattr(model, "head_dim", None) or model.hidden_dim // model.num_heads
    # A token is looked up in an embedding that is not the head as well: no product.
    looked_up = model.hidden_dim * (
        (0 if model.tie_word_embeddings else model.Vocab.size) + (model.seq_len if hasattr(model, "mlp_scale") else 0)
    )
    attention = 12 * model.num_layers * model.num_heads * size * model.seq_len
    flops = 6 * (parameters - looked_up) + attention
    rate = batch * model.seq_len / found["seconds_per_step"]
    peak = next((peak for name, peak in PEAKS.items() if name in device), None)
    return {
        "device": device,
        "batch": batch,
        "position": model.seq_len,
        "parameters": parameters,
        "flops_per_token": flops,
        "tokens_per_second": rate,
        "mfu": None if peak is None else rate * flops / peak,
    }


def table(rows: list[dict[str, Any]]) -> str:
    """The measurements for people."""
    lines = [
        f"{'model':12} {'side':14} {'batch':>10} {'ms/step':>9} {'tokens/s':>11} {'MFU':>7} {'compile':>8}  device"
    ]
    for row in rows:
        if "error" in row:
            lines.append(f"{row['model']:12} {row['side']:14} {row['error']}")
            continue
        mfu = "—" if row["mfu"] is None else f"{row['mfu']:.1%}"
        lines.append(
            f"{row['model']:12} {row['side']:14} {row['batch']:>4}×{row['position']:<5} "
            f"{row['seconds_per_step'] * 1e3:9.2f} {row['tokens_per_second']:11,.0f} {mfu:>7} "
            f"{row['compile_seconds']:7.1f}s  {row['device']}"
        )
    return "\n".join(lines)


if __name__ == "__main__":
    main()
