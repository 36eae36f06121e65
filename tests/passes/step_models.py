"""Small training steps for the tests of `ir` and `passes`, traced once each.

- `raw`: a GPT written with plain `jax.numpy`; only its arguments have names, nothing inside is marked;
- `named`: the GPT-2 of `levanter`, written with haliax, with AdamW, clipping and a schedule;
- `mlp`: two matrices and plain gradient descent.
"""

import tempfile
from dataclasses import asdict
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from typeguard import suppress_type_checks

import ir
import passes
from haliax import Axis, NamedArray
from haliax.core.staging import mark_rename
from ir.graph import Graph, Node
from levanter.compiler.verify import collectives as read_collectives
from levanter.compiler.verify import compare
from levanter.config import load
from levanter.config.schema import TrainConfig
from levanter.runtime.state import batch_shape, state_shape, train_step_of
from passes import device_mesh, input_shardings, lower, pipeline, summary
from passes.planner.plan import Plan


class Step(NamedTuple):
    """A step and the shapes of its arguments."""

    function: Any
    state: Any
    batch: Any


def shaped(names: str, *shape: int, dtype: Any = jnp.float32) -> NamedArray:
    """`shaped("batch embed", 8, 4)`: the shape of a named array."""
    axes = tuple(Axis(name, size) for name, size in zip(names.split(), shape, strict=True))
    return NamedArray(jax.ShapeDtypeStruct(shape, dtype), axes)


def filled(shapes: Any, seed: int = 0, high: int = 8) -> Any:
    """The same tree with numbers in it: small floats, token ids below `high`, integer scalars 0."""
    rng = np.random.default_rng(seed)

    def fill(leaf: Any) -> Any:
        if leaf.dtype == jnp.int32:
            return jnp.asarray(rng.integers(0, high, leaf.shape) if leaf.shape else 0, jnp.int32)
        return jnp.asarray(0.1 * rng.standard_normal(leaf.shape), leaf.dtype)

    return jax.tree.map(fill, shapes)


def raw_gpt(
    layers: int = 2,
    batch: int = 8,
    position: int = 16,
    embed: int = 32,
    heads: int = 4,
    vocab: int = 64,
    mlp: int | None = None,
) -> Step:
    """A GPT with tied embeddings, `scan`, `checkpoint`, clipping and Adam. Sizes repeat on purpose."""
    mlp, head_size = mlp or 4 * embed, embed // heads

    def parameters() -> dict[str, NamedArray]:
        return {
            "tokens": shaped("vocab embed", vocab, embed),
            "positions": shaped("position embed", position, embed),
            "qkv": shaped("layers embed qkv heads head_size", layers, embed, 3, heads, head_size),
            "out": shaped("layers heads head_size embed", layers, heads, head_size, embed),
            "up": shaped("layers embed mlp", layers, embed, mlp),
            "down": shaped("layers mlp embed", layers, mlp, embed),
            "norm": shaped("layers embed", layers, embed),
        }

    def normalized(x: Any, gain: Any) -> Any:
        x = x - x.mean(-1, keepdims=True)
        return x * jax.lax.rsqrt((x * x).mean(-1, keepdims=True) + 1e-5) * gain

    def block(x: Any, w: Any) -> Any:
        q, k, v = jnp.moveaxis(jnp.einsum("bse,eqhk->bsqhk", normalized(x, w["norm"]), w["qkv"]), 2, 0)
        before, after = ("batch", "position", "heads", "head_size"), ("batch", "key_position", "heads", "head_size")
        k, v = (mark_rename(each, before, after) for each in (k, v))
        scores = jnp.einsum("bshk,bthk->bhst", q, k) / np.sqrt(head_size)
        causal = jnp.arange(position)[:, None] >= jnp.arange(position)
        weights = jax.nn.softmax(jnp.where(causal, scores, -1e9))
        x = x + jnp.einsum("bshk,hke->bse", jnp.einsum("bhst,bthk->bshk", weights, v), w["out"])
        hidden = jax.nn.gelu(jnp.einsum("bse,em->bsm", normalized(x, w["norm"]), w["up"]))
        return x + jnp.einsum("bsm,me->bse", hidden, w["down"]), None

    def loss_of(p: Any, b: Any) -> Any:
        x = p["tokens"].array.at[b["tokens"].array].get(mode="clip") + p["positions"].array
        stacked = {key: p[key].array for key in ("qkv", "out", "up", "down", "norm")}
        x, _ = jax.lax.scan(jax.checkpoint(block), x, stacked)
        logits = jnp.einsum("bse,ve->bsv", x, p["tokens"].array)
        is_target = jnp.arange(vocab) == b["targets"].array[..., None]
        return jnp.mean(jax.nn.logsumexp(logits, -1) - jnp.sum(jnp.where(is_target, logits, 0), -1))

    def step(state: Any, batch: Any) -> Any:
        loss, grads = jax.value_and_grad(loss_of)(state["params"], batch)
        norm = jnp.sqrt(sum(jnp.sum(g * g) for g in jax.tree.leaves(grads)))
        grads = jax.tree.map(lambda g: g * jnp.minimum(1, 1 / norm), grads)
        count = state["step"] + 1
        m = jax.tree.map(lambda m, g: 0.9 * m + 0.1 * g, state["m"], grads)
        v = jax.tree.map(lambda v, g: 0.95 * v + 0.05 * g * g, state["v"], grads)
        rate = 1e-2 * jnp.minimum(1, count / 100)
        params = jax.tree.map(lambda p, m, v: p - rate * m / (jnp.sqrt(jnp.abs(v)) + 1e-8), state["params"], m, v)
        return {"params": params, "m": m, "v": v, "step": count}, {"loss": loss, "grad_norm": norm}

    state = {"params": parameters(), "m": parameters(), "v": parameters(), "step": jax.ShapeDtypeStruct((), jnp.int32)}
    tokens = shaped("batch position", batch, position, dtype=jnp.int32)
    return Step(step, state, {"tokens": tokens, "targets": tokens})


def mlp_step(batch: int = 8, embed: int = 16, mlp: int = 32) -> Step:
    """A step without loops: small enough to read its graph."""

    def loss_of(params: Any, x: Any) -> Any:
        hidden = jax.nn.relu(jnp.einsum("be,em->bm", x, params["up"].array))
        return jnp.mean(jnp.square(jnp.einsum("bm,me->be", hidden, params["down"].array) - x))

    def step(params: Any, x: Any) -> Any:
        loss, grads = jax.value_and_grad(loss_of)(params, x.array)
        return jax.tree.map(lambda p, g: p - 0.5 * g, params, grads), loss

    return Step(
        step,
        {"up": shaped("embed mlp", embed, mlp), "down": shaped("mlp embed", mlp, embed)},
        shaped("batch embed", batch, embed),
    )


TINY_GPT2 = {
    "model.seq_len": 16,
    "model.hidden_dim": 32,
    "model.num_heads": 4,
    "model.num_layers": 2,
    "model.vocab_size": 64,
    "model.vocab_multiple": 64,
    "trainer.train_batch_size": 8,
}


def tiny_config(**changes: Any) -> TrainConfig:
    """The config of a GPT-2 of a few thousand parameters; `tiny_config(**{"model.num_layers": 3})` changes it."""
    fields = {**TINY_GPT2, **changes}
    return load("gpt2_nano", [word for name, value in fields.items() for word in (f"--{name}", str(value))])


def named_gpt2(**changes: Any) -> Step:
    """The step of `levanter train`."""
    config = tiny_config(**changes)
    return Step(train_step_of(config), state_shape(config), batch_shape(config))


@cache
def step_of(name: str) -> Step:
    """The step called `raw`, `named`, `named_checkpoint` or `mlp`."""
    return {
        "raw": raw_gpt,
        "named": named_gpt2,
        "named_checkpoint": lambda: named_gpt2(**{"model.gradient_checkpointing": "true"}),
        "mlp": mlp_step,
    }[name]()


@cache
def traced(name: str) -> Graph:
    """The graph of a step, as it was traced."""
    return ir.trace(*step_of(name))


@cache
def prepared(name: str) -> Graph:
    """The graph of a step, checked and canonical: what is planned and lowered."""
    return pipeline.prepare(traced(name))


def collectives_of(placed: Graph) -> list[Node]:
    """The collective nodes of a placed graph, bodies included."""
    return [node for node in placed.walk() if node.kind in COLLECTIVES]


COLLECTIVES = ("all_gather", "reduce_scatter", "all_reduce", "all_to_all", "permute")

_DATA, _MODEL = ("data",), ("model",)
_MEGATRON = {"mlp": _MODEL, "heads": _MODEL, "vocab": _MODEL}


def hand_plan(name: str, data: int = 4, model: int = 2, hardware: str = "v5e") -> Plan:
    """`whole`, `dp`, `fsdp`, `tp`, `sp` (Megatron with positions split), `mixed` (FSDP and Megatron), `mixed_sp`."""
    compute, storage = {
        "whole": ({}, {}),
        "dp": ({"batch": ("data", "model")}, {}),
        "fsdp": ({"batch": ("data", "model")}, {"embed": ("data", "model")}),
        "tp": ({"batch": _DATA, **_MEGATRON}, {}),
        "sp": ({"batch": _DATA, **_MEGATRON, "position": _MODEL}, {}),
        "mixed": ({"batch": _DATA, **_MEGATRON}, {"embed": _DATA}),
        "mixed_sp": ({"batch": _DATA, **_MEGATRON, "position": _MODEL}, {"embed": _DATA}),
    }[name]
    return Plan.by_hand({"data": data, "model": model}, compute, storage, hardware)


def summary_of(name: str) -> list[str]:
    """What must not depend on the process: the text of a step, its plan, its placed graph."""
    plan = passes.plan(prepared(name), {"data": 4, "model": 2}, "h100")
    decided = repr((plan.order, dict(plan.compute), dict(plan.storage), dict(plan.reasons), plan.runner_up))
    placed = pipeline.place(prepared(name), hand_plan("mixed_sp"))
    return [str(traced(name)), decided, str(placed)]


class Compiled(NamedTuple):
    """A step on the devices of its plan: a callable (the state is donated), and what XLA made of it."""

    plan: Plan
    placed: Graph
    function: Any
    predicted: list[dict[str, Any]]
    found: list[Any]

    def place(self, state: Any, batch: Any) -> Any:
        """The arguments, where the step wants them."""
        return jax.device_put((state, batch), input_shardings(self.placed, device_mesh(self.plan)))

    def differences(self) -> list[str]:
        """Collectives that were predicted and not made, or made and not predicted."""
        surprises: list[str] = compare(self.predicted, self.found, self.plan.mesh.as_dict())["surprises"]
        return surprises


_compiled: dict[Any, Compiled] = {}


def compiled(name: str, plan: Plan) -> Compiled:
    """The step called `name` compiled under `plan`, once; with the partitioned program read back."""
    key = (name, repr((plan.mesh, plan.order, plan.compute, plan.storage, plan.stored)))
    if key not in _compiled:
        with suppress_type_checks():  # other tests place and lower with the checks on; here they would take the time
            _compiled[key] = _compile(name, plan)
    return _compiled[key]


def _compile(name: str, plan: Plan) -> Compiled:
    graph = prepared(name)
    placed = pipeline.place(graph, plan)
    step = lower(graph, plan, jax.devices()[: plan.mesh.devices], donate=True)
    with tempfile.TemporaryDirectory() as folder:
        options = {
            "xla_dump_to": folder,
            "xla_dump_hlo_pass_re": "spmd.*",
            "xla_dump_hlo_as_text": True,
            "xla_dump_large_constants": True,
            "xla_backend_optimization_level": 0,
        }
        function = step.lower(*step_of(name)[1:]).compile(compiler_options=options)
        dumps = sorted(Path(folder).glob("*after_spmd-partitioning*"))
        text = dumps[0].read_text() if dumps else ""
    found = read_collectives(text, plan.mesh.as_dict()) if text else []
    rows = [asdict(each) for each in summary.collectives(placed, plan)]
    return Compiled(plan, placed, function, rows, found)
