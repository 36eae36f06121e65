"""A file of names to start from: every array of a step's arguments with its shape and the names that are known so far.

What nothing names is `_`, which a dim without a name is, so the file can be used as it is printed and filled in bit by
bit: what a new name says of other arrays, inference finds, and the next printout shows.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import ir
from levanter.compiler.target import Target, load_step
from levanter.compiler.user_step import graph_of

if TYPE_CHECKING:
    from ir.graph import Graph
    from ir.types import TensorType

_GIVEN = re.compile(r"[^\W\d]\w*'*")
"""A name that somebody gave. Others, such as `batch*position`, say how an axis was made, and are found again."""
_WIDTH = 76


def starting_file(target: Target) -> str:
    """The text of the file. Raises `UserError`: see `levanter.compiler.user_step.graph_of`."""
    step = load_step(target)
    graph = graph_of(step)
    wanted = target.step.rpartition(":")[2].rpartition(".")[2] + "_names"
    return names_file(graph, wanted, target.step)


def names_file(graph: Graph, variable: str, step: str) -> str:
    """A mapping from the path of every argument to names, as Python.

    Args:
        variable: what the mapping is called.
        step: what the user calls the step.
    """
    missing = ir.unnamed(graph)
    lines = [
        f"# Names of the arrays that {step} takes, one a dim; `_` is a dim without a name.",
        f"# {len(graph.inputs)} arrays, {len(missing)} with such a dim.",
        f"{variable} = {{",
    ]
    for path, value in zip(graph.input_paths, graph.inputs, strict=True):
        entry = f"    {_quoted(path)}: {_names(value.type)},"
        lines.append(f"{entry:<{_WIDTH}}  # {_shape(value.type)}")
    return "\n".join([*lines, "}"]) + "\n"


def _names(type_: TensorType) -> str:
    names = [dim.name if dim.name is not None and _GIVEN.fullmatch(dim.name) else "_" for dim in type_.dims]
    return _quoted(" ".join(names))


def _shape(type_: TensorType) -> str:
    return str(ir.TensorType(type_.dtype)).removesuffix("[]") + str([dim.size for dim in type_.dims])


def _quoted(text: str) -> str:
    """As Python, in double quotes as a formatter would have it."""
    quoted = repr(text)
    return quoted if '"' in text or quoted.startswith('"') else f'"{quoted[1:-1]}"'
