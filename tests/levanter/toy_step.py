"""A step of two products, as a file `toy.py` for the commands that take a step of one's own."""

from __future__ import annotations

import pytest

from levanter.cli.main import main

STEP = """
import jax
import jax.numpy as jnp


def shape(*sizes):
    return jax.ShapeDtypeStruct(sizes, jnp.float32)


def train(params, batch):
    def loss(params):
        return jnp.mean((jnp.tanh(batch @ params["up"]) @ params["down"] - batch) ** 2)

    value, grads = jax.value_and_grad(loss)(params)
    return jax.tree.map(lambda p, g: p - 0.1 * g, params, grads), value


train_arguments = ({"up": shape(64, 4096), "down": shape(4096, 64)}, shape(16, 64))
train_names = {"*.up": "embed mlp", "*.down": "mlp embed", "batch": "batch embed"}
"""


def levanter(capsys: pytest.CaptureFixture[str], line: str) -> tuple[int, str, str]:
    """The exit code of a command line, and what it printed on both streams."""
    code = main(line.split())
    return code, *capsys.readouterr()
