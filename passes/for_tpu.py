"""What a placed graph is rewritten to before a TPU's compiler takes it: the same values by the same operations.

A TPU keeps arrays in tiles, and XLA chooses for each array which of its dims fill them. Some of its choices cost a
step more than they save, by its own estimates as well, and the program need not leave them to it:

- JAX writes the gradient of a weight as a product with its dims the other way round, and a transpose of it. A reduction
  between the two has the layout of the product, and what is computed from it takes that over: all of Adam's state was
  copied to the transposed layout and back in every step. Here the product has its dims as they are read: its operands
  are exchanged, and the sums are the same sums of the same products.
- What products compute on the way (`traffic`) need not exist, unless XLA finds that it takes too long to be computed
  twice, as an exponential does: the gradient of the logits was written though the logits are there. Here each product
  has a chain of its own, of values that are in memory anyway, unless what it makes can stay on the chip.
- What is reduce-scattered must lie so that its shards are whole tiles, or all of it is reduced on every device: twice
  the bytes. Here it is told how it is to lie (`passes.scattered_for_tpu`).

Collectives, their order and their bytes stay as they are printed.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from math import prod
from typing import Any

from ir.graph import Attr, Graph, Node, Origin, Value
from ir.jax_api import lax, make_jaxpr
from ir.ops import op_of
from ir.ops.products import product_labels
from ir.rewrite import Rewriter, Scope
from ir.types import item_size
from passes.hardware.chip import chip_of
from passes.hardware.memory import ChipMemory
from passes.planner.layouts import Layouts
from passes.planner.traffic import traffic
from passes.scattered_for_tpu import scattered_for_tpu
from passes.stage import Pass, Stage
from passes.stages import in_stages

TPU = "tpu"
"""The platform, as JAX calls it."""
_UNKNOWN = ChipMemory(tile=(8, 128))
_BARRIER: Any = make_jaxpr(lax.optimization_barrier)(0.0).eqns[0].primitive


@dataclass(frozen=True)
class ForTpu(Pass):
    """Pass: writes a step that is compiled for a TPU so that it copies and writes less, by the same operations.

    Attributes:
        platform: what the step is compiled for; for another than `tpu` it stays as it is.
    """

    needs = "mesh"
    platform: str = "cpu"

    def apply(self, stage: Stage) -> Stage:
        assert stage.mesh is not None
        if self.platform != TPU or (stage.mesh.devices == 1 and not in_stages(stage.graph)):
            return stage
        if stage.plan is not None:
            return replace(stage, graph=for_tpu(stage.graph, stage.plan))
        memory = chip_of(stage.hardware).memory
        return replace(stage, graph=_rewritten(stage.graph, _Room(stage.mesh.as_dict(), memory)))


def for_tpu(graph: Graph, plan: Layouts) -> Graph:
    """A placed graph as a TPU's compiler is given it, bodies included."""
    return scattered_for_tpu(_rewritten(graph, _Room(plan.mesh.as_dict(), _memory(plan))), plan)


def _memory(plan: Layouts) -> ChipMemory:
    return plan.chip.memory if plan.hardware or plan.custom_chip else _UNKNOWN


def _rewritten(graph: Graph, room: "_Room") -> Graph:
    graph = _in_read_order(graph)
    return _on_the_way(graph, Rewriter(graph), room)


@dataclass(frozen=True)
class _Room:
    """What a chip can hold."""

    sizes: Mapping[str, int]
    memory: ChipMemory

    def has(self, value: Value) -> bool:
        """Whether a value can stay on the chip, where it costs less to write than to compute twice."""
        lengths = [dim.size // prod(self.sizes[axis] for axis in dim.mesh) for dim in value.type.dims]
        return int(self.memory.bytes(lengths, item_size(value.type.dtype))) <= self.memory.on_chip


# --- products with their dims in the order in which they are read ---------------------------------------------------


def _in_read_order(graph: Graph) -> Graph:
    reads, makers = _reads(graph), {value.id: node for node in graph.nodes for value in node.outputs}
    changed: dict[int, Value] = {}
    gone: dict[int, Value] = {}
    for node in graph.nodes:
        order = _order(node)
        chain = _from_a_product(node, makers, reads) if order else []
        if chain and _exchanges(order, chain[-1]):
            for value in (each.outputs[0] for each in chain):
                dims = tuple(value.type.dims[position] for position in order)
                changed[value.id] = Value(value.id, replace(value.type, dims=dims))
            gone[node.outputs[0].id] = changed[chain[0].outputs[0].id]
    scope = Scope()
    for node in graph.nodes:
        first = node.outputs[0] if node.outputs else None
        node = scope.current(node, _in_read_order)
        if first is not None and first.id in gone:
            scope.define(first, gone[first.id])
            continue
        if first is not None and first.id in changed:
            node = _exchanged(node) if op_of(node).multiplies else node
            node = replace(node, outputs=(scope.define(first, changed[first.id]),))
        scope.append(node)
    return scope.finish(graph)


def _order(node: Node) -> list[int]:
    """Of a transpose, for each dim of the result the position of the operand's; else nothing."""
    targets = op_of(node).targets(node) if op_of(node).transposes(node) else None
    known = [target for target in targets or () if target is not None]
    if targets is None or len(known) < len(targets):
        return []
    return sorted(range(len(known)), key=lambda position: known[position])


def _from_a_product(node: Node, makers: Mapping[int, Node], reads: Mapping[int, int]) -> list[Node]:
    """The nodes between a node and the product of which it has its operand, which nothing else reads; last the product
    itself. None of them cares where a dim stands."""
    found: list[Node] = []
    while node.value_inputs and reads[node.value_inputs[0].id] == 1 and node.value_inputs[0].id in makers:
        node = makers[node.value_inputs[0].id]
        found.append(node)
        if op_of(node).multiplies and not node.fn:
            return found
        if len(node.inputs) + len(node.outputs) > 2 or not (op_of(node).completes_sums or op_of(node).is_elementwise):
            break
    return []


def _exchanges(order: Sequence[int], product: Node) -> bool:
    """Whether dims of a product in this order are what is left of the second operand, then of the first."""
    (left, right, made), _ = product_labels(product)
    batch = [label for label in made if label in left and label in right]
    first = [label for label in made if label in left and label not in right]
    second = [label for label in made if label in right and label not in left]
    return bool(first and second) and [made[position] for position in order] == [*batch, *second, *first]


def _exchanged(product: Node) -> Node:
    """The product of the same operands the other way round, but for its result."""
    attrs: dict[str, Attr] = dict(product.attrs)
    for own, other in (("over", "with"), ("batch", "batch_with")):
        if other in attrs:
            attrs |= {own: attrs[other], other: attrs[own]}
    origin = product.origin
    if origin is not None:
        over, batch = origin.params["dimension_numbers"]
        params = {**origin.params, "dimension_numbers": (over[::-1], batch[::-1])}
        if isinstance(params.get("precision"), tuple):
            params["precision"] = params["precision"][::-1]
        origin = replace(origin, params=params)
    return replace(product, inputs=product.inputs[::-1], attrs=attrs, origin=origin)


# --- what several products compute on the way -----------------------------------------------------------------------


def _on_the_way(graph: Graph, rewriter: Rewriter, room: _Room) -> Graph:
    kept = traffic(graph, True, room.memory.tile[1]).kept
    makers = {value.id: node for node in graph.nodes for value in node.outputs}
    readers: dict[int, list[Node]] = {}
    for node in graph.nodes:
        for value in node.value_inputs:
            readers.setdefault(value.id, []).append(node)
    begun: set[int] = set()
    scope = Scope()
    for node in graph.nodes:
        node = scope.current(node, lambda body: _on_the_way(body, rewriter, room))
        inputs = list(node.inputs)
        for at, operand in enumerate(node.inputs if op_of(node).multiplies else ()):
            if not isinstance(operand, Value) or operand.id in kept or room.has(operand):
                continue
            chain = _chain(operand, kept, makers)
            if not _takes_long(operand, chain) or not _is_there_anyway(operand, chain, readers):
                continue
            if operand.id in begun:
                inputs[at] = _again(operand, chain, scope, rewriter)
            begun.add(operand.id)
        scope.append(replace(node, inputs=tuple(inputs)))
    return scope.finish(graph)


def _chain(value: Value, kept: frozenset[int], makers: Mapping[int, Node]) -> list[Node]:
    """The nodes that make a value from what is in memory, in their order."""
    found: dict[int, Node] = {}
    left = [value]
    while left:
        each = left.pop()
        if each.id not in kept and each.id not in found:
            found[each.id] = makers[each.id]
            left += makers[each.id].value_inputs
    order = {id(node): i for i, node in enumerate(makers.values())}
    return sorted(found.values(), key=lambda node: order[id(node)])


def _takes_long(value: Value, chain: Sequence[Node]) -> bool:
    """Whether XLA would rather write a value than compute it twice."""
    return any(op_of(node).long_parts(node) and node.outputs[0].type.elements == value.type.elements for node in chain)


def _is_there_anyway(value: Value, chain: Sequence[Node], readers: Mapping[int, Sequence[Node]]) -> bool:
    """Whether what a chain begins with, and is as large as what it makes, is read by others that are not fused, as by
    the maximum and the sum of a softmax; what is made for the chain alone XLA makes together with it."""
    within = {id(node) for node in chain}
    made = {each.id for node in chain for each in node.outputs}
    size = value.type.elements
    large = {each.id for node in chain for each in node.value_inputs if each.type.elements == size} - made
    on_the_way = {each.id for node in chain for each in node.outputs if each.type.elements == size} - {value.id}
    others = [node for each in (*large, *on_the_way) for node in readers[each] if id(node) not in within]
    return any(op_of(node).fuses_operands and not op_of(node).fusible for node in others)


def _again(value: Value, chain: Sequence[Node], scope: Scope, rewriter: Rewriter) -> Value:
    """The value made once more, of operands that the compiler cannot tell to be those of before."""
    size = value.type.elements
    now: dict[int, Value] = {}
    for node in chain:
        for operand in node.value_inputs:
            if operand.id not in now and operand.type.elements == size:
                now[operand.id] = rewriter.fresh(operand)
                scope.append(_behind_a_barrier(node, operand, now[operand.id]))
        fresh = tuple(rewriter.fresh(each) for each in node.outputs)
        inputs = tuple(now.get(each.id, each) if isinstance(each, Value) else each for each in node.inputs)
        scope.append(replace(node, inputs=inputs, outputs=fresh))
        now |= {old.id: new for old, new in zip(node.outputs, fresh, strict=True)}
    return now[value.id]


def _behind_a_barrier(node: Node, operand: Value, result: Value) -> Node:
    origin = Origin(_BARRIER, {}, *_infos(node))
    return Node(
        "map", "optimization_barrier", (operand,), (result,), phase=node.phase, source=node.source, origin=origin
    )


def _infos(node: Node) -> tuple[Any, ...]:
    origin = node.origin
    return () if origin is None else (origin.context, origin.own_info, origin.caller_info)


def _reads(graph: Graph) -> Counter[int]:
    read = Counter(operand.id for node in graph.nodes for operand in node.value_inputs)
    read.update(operand.id for operand in graph.outputs if isinstance(operand, Value))
    return read
