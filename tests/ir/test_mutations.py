"""Three hundred random edits of zoo graphs: the verifier refuses every one that leaves no well-formed program.

An edit changes a name, a size, a dtype, an attribute or an operand, and nothing else; where it changes the type of a
value, it does so wherever the value is used, so that no comparison of a use with its definition gives it away. What is
left is right or wrong by the rules of the nodes it touches alone. Whether it is right is asked of JAX and of staging
(see `restaging`): the touched nodes are bound and staged anew. So an edit that the verifier lets pass is one of these:

- a new name, where only readers name a dim and they name it nothing else (or meet another name there, which is an axis
  mistake of the user's: `passes.check_axes` finds it, the verifier must not);
- a dtype that a node may have by itself (a cast, an iota, a product that is accumulated in another one) and that no
  reader minds;
- an attribute that says which dim is meant, where another one may be meant too (an iota along another dim), or an
  operand that can be broadcast as well: there the primitive of the edited node is made anew, and staged.

An operand is only exchanged for one of another type: of two programs that differ in which of two alike values they
read, no rule can say that one is wrong.
"""

import random
from collections import Counter
from dataclasses import dataclass, replace

import numpy as np
import pytest
from restaging import at_rest, scopes
from test_zoo import MODELS, graph_of
from typeguard import suppress_type_checks

import ir
from ir.graph import Graph, Node, Value
from ir.names import is_made
from ir.types import Dim, TensorType

EDITS = 300
DTYPES = ("float32", "bfloat16", "float16", "int32", "uint32", "bool", "complex64", "int8")


@dataclass(frozen=True)
class Edit:
    """An edited graph; `touched` are the nodes, as they are now, whose rule may no longer hold."""

    kind: str
    graph: Graph
    touched: tuple[Node, ...]
    what: str


def retyped(graph: Graph, value: Value, type_: TensorType) -> tuple[Graph, list[Node]]:
    """The graph where a value is of another type wherever it is mentioned, and the nodes that mention it."""
    new, touched = Value(value.id, type_), []

    def operands(listed):
        return tuple(new if isinstance(each, Value) and each.id == value.id else each for each in listed)

    def scope(body: Graph) -> Graph:
        nodes = []
        for node in body.nodes:
            bodies = tuple(map(scope, node.bodies))
            changed = replace(node, inputs=operands(node.inputs), outputs=operands(node.outputs), bodies=bodies)
            borders = [(old.inputs, old.outputs) for old in node.bodies] != [(b.inputs, b.outputs) for b in bodies]
            if (changed.inputs, changed.outputs) != (node.inputs, node.outputs) or borders:
                touched.append(changed)
            nodes.append(changed)
        return replace(body, inputs=operands(body.inputs), nodes=tuple(nodes), outputs=operands(body.outputs))

    return scope(graph), touched


def with_node(graph: Graph, old: Node, new: Node) -> Graph:
    def scope(body: Graph) -> Graph:
        nodes = tuple(
            new if node is old else replace(node, bodies=tuple(map(scope, node.bodies))) for node in body.nodes
        )
        return replace(body, nodes=nodes)

    return scope(graph)


def real_names(graph: Graph) -> list[str]:
    """The names of a graph, without those of axes that the step makes itself."""
    return [name for name in graph.axis_sizes() if not is_made(name)]


def other_dim(dim: Dim, how: str, names: list[str], chance: random.Random) -> Dim:
    if how == "size":
        return replace(dim, size=max(1, dim.size + chance.choice([-1, 1, 2, dim.size])))
    return replace(dim, name=chance.choice([name for name in [*names, "banana"] if name != dim.name]))


def edit_type(graph: Graph, how: str, chance: random.Random) -> Edit | None:
    value = chance.choice(list(graph.values()))
    type_ = value.type
    if how == "dtype":
        new = replace(type_, dtype=chance.choice([dtype for dtype in DTYPES if dtype != type_.dtype]))
    elif not type_.dims:
        return None
    else:
        at = chance.randrange(len(type_.dims))
        if how == "name" and type_.dims[at].size == 1:
            return None  # there is nothing to shard or to meet along a single place
        dim = other_dim(type_.dims[at], how, real_names(graph), chance)
        new = replace(type_, dims=(*type_.dims[:at], dim, *type_.dims[at + 1 :]))
        if new == type_:
            return None
    edited, touched = retyped(graph, value, new)
    return Edit(how, edited, tuple(touched), f"{value}: {type_} -> {new}")


def edit_attribute(graph: Graph, chance: random.Random) -> Edit | None:
    node = chance.choice([node for node in graph.walk() if node.attrs])
    key = chance.choice(sorted(node.attrs))
    old = node.attrs[key]
    way = chance.choice(["drop", "rename", "change", "change", "change", "change"])
    attrs = dict(node.attrs)
    if way == "drop":
        del attrs[key]
    elif way == "rename":
        attrs[f"{key}s"] = attrs.pop(key)
    elif isinstance(old, int):
        attrs[key] = old + chance.choice([-1, 1, 7])
    elif isinstance(old, tuple) and old and isinstance(old[0], Dim):
        at = chance.randrange(len(old))
        near = [dim for each in (*node.inputs, *node.outputs) for dim in each.type.dims if dim != old[at]]
        new = chance.choice(near) if near and chance.random() < 0.5 else None
        new = new or other_dim(old[at], chance.choice(["name", "size"]), real_names(graph), chance)
        attrs[key] = (*old[:at], new, *old[at + 1 :])
    else:
        return None
    if attrs.get(key) == old:
        return None
    changed = replace(node, attrs=attrs)
    return Edit(
        "attribute", with_node(graph, node, changed), (changed,), f"{node.kind}.{node.fn} {key}: {old}, {attrs}"
    )


def edit_operand(graph: Graph, chance: random.Random) -> Edit | None:
    scope = chance.choice([scope for scope in scopes(graph) if scope.nodes])
    at = chance.randrange(len(scope.nodes))
    node = scope.nodes[at]
    if not node.inputs:
        return None
    before = [*scope.inputs, *(value for each in scope.nodes[:at] for value in each.outputs)]
    position = chance.randrange(len(node.inputs))
    candidates = [*node.inputs, *before]
    others = [each for each in candidates if each.type != node.inputs[position].type]
    if not others:
        return None
    new = chance.choice(others)
    inputs = (*node.inputs[:position], new, *node.inputs[position + 1 :])
    changed = replace(node, inputs=inputs)
    what = f"{node.kind}.{node.fn} {position}: {node.inputs[position].type} -> {new.type}"
    return Edit("operand", with_node(graph, node, changed), (changed,), what)


def edits() -> list[tuple[str, Edit]]:
    chance = random.Random(7)
    made: list[tuple[str, Edit]] = []
    while len(made) < EDITS:
        model = MODELS[len(made) % len(MODELS)]
        how = ("name", "size", "dtype", "attribute", "operand")[len(made) // len(MODELS) % 5]
        graph = graph_of(model)
        if how == "attribute":
            edit = edit_attribute(graph, chance)
        elif how == "operand":
            edit = edit_operand(graph, chance)
        else:
            edit = edit_type(graph, how, chance)
        if edit is not None:
            made.append((model, edit))
    return made


BROADCAST = "broadcast_dimensions"
DTYPES_OF = {"dot_general": "preferred_element_type", "convert_element_type": "new_dtype", "iota": "dtype"}
"""By primitive, the parameter that says the dtype of the result."""
POSITIONS = {"iota": "dimension", "cumsum": "axis", "sort": "dimension", "rev": "dimensions"}
"""By primitive, the parameter that says by position what `along` says by name."""


def positions(dims: tuple[Dim, ...], out: tuple[Dim, ...]) -> tuple[int, ...]:
    """Where the dims of an operand stand in a result, the first place for each, in order."""
    places: list[int] = []
    for dim in dims:
        start = places[-1] + 1 if places else 0
        places += [at for at in range(start, len(out)) if out[at] == dim or dim.size == 1][:1]
    return tuple(places)


def retargeted(node: Node) -> Node:
    """The node with the primitive that its `along`, names or dtype ask for, where JAX has a parameter for it."""
    if node.origin is not None and BROADCAST in node.origin.params and node.inputs:
        places = positions(node.inputs[0].type.dims, node.outputs[0].type.dims)
        return replace(node, origin=replace(node.origin, params={**node.origin.params, BROADCAST: places}))
    if node.origin is not None and (key := DTYPES_OF.get(str(node.origin.primitive))):
        dtype = np.dtype(node.outputs[0].type.dtype)
        node = replace(node, origin=replace(node.origin, params={**node.origin.params, key: dtype}))
    if node.origin is not None and str(node.origin.primitive) == "squeeze":
        dims, kept = node.inputs[0].type.dims, list(node.outputs[0].type.dims)
        gone = tuple(at for at, dim in enumerate(dims) if not (dim in kept and not kept.remove(dim)))
        return replace(node, origin=replace(node.origin, params={**node.origin.params, "dimensions": gone}))
    if node.origin is not None and str(node.origin.primitive) == "renamed":
        params = {**node.origin.params, "new": tuple(dim.name for dim in node.outputs[0].type.dims)}
        return replace(node, origin=replace(node.origin, params=params))
    key = POSITIONS.get(str(node.origin and node.origin.primitive))
    dims = (node.inputs[0] if node.inputs else node.outputs[0]).type.dims
    if key is None or not node.dims("along") or not all(dim in dims for dim in node.dims("along")):
        return node
    places = [dims.index(dim) for dim in node.dims("along")]
    position = tuple(places) if key == "dimensions" else places[0]
    return replace(node, origin=replace(node.origin, params={**node.origin.params, key: position}))


def is_another_program(edit: Edit) -> bool:
    """Whether every node that the edit touched is what staging makes of its operands, and state keeps its type."""
    carried = ((edit.graph.inputs[a].type, edit.graph.outputs[b].type) for a, b in edit.graph.carried)
    if any((a.dtype, sorted(a.shape)) != (b.dtype, sorted(b.shape)) for a, b in carried):
        return False
    return all(at_rest(retargeted(node)) for node in edit.touched)


@pytest.fixture(scope="module")
def outcomes():
    found = []
    with suppress_type_checks():
        for model, edit in edits():
            try:
                ir.verify(edit.graph)
            except ir.MalformedGraph as refusal:
                found.append((model, edit, str(refusal)))
            else:
                found.append((model, edit, None))
    return found


def test_what_is_let_pass_is_another_program(outcomes):
    with suppress_type_checks():
        wrong = [
            f"{model}: {edit.what}" for model, edit, why in outcomes if why is None and not is_another_program(edit)
        ]
    assert wrong == [], wrong


def test_what_is_refused_is_no_program(outcomes):
    """A sample: to stage a node anew takes as long as to verify a thousand."""
    refused = [each for each in outcomes if each[2] is not None]
    with suppress_type_checks():
        wrong = [f"{model}: {edit.what}: {why}" for model, edit, why in refused[::5] if is_another_program(edit)]
    assert wrong == [], wrong


def test_few_edits_leave_a_program(outcomes):
    passed = Counter(edit.kind for _, edit, why in outcomes if why is None)
    assert sum(passed.values()) <= EDITS // 10, passed
