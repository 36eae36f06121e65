"""What docs/checker.md says that names cannot decide: both programs of each kind are let be."""

from functools import partial
from pathlib import Path

import jax
import jax.numpy as jnp
import pytest
from mistakes.pair import Argument, flags, ids

import ir
import passes

PAGE = (Path(__file__).parents[2] / "docs" / "checker.md").read_text(encoding="utf-8")

X = Argument("batch=6 position=6 embed=6")
LOSS, REAL = Argument("batch=6 position=6"), flags("batch=6 position=6")


def masked_mean(other, loss, real):
    return jnp.where(real, loss, 0.0).sum() / (real.size if other else real.sum())


def normalized(other, x, scale):
    axis = 1 if other else 2
    centered = x - x.mean(axis, keepdims=True)
    return centered * jax.lax.rsqrt(jnp.square(centered).mean(axis, keepdims=True) + 1e-6) * scale


def counted(other, x, places):
    ids = jnp.arange(6)
    return x + places[ids % 3 if other else ids]


def shifted(other, logits, tokens):
    first, second = (slice(None, -1), slice(1, None)) if other else (slice(1, None), slice(None, -1))
    logs = jax.nn.log_softmax(logits)[:, second]
    return -jnp.take_along_axis(logs, tokens[:, first, None], axis=-1).mean()


def summed_along(other, x):
    return jnp.cumsum(x, axis=0 if other else 1)


def rolled(other, x):
    return x + jnp.roll(x, 1, axis=0 if other else 1)


def exchanged(other, x, wq, wk):
    q, k = (x @ wk, x @ wq) if other else (x @ wq, x @ wk)
    return jax.nn.softmax(q @ k.mT) @ x


def split(other, x):
    micro = x.reshape(2, 3, 6).swapaxes(0, 1) if other else x.reshape(3, 2, 6)
    return jax.lax.map(lambda one: jnp.square(one).mean(), micro).mean()


def reshaped(other, x):
    return jnp.square(x.reshape(x.shape[1], x.shape[0], -1) if other else x).mean()


KINDS = {
    "What a masked mean is divided by": (masked_mean, {"loss": LOSS, "real": REAL}),
    "Norms over more or other axes": (normalized, {"x": X, "scale": Argument("embed=6")}),
    "Counted positions": (counted, {"x": X, "places": Argument("position=6 embed=6")}),
    "Which end of an axis": (
        shifted,
        {"logits": Argument("batch=2 position=6 vocab=6"), "tokens": ids("batch=2 position=6")},
    ),
    "The axis of an operation that changes no shape": (summed_along, {"x": X}),
    "The axis of an operation that changes no shape ": (rolled, {"x": X}),
    "Roles of weights that may be exchanged": (
        exchanged,
        {"x": X, "wq": Argument("embed=6 size=4"), "wk": Argument("embed=6 size=4")},
    ),
    "Both ways of splitting a batch": (split, {"x": Argument("batch=6 embed=6")}),
    "Equal sizes and no names": (reshaped, {"x": X}),
}


@pytest.mark.parametrize("other", [False, True])
@pytest.mark.parametrize("kind", KINDS)
def test_it_is_let_be(kind, other):
    program, arguments = KINDS[kind]
    shapes = [each.shape for each in arguments.values()]
    names = {name: each.names for name, each in arguments.items()}
    assert [str(each) for each in passes.axis_findings(ir.trace(partial(program, other), *shapes, names=names))] == []


def test_the_page_has_these_kinds():
    section = PAGE.partition("## What names cannot decide")[2].partition("\n## ")[0]
    stated = [line[4:].partition(".**")[0] for line in section.splitlines() if line.startswith("- **")]
    assert stated == list(dict.fromkeys(kind.strip() for kind in KINDS))
