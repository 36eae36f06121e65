"""A part of a loop's body that is computed once more in another body: which nodes it is, and copies of them."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from typing import Any

import jax

from ir._compat import below, scan_params
from ir.analysis.uses import has_effects
from ir.graph import Graph, Node, Operand, Phase, Value
from ir.ops import op_of
from ir.rewrite import Rewriter
from passes.arithmetic import AGAIN
from passes.runner import WholeRunner, takes_references


def recomputed(body: Graph, wanted: Sequence[Value], kept: Collection[int]) -> list[Node]:
    """The nodes of a body that make some values of what it is fed and of the values that are kept, in order."""
    needed = {value.id for value in wanted}
    found: list[Node] = []
    for node in reversed(body.nodes):
        if any(value.id in needed and value.id not in kept for value in node.outputs):
            found.append(node)
            needed.update(value.id for value in node.value_inputs)
    return found[::-1]


def recomputable(body: Graph, value: Value, kept: Collection[int]) -> bool:
    """Whether a value may be made twice: not, where that has effects."""
    return not any(has_effects(node) for node in recomputed(body, [value], kept))


def leaves(nodes: Sequence[Node]) -> list[Value]:
    """What some nodes read that none of them makes, each once."""
    made = {value.id for node in nodes for value in node.outputs}
    found: dict[int, Value] = {}
    for node in nodes:
        found |= {value.id: value for value in node.value_inputs if value.id not in made and value.id not in found}
    return list(found.values())


def copies(nodes: Sequence[Node], stands: dict[int, Value], rewriter: Rewriter, phase: Phase) -> list[Node]:
    """The same nodes with new values, of another phase.

    Args:
        stands: what stands for the values that they read; what stands for those that they make is added.
    """
    found: list[Node] = []
    for node in nodes:
        inputs = _read(node.inputs, stands)
        bodies = tuple([_copy(body, rewriter, phase) for body in node.bodies])
        made = tuple([rewriter.fresh(value) for value in node.outputs])
        stands.update(zip([value.id for value in node.outputs], made, strict=True))
        origin = node.origin
        if origin is not None and origin.own_info is not None:
            origin = replace(origin, own_info=below(origin.own_info, AGAIN))
        found.append(replace(node, inputs=inputs, outputs=made, bodies=bodies, phase=phase, origin=origin))
    return found


def _copy(body: Graph, rewriter: Rewriter, phase: Phase) -> Graph:
    stands = {value.id: rewriter.fresh(value) for value in body.inputs}
    inputs = tuple(stands.values())
    nodes = copies(body.nodes, stands, rewriter, phase)
    return replace(body, inputs=inputs, nodes=tuple(nodes), outputs=_read(body.outputs, stands))


def _read(operands: Sequence[Operand], stands: Mapping[int, Value]) -> tuple[Operand, ...]:
    return tuple([stands[each.id] if isinstance(each, Value) else each for each in operands])


def avals_of(node: Node) -> dict[int, Any]:
    """What JAX knows of the inputs of a scan's body, by their numbers; nothing of one that was read from a text."""
    if node.origin is None:
        return {}
    (jaxpr,) = op_of(node).jaxprs(node.origin.params)
    return dict(zip([value.id for value in node.bodies[0].inputs], jaxpr.in_avals, strict=True))


def changes_in_place(node: Node) -> bool:
    """Whether a loop changes arrays from outside of it."""
    return node.origin is not None and any(map(takes_references, op_of(node).jaxprs(node.origin.params)))


def with_body(node: Node, body: Graph, avals: Mapping[int, Any]) -> Node:
    """A scan with another body, whose operands and results are those of the node.

    Args:
        avals: what JAX knows of inputs of the body, by their numbers.
    """
    if node.origin is None:
        return replace(node, bodies=(body,))
    shapes = [
        jax.ShapeDtypeStruct(aval.shape, aval.dtype, weak_type=getattr(aval, "weak_type", False))
        if (aval := avals.get(value.id)) is not None
        else jax.ShapeDtypeStruct(value.type.shape, value.type.dtype)
        for value in body.inputs
    ]
    constants, carries = node.count("constants", 0), node.count("carries", 0)
    counts = (constants, carries, len(node.inputs) - constants - carries, len(node.outputs) - carries)
    params = scan_params(node.origin.params, WholeRunner(None).closed(body, shapes), counts)
    return replace(node, bodies=(body,), origin=replace(node.origin, params=params))
