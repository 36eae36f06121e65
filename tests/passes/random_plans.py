"""Random programs under random plans: whatever the numbers say, all of it can be laid out, and means the same."""

from __future__ import annotations

import random
import sys
import tempfile
import warnings
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest

import ir
import passes
from haliax import Axis
from levanter.compiler.verify import compare
from levanter.compiler.verify.hlo import collectives as read_collectives
from passes import pipeline, summary
from passes.canonicalize import canonicalize

sys.path.append(str(Path(__file__).parents[1] / "ir"))
import random_programs

MESHES = ({"data": 4}, {"data": 2, "model": 2}, {"data": 4, "model": 2}, {"replica": 2, "data": 2, "model": 2})
SIZES = {"batch": 8, "position": 4, "embed": 8, "heads": 4, "layers": 2}
NAMES = (*SIZES, "merged", "picked", "other_batch", "other_embed", "other_position")
_DUMP = {
    "xla_dump_hlo_pass_re": "spmd.*",
    "xla_dump_hlo_as_text": True,
    "xla_dump_large_constants": True,
    "xla_backend_optimization_level": 0,
}


def program(seed: int, sizes: Callable[[], Any]) -> tuple[Callable[..., Any], tuple[Any, ...]]:
    """A step, half of them with gradients, and its arguments. `sizes` makes the axes of `random_programs` long enough
    for a mesh."""
    rng = random.Random(seed)
    lines = [tuple(rng.randrange(1000) for _ in range(4)) for _ in range(rng.randrange(3, 9))]
    sizes()
    given = random_programs.arguments(seed)
    if rng.random() < 0.5:
        return random_programs.training_step_of(lines), (given,)
    return random_programs.step_of(lines), given


def prepared_program(seed: int, monkeypatch: Any) -> ir.Graph:
    """The graph of a program on long axes, checked and canonical; the test is skipped where the axes do not agree."""
    step, arguments = program(seed, long_axes(monkeypatch))
    try:
        return pipeline.prepare(ir.trace(step, *arguments))
    except passes.AxisErrors:
        pytest.skip("a program whose axes do not agree")


def long_axes(monkeypatch: Any) -> Callable[[], None]:
    """Sets the axes of the arguments of random programs to `SIZES`."""

    def change() -> None:
        axes = {name: Axis(name, size) for name, size in SIZES.items()}
        arguments = tuple(tuple(axes[axis.name] for axis in each) for each in random_programs.ARGUMENTS)
        monkeypatch.setattr(random_programs, "ARGUMENTS", arguments)

    return change


def plan(seed: int) -> passes.Plan:
    """A mesh, and rules for some names in some order, sense or none."""
    rng = random.Random(-seed - 1)
    mesh = rng.choice(MESHES)
    axes, names = list(mesh), list(NAMES)
    rng.shuffle(names)

    def some() -> tuple[str, ...]:
        return tuple(rng.sample(axes, rng.randrange(1, len(axes) + 1)))

    compute = {name: some() for name in names if rng.random() < 0.6}
    storage = {name: some() for name in names if rng.random() < 0.4}
    return passes.Plan.by_hand(mesh, compute, storage, regather=rng.random() < 0.5)


def differences(step: Callable[..., Any], arguments: tuple[Any, ...], chosen: passes.Plan) -> list[str]:
    """What is wrong with a step under a plan: outputs that one device does not give, collectives that are not those of
    the text."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", passes.PlanWarning)
        graph = canonicalize(ir.trace(step, *arguments))
        placed = pipeline.place(graph, chosen)
        lowered = passes.lower(graph, chosen)
        one = passes.lower(graph, passes.Plan.by_hand({"data": 1}, {}))
    with tempfile.TemporaryDirectory() as folder:
        compiled = lowered.lower(*arguments).compile(compiler_options={**_DUMP, "xla_dump_to": folder})
        dumps = sorted(Path(folder).glob("*after_spmd-partitioning*"))
        text = dumps[0].read_text() if dumps else ""
    found = [
        f"output {path}: {_largest(a, b)}"
        for path, a, b in zip(
            graph.output_paths, jax.tree.leaves(one(*arguments)), jax.tree.leaves(compiled(*arguments)), strict=True
        )
        if not np.allclose(np.asarray(a, np.float64), np.asarray(b, np.float64), rtol=2e-4, atol=2e-5)
    ]
    rows = [asdict(each) for each in summary.collectives(placed, chosen)]
    mesh = chosen.mesh.as_dict()
    return found + compare(rows, read_collectives(text, mesh) if text else [], mesh)["surprises"]


def _largest(one: Any, many: Any) -> str:
    return f"{np.abs(np.asarray(one, np.float64) - np.asarray(many, np.float64)).max():.1e} apart"
