"""Whether an edited graph is a well-formed program after all, told by JAX and by staging, not by the verifier.

A node is *at rest* if binding its primitive on its operands, as they stand in the graph, and staging that anew gives
the node: the same dtypes and sizes (JAX's own abstract evaluation), the same names (unification), the same attributes.
A name that staging a node by itself cannot know (a new dim, which only its readers name) may be anything there.
"""

from collections.abc import Iterator

import jax

from ir.graph import Graph, Node, Operand, Value
from ir.names import is_made
from ir.staging.numbering import finish
from ir.staging.unify import Unifier
from ir.staging.walk import Walk
from ir.types import Dim


def scopes(graph: Graph) -> Iterator[Graph]:
    """A graph and all its bodies."""
    yield graph
    for node in graph.nodes:
        for body in node.bodies:
            yield from scopes(body)


def restaged(node: Node) -> Node | None:
    """The node that staging its primitive on its operands gives; None where JAX refuses, or there is no single node.

    Raises nothing: what JAX or a rule raises is a refusal.
    """
    origin = node.origin
    values = [operand for operand in node.inputs if isinstance(operand, Value)]

    def bound(*arrays):
        given = iter(arrays)
        operands = [next(given) if isinstance(operand, Value) else operand.value for operand in node.inputs]
        return origin.primitive.bind(*operands, **origin.primitive.get_bind_params(dict(origin.params)))

    try:
        shapes = [jax.ShapeDtypeStruct(value.type.shape, dtype_of(value)) for value in values]
        closed = jax.make_jaxpr(bound)(*shapes)
        return _staged(node.kind, closed, values)
    except Exception:  # any way in which JAX, or a rule of staging, says no
        return None


def _staged(kind: str, closed, values: list[Value]) -> Node | None:
    """The one node of a jaxpr, which takes the given values."""
    unifier = Unifier()
    walk = Walk(unifier)
    inputs = tuple(
        walk.named_value(variable.aval, [dim.name for dim in value.type.dims])
        for variable, value in zip(closed.jaxpr.invars, values, strict=True)
    )
    body = walk.body(closed.jaxpr, closed.consts, inputs, "node")
    graph = finish(body, unifier, input_paths=(), output_paths=(), carried=(), trees=None)
    made = [each for each in graph.nodes if each.kind == kind]
    return made[0] if len(graph.nodes) == len(made) == 1 else None


def dtype_of(value: Value):
    name = value.type.dtype
    return jax.random.key(0).dtype if name.startswith("key<") else name


def at_rest(node: Node) -> bool:
    """Whether the node is what staging it anew gives."""
    if node.origin is None or node.origin.primitive is None:
        return True  # a constant: whatever it is said to be
    again = restaged(node)
    if again is None or (again.kind, again.fn, len(again.outputs)) != (node.kind, node.fn, len(node.outputs)):
        return False
    open_names = node.kind in ("slice", "concat", "pad")
    known = {dim for operand in node.inputs for dim in operand.type.dims} if open_names else None
    if (
        not all(alike(a, b, known) for a, b in zip(again.outputs, node.outputs, strict=True))
        or again.attrs.keys() != node.attrs.keys()
    ):
        return False
    if node.kind == "map" and [out.type for out in again.outputs] != [out.type for out in node.outputs]:
        return False  # nothing is new in it that only its readers could name
    for made, body in zip(again.bodies, node.bodies, strict=True):
        if not all(map(alike, (*made.inputs, *made.outputs), (*body.inputs, *body.outputs))):
            return False
    own = {dim for value in (*node.inputs, *node.outputs) for dim in value.type.dims}
    return all(attribute_alike(again.attrs[key], node.attrs[key], own) for key in node.attrs)


def alike(again: Operand, declared: Operand, known: set[Dim] | None = None) -> bool:
    """Whether a value has the type that staging gives. What a slice or a concatenation makes, and no operand has (they
    are `known`), is called as its readers call it."""
    first, second = again.type, declared.type
    return (first.dtype, first.shape) == (second.dtype, second.shape) and all(
        _open(a.name) or a.name == b.name or (known is not None and a not in known)
        for a, b in zip(first.dims, second.dims, strict=True)
    )


def _open(name: str | None) -> bool:
    """Whether a dim may be called as its readers call it."""
    return name is None or is_made(name)


def attribute_alike(again, declared, own) -> bool:
    """`own` are the dims of the node: of them is one that staging by itself cannot name."""
    if not isinstance(again, tuple) or not isinstance(declared, tuple):
        return again == declared
    if len(again) != len(declared):
        return False
    return all(
        a == b or (_open(getattr(a, "name", "")) and getattr(a, "size", 0) == getattr(b, "size", 1) and b in own)
        for a, b in zip(again, declared, strict=True)
    )
