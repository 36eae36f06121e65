"""Removes what does nothing: dead code and repeated computations.

Two nodes with the same primitive, parameters and operands give the same value; XLA would merge them too, but the
planner must not pay for them twice. Random bits are pure functions of their key, so they merge as well. Nodes with
effects, of which JAX tells, are kept as they are.

A graph that was parsed from text has lost the parameters of its primitives (the exponent of a power, where a slice
starts), so of its nodes only those are merged whose function has none.
"""

from collections.abc import Hashable
from dataclasses import dataclass

from ir.analysis.uses import has_effects, live
from ir.graph import Graph, Node
from ir.ops import op_of
from ir.ops.op import params_of
from ir.rewrite import Scope
from passes import require
from passes.stage import GraphPass

PLAIN = frozenset(
    (
        *("add", "sub", "mul", "div", "rem", "max", "min", "pow", "neg", "abs", "sign", "floor", "ceil", "square"),
        *("sqrt", "rsqrt", "cbrt", "exp", "exp2", "expm1", "log", "log1p", "logistic", "erf", "erfc", "erf_inv"),
        *("sin", "cos", "tan", "tanh", "sinh", "cosh", "asin", "acos", "atan", "atan2", "asinh", "acosh", "atanh"),
        *("and", "or", "xor", "not", "eq", "ne", "lt", "le", "gt", "ge", "select_n", "is_finite", "stop_gradient"),
        *("convert_element_type", "clamp"),
    )
)
"""Elementwise functions of which the text says all that changes their values."""


@dataclass(frozen=True)
class Canonicalize(GraphPass):
    """Pass: dead code and common subexpressions, bodies included.

    Attributes:
        merge_equal: whether equal nodes become one; if not, only what nobody reads is removed.
    """

    merge_equal: bool = True

    def __call__(self, graph: Graph) -> Graph:
        """The graph without dead and repeated nodes; inputs and outputs are unchanged."""
        return canonical(graph) if self.merge_equal else _drop_dead(graph, live(graph))


def canonical(graph: Graph) -> Graph:
    """What the pass makes of a graph."""
    merged = _merge_equal(graph)
    return _drop_dead(merged, live(merged))


def canonicalize(graph: Graph) -> Graph:
    """The graph without dead and repeated nodes."""
    return Canonicalize()(require.graph(graph, "canonicalize"))


def _drop_dead(graph: Graph, used: set[int]) -> Graph:
    scope = Scope()
    for node in graph.nodes:
        if has_effects(node) or any(value.id in used for value in node.outputs):
            scope.append(scope.current(node, lambda body: _drop_dead(body, used)))
    return scope.finish(graph)


def _key(node: Node) -> Hashable | None:
    """What makes two nodes the same; None for a node that is never merged."""
    if node.bodies or has_effects(node) or op_of(node).holds_array:
        return None
    if node.origin is None and (node.attrs or node.fn not in PLAIN):
        return None
    attrs = tuple((key, str(value)) for key, value in node.attrs.items())
    # In what a product is added up is the dtype of its result, whether the program says so or not.
    known = params_of(node).items()
    params = str(sorted([item for item in known if item[0] != "preferred_element_type"], key=lambda item: item[0]))
    operands = tuple(str(operand) for operand in node.inputs)
    results = tuple(value.type for value in node.outputs)
    return (node.kind, node.fn, operands, results, attrs, params, node.phase == "update")


def _merge_equal(graph: Graph) -> Graph:
    seen: dict[Hashable, Node] = {}
    scope = Scope()
    for node in graph.nodes:
        node = scope.current(node, _merge_equal)
        key = _key(node)
        first = seen.setdefault(key, node) if key is not None else node
        if first is node:
            scope.append(node)
        for old, new in zip(node.outputs, first.outputs, strict=True):
            scope.define(old, new)
    return scope.finish(graph)
