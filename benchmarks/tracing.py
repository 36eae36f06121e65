"""What the IR costs beside JAX's own tracing: `ir.trace(step)` against `jax.make_jaxpr(step)`, by depth.

    python benchmarks/tracing.py [--layers 32 64 126] [--rounds 7]

The step is the whole of training (loss, backward pass, clipping, AdamW) of a GPT-2 whose layers are a Python loop, not
a scan, so that every layer has equations of its own. Both sides see the same step: `jax.make_jaxpr` as anyone calls it,
outside staging and so without marks; `ir.trace` from the step to the finished `Graph`, with the marks, `make_jaxpr`
itself, rules, unification, phases, numbering, source lines and paths. Checking, planning and printing are not in it.

They take turns in one process, both with JAX's caches of library functions warm and the step's own cold; the garbage of
one is gone before the other starts. Prints the median ratio of the pairs, in processor seconds, which other processes
disturb least, and microseconds per equation, which are the same for all depths where the cost is linear. Writes them to
benchmarks/results/tracing-DATE.json.
"""

from __future__ import annotations

import argparse
import datetime
import gc
import json
import os
import platform
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

os.environ.setdefault("JAX_PLATFORMS", "cpu")

import equinox as eqx
import jax
import jax.numpy as jnp
import optax

import haliax as hax
import haliax.nn as hnn
import ir
from haliax import Axis, NamedArray
from levanter.models.gpt2.config import Gpt2Config
from levanter.models.gpt2.gpt2 import Block
from levanter.models.loss import next_token_loss

RESULTS = Path(__file__).parent / "results"
GOAL = 1.3


class Unrolled(eqx.Module):
    """GPT-2 with its layers in a list."""

    embedding: hnn.Embedding
    blocks: hnn.BlockSeq
    norm: hnn.LayerNorm

    @staticmethod
    def init(config: Gpt2Config, layers: int, key: jax.Array) -> Unrolled:
        keep_all = hnn.ScanCheckpointPolicy.of(False)
        blocks = hnn.BlockSeq([Block.init(config, key=key)] * layers, Axis("layers", layers), keep_all)
        embedding = hnn.Embedding.init(config.Vocab, config.Embed, key=key)
        return Unrolled(embedding, blocks, hnn.LayerNorm.init(config.Embed))

    def loss(self, batch: dict[str, NamedArray]) -> jax.Array:
        x = self.norm(self.blocks.fold(self.embedding(batch["tokens"]), key=None))
        return hax.mean(next_token_loss(x, self.embedding.weight, batch["targets"], self.norm.axis)).scalar()


def unrolled_step(layers: int) -> tuple[Callable[[], Callable[..., Any]], tuple[Any, Any]]:
    """A maker of new step functions, each unknown to JAX's caches, and the shapes of their arguments."""
    config = Gpt2Config(seq_len=32, hidden_dim=64, num_heads=4, num_layers=layers, vocab_size=256)
    optimizer = optax.chain(optax.clip_by_global_norm(1.0), optax.adamw(1e-3))

    def initial() -> tuple[Any, Any]:
        model = Unrolled.init(config, layers, jax.random.key(0))
        return model, optimizer.init(model)

    def make() -> Callable[..., Any]:
        def step(state: tuple[Any, Any], batch: dict[str, NamedArray]) -> tuple[tuple[Any, Any], jax.Array]:
            model, opt_state = state
            loss, gradients = jax.value_and_grad(Unrolled.loss)(model, batch)
            updates, opt_state = optimizer.update(gradients, opt_state, model)
            return (optax.apply_updates(model, updates), opt_state), loss

        return step

    axes = (Axis("batch", 8), config.Pos)
    ids = NamedArray(jax.ShapeDtypeStruct(tuple(axis.size for axis in axes), jnp.int32), axes)
    return make, (jax.eval_shape(initial), {"tokens": ids, "targets": ids})


def compare(layers: int, rounds: int) -> dict[str, float]:
    """Both at one depth, taking turns."""
    make, shapes = unrolled_step(layers)
    equations = len(jax.make_jaxpr(make())(*shapes).jaxpr.eqns)
    nodes = len(ir.trace(make(), *shapes).nodes)
    plain: list[float] = []
    ours: list[float] = []
    for number in range(rounds):
        turns: list[tuple[list[float], Callable[[], Any]]] = [
            (plain, lambda: jax.make_jaxpr(make())(*shapes)),
            (ours, lambda: ir.trace(make(), *shapes)),
        ]
        for seconds, call in turns if number % 2 else reversed(turns):
            seconds.append(seconds_of(call))
    return {
        "layers": layers,
        "equations": equations,
        "operations": nodes,
        "make_jaxpr_seconds": statistics.median(plain),
        "trace_seconds": statistics.median(ours),
        "ratio": statistics.median(a / b for a, b in zip(ours, plain, strict=True)),
        "microseconds_on_top_per_equation": 1e6 * (statistics.median(ours) - statistics.median(plain)) / equations,
    }


def seconds_of(call: Callable[[], Any]) -> float:
    gc.collect()
    started = time.process_time()
    result = call()
    seconds = time.process_time() - started
    del result
    return seconds


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--layers", type=int, nargs="+", default=[32, 64, 126])
    parser.add_argument("--rounds", type=int, default=7)
    options = parser.parse_args()
    make, shapes = unrolled_step(1)
    for _ in range(2):  # fills the caches that all depths share
        jax.make_jaxpr(make())(*shapes)
        ir.trace(make(), *shapes)
    answer = {
        "date": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "command": " ".join(["python", *sys.argv]),
        "machine": f"{platform.machine()}, {os.cpu_count()} cores",
        "load_average": os.getloadavg()[0],
        "python": platform.python_version(),
        "jax": jax.__version__,
        "goal": GOAL,
        "depths": [compare(layers, options.rounds) for layers in options.layers],
    }
    print(json.dumps(answer, indent=1))
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / f"tracing-{datetime.date.today().isoformat()}.json").write_text(json.dumps(answer, indent=1) + "\n")


if __name__ == "__main__":
    main()
