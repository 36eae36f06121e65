"""What the tests of rules share: tracing a function of plain arrays, and its graph as bare lines."""

from dataclasses import replace
from textwrap import dedent

import jax
import jax.numpy as jnp
import pytest
from step_models import shaped

import ir
import ir.text.print
from ir.graph import Graph

BE = shaped("batch embed", 4, 4)
IDS = shaped("batch position", 2, 3, dtype=jnp.int32)
INDEX = jax.ShapeDtypeStruct((), jnp.int32)


def arrays(function):
    """`function` of plain arrays: no NamedArray, hence no mark, ever reaches it."""
    return lambda *arguments: function(*(getattr(a, "array", a) for a in arguments))


def lines(graph: Graph) -> str:
    """The nodes of a graph as text, without inputs, outputs and source lines."""

    def bare(part: Graph) -> Graph:
        nodes = [replace(node, source=None, bodies=tuple(map(bare, node.bodies))) for node in part.nodes]
        return replace(part, nodes=tuple(nodes))

    whole = str(replace(bare(graph), inputs=(), input_paths=(), outputs=(), output_paths=(), carried=()))
    shown = [line[2:] for line in whole.splitlines()[1:-1] if not line.startswith("  -- ")]
    # Inputs were dropped, so their operands print with types; the number is enough here.
    return "\n".join(shown) + "\n"


def traced(function, *arguments) -> str:
    graph = ir.verify(ir.trace(arrays(function), *arguments))
    assert ir.parse(str(graph)) == graph
    text = lines(graph)
    for value in graph.inputs:
        text = text.replace(f"{value}:{ir.text.print.print_type(value.type)}", str(value))
    return text


def case(name, function, arguments, expected):
    return pytest.param(function, arguments, dedent(expected).lstrip("\n"), id=name)
