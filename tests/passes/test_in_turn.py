"""On CPU devices no collective of a step can begin before the one that the program has before it has ended, in what the
compiler makes: not one beside a loop that communicates either."""

from __future__ import annotations

import re

import jax
import jax.numpy as jnp
import pytest

import haliax as hax
import ir
import passes
from haliax import Axis

LAYERS, BATCH, EMBED, MLP = Axis("layers", 3), Axis("batch", 4), Axis("embed", 8), Axis("mlp", 16)
PLAN = passes.Plan.by_hand({"data": 2}, {"batch": ["data"]}, {"mlp": ["data"]})
_DEFINED = re.compile(r"^ +(?:ROOT )?%?([\w.\-]+) = ")
_SENDS = re.compile(r" (?:all-gather|all-to-all|all-reduce|collective-permute|reduce-scatter)\(")
_RUNS = re.compile(r"(?:body|condition|to_apply|calls)=%?([\w.\-]+)")


def step(state: dict[str, hax.NamedArray], x: hax.NamedArray) -> tuple[dict[str, hax.NamedArray], jax.Array, jax.Array]:
    """Its layers gather in a loop; the number of targets depends on none of it."""

    def loss(state: dict[str, hax.NamedArray]) -> jax.Array:
        def layer(x: hax.NamedArray, weights: hax.NamedArray) -> hax.NamedArray:
            return hax.tanh(hax.dot(hax.tanh(hax.dot(x, weights, axis=EMBED)), weights, axis=MLP))

        return hax.mean(hax.square(hax.fold(layer, LAYERS)(x, state["w"]))).scalar() + hax.sum(state["b"]).scalar()

    value, gradients = jax.value_and_grad(loss)(state)
    count = hax.sum(x > 0).scalar()
    updated = jax.tree.map(lambda w, g: w - 0.1 * g / count, state, gradients)
    return updated, value, jnp.sqrt(sum(jnp.sum(jnp.square(g)) for g in jax.tree.leaves(gradients)))


def compiled(ordered: bool) -> str:
    state = {"w": hax.ones((LAYERS, EMBED, MLP)), "b": hax.ones(EMBED)}
    x = hax.ones((BATCH, EMBED))
    made = passes.lower(ir.trace(step, state, x), PLAN, jax.devices()[:2], donate=True, ordered_sums=ordered)
    return made.lower(state, x).compile().as_text()


def early(text: str) -> tuple[int, list[str], list[str]]:
    """How many collectives, and loops with some, a compiled program has; those that nothing holds back until what is
    before them has ended; and those of which one that is held back from neither is a loop."""
    bodies = {
        found[1]: block.splitlines()
        for block in text.split("\n\n")
        if (found := re.match(r"(?:ENTRY )?%?([\w.\-]+) \(", block.lstrip("\n")))
    }
    sending = {name for name, lines in bodies.items() if any(map(_SENDS.search, lines))}
    while (
        more := {name for name, lines in bodies.items() if any(sending & set(_RUNS.findall(line)) for line in lines)}
        - sending
    ):
        sending |= more
    count, found, beside = 0, [], []
    for name in sending:
        behind: dict[str, set[str]] = {}
        last: str | None = None
        before: dict[str, bool] = {}
        for line in bodies[name]:
            if (defined := _DEFINED.match(line)) is None:
                continue
            read = set(re.findall(r"%([\w.\-]+)", line[defined.end() :].partition("metadata=")[0])) & behind.keys()
            behind[defined[1]] = read.union(*(behind[each] for each in read))
            if _SENDS.search(line) or sending & set(_RUNS.findall(line)):
                count += 1
                if last is not None and last not in behind[defined[1]]:
                    found.append(defined[1])
                last = defined[1]
                loop = bool(sending & set(_RUNS.findall(line)))
                beside += [last for each, its in before.items() if (loop or its) and each not in behind[last]]
                before[last] = loop
    return count, found, beside


@pytest.mark.parametrize("ordered", [True, False])
def test_each_collective_is_behind_the_one_before(ordered: bool) -> None:
    count, found, beside = early(compiled(ordered))
    assert count > 5
    assert bool(found) != ordered
    assert beside == []  # in one process too, whose threads are as many as its devices


def test_the_values_are_the_same() -> None:
    state = {"w": hax.ones((LAYERS, EMBED, MLP)) * 0.3, "b": hax.ones(EMBED)}
    x = hax.arange(EMBED).broadcast_axis(BATCH) * 0.1
    graph = ir.trace(step, state, x)
    one, turns = (
        passes.lower(graph, PLAN, jax.devices()[:2], ordered_sums=ordered)(state, x) for ordered in (False, True)
    )
    for a, b in zip(jax.tree.leaves(one), jax.tree.leaves(turns), strict=True):
        assert (a == b).all()  # of two devices, sums have one order only
