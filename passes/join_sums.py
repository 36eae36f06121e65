"""What is added up is reduced once, after it has been added, and not each summand before.

The backward pass of a gated MLP, or of queries, keys and values, ends in a sum of products that are all pending over
the same mesh axes. Each would be reduced by itself; but a sum over devices and a sum of values can change places, so
one collective of the same size does for all. The way from each reduction to the sum may lead through what is linear
and changes no size. Of a value that something else reads too, the reduction stays where it is.

For one reduce-scatter in place of several the sum is of whole values, not of shards: those are there anyway, pending.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace

from ir.graph import Graph, Node, Value
from ir.ops import op_of
from ir.rewrite import Rewriter, Scope
from ir.types import SUM, TensorType
from passes.sharding.joined import Late, joined
from passes.sharding.pending import Step, pending, runs_on, step_of
from passes.stage import GraphPass


@dataclass(frozen=True)
class _Way:
    """Mesh axes over which sums are pending, and what the collectives, and slices, that complete them do."""

    partial: tuple[str, ...]
    keys: tuple[tuple[object, ...], ...] = ()
    steps: tuple[Step, ...] = field(default=(), compare=False)

    def then(self, step: Step) -> "_Way":
        return _Way(self.partial, (*self.keys, (*step.key, step.node.attrs.get("bytes"))), (*self.steps, step))


@dataclass(frozen=True)
class JoinSums(GraphPass):
    """Pass: adds pending sums of one kind first and reduces their sum."""

    def __call__(self, graph: Graph) -> Graph:
        """The graph with such sums joined, bodies included."""
        return _Writer(Rewriter(graph)).graph(graph)


def join_sums(graph: Graph) -> Graph:
    """The graph with sums of sums reduced once."""
    return JoinSums()(graph)


def _reduced_late(node: Node, alone: Mapping[int, Late[_Way]]) -> Late[_Way] | None:
    """A collective that completes a pending sum, or one more step behind it."""
    op = op_of(node)
    if not (op.completes_sums or op.slices_shards):
        return None
    (source,), (result,) = node.value_inputs, node.outputs
    step = step_of(node)
    if source.id in alone:
        late = alone[source.id]
        return replace(late, way=late.way.then(step), moved={**late.moved, result.id: source})
    if not op.completes_sums or source.type.reduction != SUM:
        return None
    return Late(_Way(source.type.partial).then(step), result.type.bytes, (result,), {result.id: source})


@dataclass(frozen=True)
class _Join:
    """A sum of sums: the types of all values on the way that become partial, and what to do at the end."""

    types: Mapping[int, TensorType]
    steps: tuple[Step, ...]


class _Writer:
    """Copies a graph, with sums joined."""

    def __init__(self, rewriter: Rewriter) -> None:
        self.fresh = rewriter.fresh

    def graph(self, graph: Graph) -> Graph:
        joins, types, moved = self.chosen(graph)
        scope = Scope()
        for node in graph.nodes:
            (made,) = node.outputs if len(node.outputs) == 1 else (None,)
            if made is None or (made.id not in types and made.id not in moved):
                scope.append(scope.current(node, self.graph))
            elif made.id in moved:
                source = scope.read(moved[made.id])
                assert isinstance(source, Value)
                scope.define(made, source)
            else:
                value = replace(made, type=types[made.id])
                value = self.fresh(value) if made.id in joins else value
                scope.append(replace(scope.current(node, self.graph), outputs=(value,)))
                scope.define(made, value)
                if made.id in joins:
                    scope.define(made, _complete(joins[made.id].steps, value, made, scope, self.fresh))
        return scope.finish(graph)

    def chosen(self, graph: Graph) -> tuple[dict[int, _Join], dict[int, TensorType], dict[int, Value]]:
        """The joins by the number of the sum, the types of all that becomes partial, what is left out."""
        joins: dict[int, _Join] = {}
        types: dict[int, TensorType] = {}
        moved: dict[int, Value] = {}
        makers = {value.id: node for node in graph.nodes for value in node.outputs}
        for node, late in joined(graph, _reduced_late):
            made = node.outputs[0].id
            if made not in types and (join := _join(late, makers)) is not None:
                joins[made] = join
                types |= join.types
                moved |= late.moved
        return joins, types, moved


def _join(late: Late[_Way], makers: Mapping[int, Node]) -> _Join | None:
    """How sums are joined; None where what is on the way cannot run on pending sums."""
    partial, steps = late.way.partial, late.way.steps
    gained = {axis for step in steps for _, axes in step.gained for axis in axes}
    types = {value.id: pending(value.type, gained, partial) for value in late.made}
    last = late.made[-1]
    completed = types[last.id]
    for step in steps:
        completed = step.after(completed)
    if completed != last.type:
        return None

    def placed(value: Value) -> Value:
        while value.id in late.moved:
            value = late.moved[value.id]
        return replace(value, type=types.get(value.id, value.type))

    for value in late.made:
        node = makers[value.id]
        inputs = tuple([placed(each) if isinstance(each, Value) else each for each in node.inputs])
        if not runs_on(replace(node, inputs=inputs, outputs=(placed(value),))):
            return None
    return _Join(types, steps)


def _complete(
    steps: tuple[Step, ...], value: Value, result: Value, scope: Scope, fresh: Callable[[Value], Value]
) -> Value:
    """The collectives behind a sum."""
    for step in steps:
        after = result if step is steps[-1] else fresh(replace(value, type=step.after(value.type)))
        scope.append(replace(step.node, inputs=(value,), outputs=(after,)))
        value = after
    return value
