"""Removes what does nothing: dead code and repeated computations.

Two nodes with the same primitive, parameters and operands give the same value; XLA would merge them too, but the
planner must not pay for them twice. Random bits are pure functions of their key, so they merge as well. Nodes with
effects, of which JAX tells, are kept as they are.

A graph that was parsed from text has lost the parameters of its primitives (the exponent of a power, where a slice
starts), so of its nodes only those are merged whose function has none.
"""

from collections.abc import Hashable
from dataclasses import dataclass, replace

from ir.graph import Graph, Node, Operand, Value
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
        merged = _merge_equal(graph, {}) if self.merge_equal else graph
        return _drop_dead(merged)


def canonicalize(graph: Graph) -> Graph:
    """The graph without dead and repeated nodes."""
    return Canonicalize()(graph)


def _effects(node: Node) -> bool:
    if node.kind == "opaque":
        return True
    return any(_effects(inner) for body in node.bodies for inner in body.nodes)


def _drop_dead(graph: Graph) -> Graph:
    used = {operand.id for operand in graph.outputs if isinstance(operand, Value)}
    kept: list[Node] = []
    for node in reversed(graph.nodes):
        if not any(value.id in used for value in node.outputs) and not _effects(node):
            continue
        node = replace(node, bodies=tuple(_drop_dead(body) for body in node.bodies))
        used.update(value.id for value in node.value_inputs)
        kept.append(node)
    return graph.with_nodes(tuple(reversed(kept)))


def _key(node: Node) -> Hashable | None:
    """What makes two nodes the same; None for a node that is never merged."""
    if node.bodies or _effects(node) or node.kind == "constant":
        return None
    if node.origin is None and (node.attrs or node.fn not in PLAIN):
        return None
    attrs = tuple((key, str(value)) for key, value in node.attrs.items())
    params = str(sorted(node.origin.params.items(), key=lambda item: item[0])) if node.origin is not None else ""
    operands = tuple(str(operand) for operand in node.inputs)
    results = tuple(value.type for value in node.outputs)
    return (node.kind, node.fn, operands, results, attrs, params, node.phase == "update")


def _merge_equal(graph: Graph, renamed: dict[int, Value]) -> Graph:
    seen: dict[Hashable, Node] = {}
    nodes: list[Node] = []

    def current(operand: Operand) -> Operand:
        return renamed.get(operand.id, operand) if isinstance(operand, Value) else operand

    for node in graph.nodes:
        bodies = tuple(_merge_equal(body, renamed) for body in node.bodies)
        node = replace(node, inputs=tuple(current(operand) for operand in node.inputs), bodies=bodies)
        key = _key(node)
        if key is not None and key in seen:
            renamed.update(zip((v.id for v in node.outputs), seen[key].outputs, strict=True))
            continue
        if key is not None:
            seen[key] = node
        nodes.append(node)
    outputs = tuple(current(operand) for operand in graph.outputs)
    return replace(graph, nodes=tuple(nodes), outputs=outputs)
