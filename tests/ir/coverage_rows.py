"""The coverage tables, tests/ir/coverage/*.txt: one expression a line, and the names that its results should have.

    jnp.sum(x, axis=1) -> batch
    lax.top_k(x, 2) ~> batch _; batch _

Results are parted by `;`, `_` is a dim that no operand has, `-` a scalar. Behind `->` stands what JAX can
differentiate, behind `~>` what it cannot. What an expression mentions is in `coverage_arguments`.
"""

import ast
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from types import ModuleType
from typing import Any

import jax
import jax.numpy as jnp
from coverage_arguments import ARGUMENTS, SCOPE

from ir.graph import Graph
from ir.names import is_made
from ir.types import Dim

TABLES = Path(__file__).parent / "coverage"
FAMILIES = sorted(path.stem for path in TABLES.glob("*.txt"))


def raw(argument: Any) -> Any:
    """The bare array of an argument: no mark ever reaches an expression."""
    return getattr(argument, "array", argument)


@dataclass(frozen=True)
class Row:
    """One line of a table."""

    family: str
    expression: str
    names: str
    differentiable: bool

    @cached_property
    def arguments(self) -> tuple[str, ...]:
        """The arguments that the expression mentions, in the order of their table."""
        nodes = list(ast.walk(ast.parse(self.expression, mode="eval")))
        bound = {argument.arg for node in nodes if isinstance(node, ast.Lambda) for argument in node.args.args}
        bound |= {node.id for node in nodes if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store)}
        used = {node.id for node in nodes if isinstance(node, ast.Name)} - bound
        return tuple(name for name in ARGUMENTS if name in used)

    @cached_property
    def functions(self) -> set[str]:
        """The dotted names that the expression mentions: `jnp.sum`, `lax.linalg.qr`."""
        nodes = ast.walk(ast.parse(self.expression, mode="eval"))
        return {ast.unparse(node) for node in nodes if isinstance(node, ast.Attribute)}

    @property
    def exists(self) -> bool:
        """Whether this JAX has the functions (some are younger than the oldest that we support)."""
        for function in self.functions:
            module, _, name = function.rpartition(".")
            if module in SCOPE and isinstance(SCOPE[module], ModuleType) and not hasattr(SCOPE[module], name):
                return False
        return True

    @property
    def types(self) -> list[Any]:
        return [ARGUMENTS[name] for name in self.arguments]

    def __call__(self, *values: Any) -> Any:
        """The value of the expression, on arrays."""
        return eval(self.expression, {**SCOPE, **dict(zip(self.arguments, map(raw, values), strict=True))})

    @property
    def gradient(self) -> Callable[..., Any]:
        """The gradient of the sum of squares of all results, with respect to all arguments that have one."""
        kinds = [jnp.issubdtype(raw(argument).dtype, jnp.inexact) for argument in self.types]

        def function(*values: Any) -> Any:
            arrays = [raw(value) for value in values]

            def total(*inner: Any) -> Any:
                rest = iter(inner)
                results = self(*(next(rest) if kind else array for kind, array in zip(kinds, arrays, strict=True)))
                leaves = map(jnp.asarray, jax.tree.leaves(results))
                floats = [leaf for leaf in leaves if jnp.issubdtype(leaf.dtype, jnp.inexact)]
                return sum(jnp.sum(jnp.real(leaf).astype(jnp.float32) ** 2) for leaf in floats)

            wanted = [array for kind, array in zip(kinds, arrays, strict=True) if kind]
            return jax.grad(total, tuple(range(len(wanted))))(*wanted)

        return function


def rows(family: str) -> list[Row]:
    """The rows of a table that this JAX can trace."""
    found: list[Row] = []
    for line in (TABLES / f"{family}.txt").read_text(encoding="utf-8").splitlines():
        if line and not line.startswith("#"):
            arrow = " -> " if " -> " in line else " ~> "
            expression, names = line.split(arrow)
            found.append(Row(family, expression, names, arrow == " -> "))
    return [row for row in found if row.exists]


def result_names(graph: Graph) -> str:
    """The names of a graph's results, as the tables write them."""
    written = [" ".join(map(_written, operand.type.dims)) or "-" for operand in graph.outputs]
    return "; ".join(written)


def _written(dim: Dim) -> str:
    return "_" if dim.name is None or is_made(dim.name) else dim.name
