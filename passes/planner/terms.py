"""The cost of a step as a sum of small tables.

A term is what one node, or one value on its way to its readers, costs; it depends only on the layouts of a few names.
Equal terms (the same types, roles and names) are counted, not repeated, and a loop's body counts once per trip, but for
the reductions that wait for its end (`passes.defer_sums`); of sums that are added up one is reduced
(`passes.join_sums`). The planner evaluates each term for all wishes of its names at once.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import partial, reduce
from itertools import chain
from typing import Any

import numpy as np

from ir.analysis.uses import Uses
from ir.graph import Graph, Node, Value
from ir.ops import entered, op_of
from passes.hardware.network import Network
from passes.planner.beside import behind_products
from passes.planner.cost import (
    Copy,
    Cost,
    Work,
    copies_cost,
    operation_seconds,
    permute_cost,
    product_width,
    reshard_cost,
    started,
)
from passes.planner.halves import Halves, is_uniform, slices_of_stacks
from passes.planner.moved import Moved, Moving, Turned
from passes.planner.rounds import goes_round, rounds
from passes.planner.rounds import key as rounds_key
from passes.sharding.iteration_space import (
    Reshard,
    Space,
    body_result_reshards,
    operand_reshards,
    reduced_in,
    result_reshards,
    space_of,
    value_layout,
)
from passes.sharding.joined import joined_sums
from passes.sharding.mesh import same_masks
from passes.sharding.once import Once, gathers_once, sums_once
from passes.sharding.reshard import reordered
from passes.sharding.roles import Roles
from passes.sharding.rules import ShardingRules, sizes_of


@dataclass
class Term:
    """One summand.

    Attributes:
        price: what it costs once.
        times: how often it occurs.
        seen: the names whose mesh axes matter to it (None: all).
        lent: names whose dims may get the mesh axes of another name. Their own rules then say in which order.
    """

    price: Callable[[ShardingRules], Cost]
    times: float = 1.0
    seen: tuple[str, ...] | None = None
    lent: tuple[str, ...] = ()


def cost_terms(graph: Graph, roles: Roles, network: Network, regather: bool = False, once: bool = True) -> list[Term]:
    """All terms of a graph, equal ones merged, in order of first appearance.

    Args:
        regather: what the backward pass reads of stored values is not what was gathered for the forward pass.
        once: what loops need not do in every trip is done once, and what is added up is reduced once.
    """
    merged: dict[Hashable, Term] = {}
    read = _Read.of(graph) if network.sends is not None else None
    sums = sums_once(graph) if once else {}
    joined = joined_sums(graph) if once else {}
    gathers = gathers_once(graph, roles) if once and not regather else {}
    moving = Moving.of(graph, roles, network.chip.memory)
    every = chain(
        _Terms(roles, network, sums, gathers, joined, regather, read, moving).scope(graph, 1.0),
        _settled(graph, roles, network),
    )
    for key, term in every:
        if key in merged:
            merged[key].times += term.times
        else:
            merged[key] = term
    return list(merged.values())


def _settled(graph: Graph, roles: Roles, network: Network) -> Iterator[tuple[Hashable, Term]]:
    """State that the update makes in shards and that is kept as it is computed with: gathered when the step ends, if no
    reader has it so already."""
    readers = Uses.of_scope(graph).readers
    pairs = ((graph.outputs[after], graph.inputs[before]) for before, after in graph.carried)
    ways = {(value.id, roles[kept.id]): (value, kept) for value, kept in pairs if isinstance(value, Value)}
    for value, kept in ways.values():
        if value.type.dims and roles[value.id] != roles[kept.id]:
            nodes = readers.get(value.id, [])
            distinct = {_reader_key(node, value, roles): node for node in nodes}
            price = partial(
                _settling, value=value, kept=kept, nodes=list(distinct.values()), roles=roles, network=network
            )
            key = ("settled", _signature(value, roles), roles[kept.id], tuple(sorted(map(str, distinct))))
            yield key, Term(price)


def _settling(
    rules: ShardingRules, *, value: Value, kept: Value, nodes: list[Node], roles: Roles, network: Network
) -> Cost:
    reshard = _settled_as(value, kept, roles, rules)
    fresh = np.float64(1.0)
    for node in nodes:
        for other in operand_reshards(node, roles, rules, only=value):
            fresh = fresh * (1.0 - _same_target(reshard, other))
    return reshard_cost(reshard, rules, network, fresh)


def _settled_as(value: Value, kept: Value, roles: Roles, rules: ShardingRules) -> Reshard:
    """State that a step has made on its way to how it is kept."""
    source, target = value_layout(value, roles, rules), value_layout(kept, roles, rules)
    return Reshard(value, roles[value.id], roles[kept.id], source, (), target)


@dataclass(frozen=True)
class _Read:
    """How the values of a graph are read, as far as it decides what is sent.

    Attributes:
        halves: which of them products take as bfloat16.
        uniform: those that are one number everywhere.
        sliced: those that loops read as slices of stacks.
        kept: of what the step carries the input that it is next time.
    """

    halves: Halves
    uniform: frozenset[int]
    sliced: frozenset[int]
    kept: Mapping[int, Value]

    @classmethod
    def of(cls, graph: Graph) -> _Read:
        uniform = frozenset(value.id for node in graph.walk() if is_uniform(node) for value in node.outputs)
        pairs = ((graph.outputs[after], graph.inputs[before]) for before, after in graph.carried)
        return cls(
            Halves.of(graph),
            uniform,
            slices_of_stacks(graph),
            {value.id: kept for value, kept in pairs if isinstance(value, Value)},
        )


@dataclass(frozen=True)
class _Terms:
    roles: Roles
    network: Network
    sums: Mapping[int, Once]
    gathers: Mapping[int, Once]
    """By number, sums that are reduced after a loop, and values that are gathered before it."""
    joined: Mapping[int, Node]
    """By number, sums that are added to that of another node, and reduced as one."""
    regather: bool
    read: _Read | None
    """What the network's compiler sends depends on; None where it sends what is printed."""
    moving: Moving

    def scope(self, graph: Graph, times: float, before: bool = False) -> Iterator[tuple[Hashable, Term]]:
        """The terms of a body that runs so often.

        Args:
            before: whether what is gathered before it is gathered behind a product.
        """
        roles, network = self.roles, self.network
        behind = dict(zip(map(id, graph.nodes), behind_products(graph), strict=True))
        for node, moved in zip(graph.nodes, self.moving.in_scope(graph), strict=True):
            if not entered(node):
                made = node.outputs[0].id if node.outputs else None
                first = self.joined.get(made) if made is not None and made not in self.sums else None
                once = self.sums.get(made, Once()) if made is not None else Once()
                yield from _node_terms(node, moved, roles, network, times, once, first, self.read)
                continue
            trips = times * op_of(node).trips(node, network.mesh.devices)
            for body in entered(node):
                yield from self.scope(body, trips, behind[id(node)])
            yield from _leaving_terms(node, roles, network, trips)
        values = {value.id: value for node in graph.nodes for value in node.value_inputs if value.type.dims}
        readers = Uses.of_scope(graph).readers
        for identity, value in values.items():
            again = self.regather and roles[identity] == "storage"
            late = [node for node in readers[identity] if again and node.phase == "backward"]
            early = [node for node in readers[identity] if not (again and node.phase == "backward")]
            for nodes in filter(None, (early, late)):
                once = self.gathers.get(identity, Once())
                beside = self.read is not None and (behind[id(nodes[0])] if once == Once() else before)
                yield from _reader_term(value, nodes, roles, network, times, once, self.read, beside)


def _signature(value: Value, roles: Roles) -> Hashable:
    return (value.type, roles[value.id])


def _node_terms(
    node: Node,
    moved: tuple[Moved | Turned, ...],
    roles: Roles,
    network: Network,
    times: float,
    once: Once,
    first: Node | None,
    read: _Read | None,
) -> Iterator[tuple[Hashable, Term]]:
    """The price of a node, and apart from it, since it depends on more, that of its results' reductions: after a loop
    if these wait for one, none if its sum is added to that of the node `first`."""
    space = space_of(node, roles)
    work = Work.of(node, network.chip.memory)

    def computed(rules: ShardingRules) -> Cost:
        seconds = operation_seconds(node, moved, roles, rules, network.chip, space, work)
        if not goes_round(node):
            return Cost(compute=seconds)
        sent = rounds(node, seconds, roles, rules, network)
        return Cost(compute=seconds, activations=sent.exposed, covered=sent.covered)

    if work.flops or moved:
        arithmetic_key = (work, product_width(node), space.key) if work.flops else None
        sizes = tuple(sorted(each.key for each in moved))
        key = ("node", arithmetic_key, rounds_key(node), started(moved, network.chip), sizes)
        yield key, Term(computed, times)
    if op_of(node).renames:
        yield from _order_terms(node, roles, network, times)
    if all(_made_in_place(space, value, roles) for value in node.outputs):
        return
    other = space_of(first, roles) if first is not None else None
    halved = [read is not None and read.halves.take(value) for value in node.outputs]

    def settled(rules: ShardingRules) -> Cost:
        cost = Cost()
        for reshard, narrow in zip(result_reshards(node, roles, rules, space), halved, strict=True):
            active = once.share
            if first is not None:
                active = active * (1.0 - _same_sum(reshard, result_reshards(first, roles, rules, other)[0]))
            cost.add(reshard_cost(_moved(reshard, once), rules, network, active, narrow))
        return cost

    key = (
        "results",
        tuple(halved),
        op_of(node).reduction(node),
        op_of(node).sums(node),
        once,
        (other.key, other.reduced) if other is not None else None,
        _signature(first.outputs[0], roles) if first is not None else None,
        space.key,
        tuple((reduced_in(node, space, value), _signature(value, roles)) for value in node.outputs),
    )
    yield key, Term(settled, times)


def _order_terms(node: Node, roles: Roles, network: Network, times: float) -> Iterator[tuple[Hashable, Term]]:
    """Where a dim gets another name, what it takes that the rules of this one have its mesh axes in another order."""
    (value,), (result,) = node.value_inputs, node.outputs
    dims = zip(value.type.dims, result.type.dims, strict=True)
    names = [(a.name, b.name) for a, b in dims if a.name is not None and b.name is not None and a.name != b.name]
    if not names:
        return

    def price(rules: ShardingRules) -> Cost:
        layout = operand_reshards(node, roles, rules)[0].target
        moved: Any = 0
        for old, new in names:
            moved = moved | reordered(rules.mesh, rules.compute, old, new, layout[old])
        return permute_cost(result_reshards(node, roles, rules)[0], moved, network)

    key = ("order", _signature(value, roles), _signature(result, roles))
    yield key, Term(price, times, lent=tuple(dict.fromkeys(name for pair in names for name in pair)))


def _made_in_place(space: Space, value: Value, roles: Roles) -> bool:
    """Whether a result comes out of an operation as it is kept, whatever the plan."""
    same = space.sizes == sizes_of(value.type) and space.role == roles[value.id]
    return same and not space.reduced and not space.blocked


def _same_sum(reshard: Reshard, other: Reshard) -> Any:
    """Whether two results are pending over the same mesh axes and go the same way from there: 1 or 0."""
    masks = [reduce(np.bitwise_or, map(np.asarray, each.pending)) for each in (reshard, other)]
    names = sizes_of(reshard.value.type).keys() & sizes_of(other.value.type).keys()
    ways = ((reshard.source, other.source), (reshard.target, other.target))
    there = same_masks((mine.get(name, 0), its.get(name, 0)) for name in names for mine, its in ways)
    return ((masks[0] == masks[1]) & (masks[0] != 0) & there).astype(np.float64)


def _moved(reshard: Reshard, once: Once) -> Reshard:
    """The reshard of what goes between devices once."""
    value = reshard.value
    return reshard if once == Once(once.share) else replace(reshard, value=replace(value, type=once.moved(value.type)))


def _leaving_terms(node: Node, roles: Roles, network: Network, times: float) -> Iterator[tuple[Hashable, Term]]:
    """Results of a body that must be resharded as the results of the node are."""
    for position, results in body_result_reshards(node, roles, ShardingRules(network.mesh, (), {}, {})):
        for i, reshard in enumerate(results):
            if reshard is None or reshard.role == reshard.target_role:
                continue

            def price(rules: ShardingRules, position: int = position, i: int = i) -> Cost:
                reshards = dict(body_result_reshards(node, roles, rules))[position]
                reshard = reshards[i]
                return reshard_cost(reshard, rules, network) if reshard is not None else Cost()

            key = ("leaving", _signature(reshard.value, roles), reshard.target_role)
            yield key, Term(price, times, lent=tuple(reshard.value.type.names))


def _reader_term(
    value: Value,
    nodes: list[Node],
    roles: Roles,
    network: Network,
    times: float,
    once: Once,
    read: _Read | None,
    beside: bool,
) -> Iterator[tuple[Hashable, Term]]:
    """A value on its way to all its readers: those that want it in the same place share one copy, and the others the
    steps that begin their ways."""
    distinct: dict[Hashable, Node] = {}
    halved: dict[Hashable, bool] = {}
    for node in nodes:
        key = _reader_key(node, value, roles)
        distinct.setdefault(key, node)
        halved[key] = halved.get(key, True) and read is not None and read.halves.read(node, value)
    own = _own_space(value, roles)
    wanting = {key: node for key, node in distinct.items() if key != own}
    if not wanting:
        return
    chosen = [(node, None if entered(node) else space_of(node, roles), halved[key]) for key, node in wanting.items()]
    kept = read.kept.get(value.id) if read is not None else None
    uniform = read is not None and value.id in read.uniform
    sliced = read is not None and value.id in read.sliced and once == Once(once.share)

    def price(rules: ShardingRules) -> Cost:
        copies = [
            Copy(_moved(reshard, once), narrow)
            for node, space, narrow in chosen
            for reshard in operand_reshards(node, roles, rules, value, space)
        ]
        cost = Cost()
        wide = [_settled_as(value, kept, roles, rules)] if kept is not None else []
        of = {"uniform": uniform, "beside": beside, "sliced": sliced}
        cost.add(copies_cost(copies, rules, network, wide=wide, **of), once.share)
        return cost

    # What other names of a reader take is all that matters of them; where one name is read as another, and across the
    # border of a body, it is not.
    plain = not any(entered(node) or op_of(node).renames for node, _, _ in chosen)
    seen = tuple(sizes_of(value.type)) if plain else None
    told = tuple(sorted((str(key), halved[key]) for key in wanting))
    key = ("reader", _signature(value, roles), once, told, uniform, beside, sliced, kept is not None and roles[kept.id])
    lent = tuple(dict.fromkeys(name for node, _, _ in chosen for name in _renamed(node, value)))
    yield key, Term(price, times, seen, lent)


def _renamed(node: Node, value: Value) -> Iterator[str]:
    """The names of a value whose dims have another one where a node has read it."""
    twins: list[Value] = [inside for operand, inside in _feeds(node) if operand == value] if entered(node) else []
    if op_of(node).renames and not entered(node):
        twins = [node.outputs[0]]
    for twin in twins:
        yield from _other_names(value, twin)


def _other_names(value: Value, twin: Value) -> Iterator[str]:
    """The names of a value that its twin, dim by dim from the last, does not have there."""
    for mine, its in zip(reversed(value.type.dims), reversed(twin.type.dims), strict=False):
        if mine.name is not None and mine.name != its.name:
            yield mine.name


def _reader_key(node: Node, value: Value, roles: Roles) -> Hashable:
    if entered(node):
        wanted = sorted({roles[inside.id] for operand, inside in _feeds(node) if operand == value})
        return ("body", tuple(sorted(sizes_of(value.type).items())), tuple(wanted))
    space = space_of(node, roles)
    renamed = str(node.outputs[0].type) if op_of(node).renames else ""
    return ("space", *space.key, renamed)


def _own_space(value: Value, roles: Roles) -> Hashable:
    """The key of a reader that takes the value as it is sharded: the most common case, not worth a term."""
    return ("space", tuple(sorted(sizes_of(value.type).items())), roles[value.id], (), "")


def _feeds(node: Node) -> list[tuple[Value, Value]]:
    return [
        (operand, inside)
        for _, feeds in op_of(node).body_operands(node)
        for operand, inside, _ in feeds
        if isinstance(operand, Value)
    ]


def _same_target(first: Reshard, second: Reshard) -> Any:
    same = same_masks((mask, second.target.get(name, 0)) for name, mask in first.target.items())
    return same.astype(np.float64)
