"""A mistake and its twin, which differ by the mistake only: one function that takes `wrong` first.

    @mistake("position memory", q="batch=2 position=4 size=8", k="batch=2 memory=4 size=8")
    def scores_of_the_wrong_side(wrong, q, k):
        return q @ (q if wrong else k).mT  # here

The first text has the names that a finding must mention; the others are the axes of the arguments, `ids(…)` of whole
numbers and `flags(…)` of booleans. A line that ends in `# here` is one where the finding may stand: the line of the
mistake, and where it is made of several expressions, each of them. Sizes are equal where they would tell otherwise.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp


class Argument(NamedTuple):
    """Axes with sizes, and a dtype."""

    axes: str
    dtype: Any = jnp.float32

    @property
    def names(self) -> str:
        return " ".join(each.partition("=")[0] for each in self.axes.split())

    @property
    def shape(self) -> jax.ShapeDtypeStruct:
        sizes = tuple(int(each.partition("=")[2]) for each in self.axes.split())
        return jax.ShapeDtypeStruct(sizes, self.dtype)


def ids(axes: str) -> Argument:
    return Argument(axes, jnp.int32)


def flags(axes: str) -> Argument:
    return Argument(axes, jnp.bool_)


class Pair(NamedTuple):
    """A program in two forms, `program(True, …)` wrong and `program(False, …)` right.

    Attributes:
        mentions: the names that a finding must mention.
        arguments: the named arguments of the program.
    """

    program: Callable[..., Any]
    mentions: tuple[str, ...]
    arguments: dict[str, Argument]

    @property
    def name(self) -> str:
        return self.program.__name__.replace("_", " ")

    @property
    def lines(self) -> set[int]:
        """The lines where the finding may stand."""
        text, first = inspect.getsourcelines(self.program)
        return {first + i for i, line in enumerate(text) if line.rstrip().endswith("# here")}

    @property
    def shapes(self) -> list[jax.ShapeDtypeStruct]:
        return [argument.shape for argument in self.arguments.values()]

    @property
    def names(self) -> dict[str, str]:
        return {name: argument.names for name, argument in self.arguments.items() if argument.axes}

    def step(self, wrong: bool) -> Callable[..., Any]:
        return partial(self.program, wrong)

    def trained(self, wrong: bool) -> Callable[..., Any]:
        """The program as the loss of a training step: its gradients are taken and its floats updated."""
        position = [i for i, each in enumerate(self.arguments.values()) if each.dtype == jnp.float32]

        def step(*arguments: Any) -> Any:
            def loss_of(floats: list[Any]) -> jax.Array:
                every = list(arguments)
                for i, array in zip(position, floats, strict=True):
                    every[i] = array
                result = self.program(wrong, *every)
                return sum(jnp.mean(jnp.square(leaf)) for leaf in jax.tree.leaves(result) if leaf.dtype == jnp.float32)

            floats = [arguments[i] for i in position]
            loss, gradients = jax.value_and_grad(loss_of)(floats)
            return [array - 0.1 * each for array, each in zip(floats, gradients, strict=True)], loss

        step.__signature__ = inspect.signature(self.step(wrong))  # type: ignore[attr-defined]
        return step


PAIRS: list[Pair] = []


def mistake(mentions: str, **arguments: str | Argument) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Adds a pair to `PAIRS`."""
    known = {name: each if isinstance(each, Argument) else Argument(each) for name, each in arguments.items()}

    def added(program: Callable[..., Any]) -> Callable[..., Any]:
        PAIRS.append(Pair(program, tuple(mentions.split()), known))
        return program

    return added
