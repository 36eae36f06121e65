"""Runs an elastic step so that the compiler makes the same of it for any number of devices.

What XLA fuses depends on everything around, and in a fused kernel a product and a sum are rounded once, apart twice. So
a step that has loops of shared trips (`Op.shares_trips`) is run in stages: between these loops and sums in order, which
a step has on one device as on many, all other operations are one function, which the compiler sees apart from the rest.
It is the body of a loop of one trip; that it is one, a number says that is known at run time only. What goes in and out
is one dim long, so that nothing around has a say in how it lies in memory.

What the trips of such a loop give, and their sum in order is all that reads, the loop adds up as it makes it: of n
trips log2(n) partial sums are in memory in place of n whole gradients.
"""

from collections.abc import Callable, Sequence
from math import prod
from typing import Any

import jax.numpy as jnp
from jax import (
    eval_shape,  # pyright: ignore[reportUnknownVariableType]
    lax,
    make_jaxpr,  # pyright: ignore[reportUnknownVariableType]
)

from haliax.core.merged import run_merged
from ir.analysis.uses import Uses
from ir.graph import Graph, Node, Operand, Value
from ir.ops import entered, op_of
from passes.runner import LocalRunner

_Stage = tuple[int, int]


def in_stages(graph: Graph) -> bool:
    """Whether a step is to be run so."""
    return any(op_of(node).shares_trips for node in graph.nodes)


class StagedRunner(LocalRunner):
    """On one device's shards, stage by stage."""

    def graph(self, graph: Graph, inputs: Sequence[Any]) -> list[Any]:
        return self.staged(graph, inputs) if in_stages(graph) else super().graph(graph, inputs)

    def staged(self, graph: Graph, inputs: Sequence[Any]) -> list[Any]:
        """What a graph with loops of shared trips gives for its inputs."""
        stages = _stages(graph)
        values: dict[int, Any] = dict(zip([value.id for value in graph.inputs], inputs, strict=True))

        def read(operand: Operand) -> Any:
            return values[operand.id] if isinstance(operand, Value) else self.constant(operand)

        carried = {graph.outputs[after]: graph.inputs[before] for before, after in graph.carried}
        sums = _sums_of_trips(graph)
        added = {id(each) for found in sums.values() for each in found}
        for stage in sorted(set(stages)):
            nodes = [node for node, at in zip(graph.nodes, stages, strict=True) if at == stage]
            together: list[Node] = []
            for node in nodes:
                if id(node) in added:
                    continue
                if id(node) in sums:
                    made = self.added_up(node, [read(operand) for operand in node.inputs])
                    self.keep(values, [each.outputs[0] for each in sums[id(node)]], made)
                    continue
                # What has no rounding, such as a key, need not be apart.
                known = all(value.id in values for value in node.value_inputs)
                if _is_border(node) or (known and not any(_rounds(value) for value in node.outputs)):
                    self.keep(values, node.outputs, self.node(node, [read(operand) for operand in node.inputs]))
                else:
                    together.append(node)
            if together:
                self.run_together(together, graph, values, carried)
        return [read(operand) for operand in graph.outputs]

    def added_up(self, node: Node, arrays: Sequence[Any]) -> Sequence[Any]:
        """The sum in order of each result of a loop of shared trips."""
        assert node.origin is not None
        return self.primitive(node, arrays, {**node.origin.params, **self.bodies(node), "summed": True})

    def keep(self, values: dict[int, Any], made: Sequence[Value], arrays: Sequence[Any]) -> None:
        """Notes what is made."""
        values.update(zip([value.id for value in made], arrays, strict=True))

    def run_together(
        self, nodes: Sequence[Node], graph: Graph, values: dict[int, Any], carried: dict[Operand, Value]
    ) -> None:
        """Adds what the nodes of one stage give."""
        made = [value for node in nodes for value in node.outputs]
        own = {value.id for value in made}
        inside = {id(node) for node in nodes}
        read = dict.fromkeys(v for node in nodes for v in node.value_inputs if v.id not in own)
        wanted = {v for node in graph.nodes if id(node) not in inside for v in node.value_inputs}
        wanted |= {operand for operand in graph.outputs if isinstance(operand, Value)}
        given = [value for value in made if value in wanted]
        taken = list(read)
        places = {value: i for i, value in enumerate(taken)}
        updates = [places.get(carried[value]) if value in carried else None for value in given]

        def function(arrays: Sequence[Any]) -> list[Any]:
            known = dict(zip([value.id for value in taken], arrays, strict=True))
            for node in nodes:
                operands = [known[o.id] if isinstance(o, Value) else self.constant(o) for o in node.inputs]
                self.keep(known, node.outputs, self.flat(node, operands))
            return [known[value.id] for value in given]

        results = apart(function, [flat(values[value.id]) for value in taken], updates)
        shaped = [each.reshape(self.shards.shape(v.type)) for each, v in zip(results, given, strict=True)]
        self.keep(values, given, shaped)

    def flat(self, node: Node, arrays: list[Any]) -> list[Any]:
        """What a node gives for flat operands, flat. What works element by element does so whatever the shape: then it
        is one loop, and the compiler makes the same of a short one as of a long one."""
        shapes = [self.shards.shape(operand.type) for operand in node.inputs]
        wanted = [self.shards.shape(value.type) for value in node.outputs]
        op, (shape, *_) = op_of(node), wanted
        if op.is_elementwise and not entered(node) and all(each in ((), shape) for each in shapes):
            return list(self.bind(node, arrays))
        if op.widens(node) and shapes == [()]:
            return [jnp.broadcast_to(arrays[0], prod(shape))] if len(shape) else list(arrays)
        whole = [array.reshape(shape) for array, shape in zip(arrays, shapes, strict=True)]
        return [flat(each) for each in self.node(node, whole)]


def apart(
    function: Callable[[Sequence[Any]], list[Any]], arrays: Sequence[Any], updates: Sequence[int | None]
) -> list[Any]:
    """What a function of flat arrays gives, computed in a program of its own.

    Args:
        updates: for each result the position of the array that it may overwrite; None for one that is new.
    """
    shapes: list[Any] = eval_shape(function, list(arrays))
    numbers = [array for array in arrays if jnp.issubdtype(array.dtype, jnp.number) and array.size]
    if not numbers or not any(jnp.issubdtype(each.dtype, jnp.inexact) for each in shapes):
        return function(arrays)
    replaced: dict[int, int] = {}
    for place, (position, shape) in enumerate(zip(updates, shapes, strict=True)):
        if position is not None and arrays[position].shape == shape.shape and arrays[position].dtype == shape.dtype:
            replaced.setdefault(position, place)
    starts = [lax.full(each.shape, 0, each.dtype) for each in shapes]
    for position, place in replaced.items():
        starts[place] = arrays[position]

    def of_each(*given: Any) -> list[Any]:
        return function(given)

    def body(state: tuple[Any, list[Any]]) -> tuple[Any, list[Any]]:
        at, kept = state
        # What is the same in each trip would be computed before the loop, and together with what is there.
        here = [jnp.where(at == 0, array, lax.full_like(array, 0)) for array in arrays]
        given = [kept[replaced[i]] if i in replaced else array for i, array in enumerate(here)]
        # For several devices the compiler merges equal operations earlier than for one.
        return at + 1, run_merged(make_jaxpr(of_each)(*given), *given)

    return lax.while_loop(lambda state: state[0] < _one(numbers[0]), body, (jnp.int32(0), starts))[1]


def flat(array: Any) -> Any:
    """The array as one dim, if it has more."""
    return array.reshape(-1) if array.ndim > 1 else array


def _one(array: Any) -> Any:
    """1, whatever the array holds, as no compiler can tell."""
    first = lax.reshape(lax.slice(array, (0,) * array.ndim, (1,) * array.ndim), ())
    if jnp.issubdtype(first.dtype, jnp.inexact):
        first = jnp.isnan(first)
    return jnp.where((first.astype(jnp.uint32) & 1) <= 1, jnp.int32(1), jnp.int32(2))


def _rounds(value: Value) -> bool:
    return value.type.dtype.startswith(("float", "bfloat", "complex"))


def _is_border(node: Node) -> bool:
    """Whether it stands between stages: all that sends, and all that is done in order."""
    op = op_of(node)
    return (
        _opens(node) or op.moves_data_only or any(op_of(each).communicates for b in entered(node) for each in b.walk())
    )


def _opens(node: Node) -> bool:
    """Whether a stage begins with it, on one device as on many."""
    return op_of(node).shares_trips or op_of(node).adds_in_order


def _sums_of_trips(graph: Graph) -> dict[int, list[Node]]:
    """The loops of shared trips that add up what they give, and the sums in order of which each result has one."""
    uses, found = Uses.of_scope(graph), dict[int, list[Node]]()
    for node in graph.nodes:
        if op_of(node).shares_trips and all(uses.reads[value.id] == 1 for value in node.outputs):
            readers = [reader for value in node.outputs for reader in uses.readers.get(value.id, [])]
            if len(readers) == len(node.outputs) and all(_sums_trips(reader, node) for reader in readers):
                found[id(node)] = readers
    return found


def _sums_trips(node: Node, loop: Node) -> bool:
    return op_of(node).adds_in_order and node.names("over") == loop.names("over")


def _stages(graph: Graph) -> list[_Stage]:
    """The stage of each node. A move stays in the stage of what it moves, if that is no operation of the stage."""
    found: dict[int, tuple[_Stage, bool]] = {}
    stages: list[_Stage] = []
    for node in graph.nodes:
        before = [found[value.id] for value in node.value_inputs if value.id in found]
        (first, second) = max([stage for stage, _ in before], default=(0, 0))
        together = any(stage == (first, second) and soft for stage, soft in before)
        if _opens(node):
            stage = (first + 1, 0)
        elif _is_border(node):
            stage = (first, second + together)
        else:
            stage = (first, second)
        stages.append(stage)
        found |= {value.id: (stage, not _is_border(node)) for value in node.outputs}
    return stages
