"""The cost of a step as a sum of small tables.

A term is what one node, or one value on its way to its readers, costs; it depends only on the layouts of the few names
that it mentions. Equal terms (the same types, roles and names) are counted, not repeated, and a loop's body counts once
per trip, but for the reductions that wait for its end (`passes.defer_sums`). The planner evaluates each term for all
options of its names at once.
"""

from collections.abc import Callable, Hashable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from ir.analysis.uses import Uses
from ir.graph import Graph, Node, Value
from ir.ops import entered, op_of
from ir.types import Dim
from passes.hardware.network import Network
from passes.planner.cost import Cost, operation_seconds, reshard_cost
from passes.planner.traffic import traffic
from passes.sharding.iteration_space import (
    Reshard,
    Space,
    body_result_reshards,
    operand_reshards,
    result_reshards,
    space_of,
)
from passes.sharding.once import Once, gathers_once, sums_once
from passes.sharding.roles import Roles
from passes.sharding.rules import ShardingRules, sizes_of


@dataclass
class Term:
    """One summand: the names it depends on, whether storage choices matter to it, its price, how often it occurs."""

    names: tuple[str, ...]
    stored: bool
    price: Callable[[ShardingRules], Cost]
    times: float = 1.0


def cost_terms(graph: Graph, roles: Roles, network: Network, regather: bool = False, once: bool = True) -> list[Term]:
    """All terms of a graph, equal ones merged, in order of first appearance.

    Args:
        regather: what the backward pass reads of stored values is not what was gathered for the forward pass.
        once: what loops need not do in every trip is done once.
    """
    merged: dict[Hashable, Term] = {}
    sums = sums_once(graph) if once else {}
    gathers = gathers_once(graph, roles) if once and not regather else {}
    for key, term in _Terms(roles, network, sums, gathers, regather).scope(graph, 1.0):
        if key in merged:
            merged[key].times += term.times
        else:
            merged[key] = term
    return list(merged.values())


@dataclass(frozen=True)
class _Terms:
    roles: Roles
    network: Network
    sums: Mapping[int, Once]
    gathers: Mapping[int, Once]
    """By number, sums that are reduced after a loop, and values that are gathered before it."""
    regather: bool

    def scope(self, graph: Graph, times: float) -> Iterator[tuple[Hashable, Term]]:
        """The terms of a body that runs so often."""
        roles, network = self.roles, self.network
        flow = traffic(graph)
        for node, moved in zip(graph.nodes, flow.moved, strict=True):
            if not entered(node):
                once = self.sums.get(node.outputs[0].id, Once()) if node.outputs else Once()
                yield _node_term(node, moved, roles, network, times, once)
                continue
            trips = times * op_of(node).trips(node, network.mesh.devices)
            for body in entered(node):
                yield from self.scope(body, trips)
            yield from _leaving_terms(node, roles, network, trips)
        values = {value.id: value for node in graph.nodes for value in node.value_inputs if value.type.dims}
        readers = Uses.of_scope(graph).readers
        for identity, value in values.items():
            again = self.regather and roles[identity] == "storage"
            late = [node for node in readers[identity] if again and node.phase == "backward"]
            early = [node for node in readers[identity] if not (again and node.phase == "backward")]
            for nodes in filter(None, (early, late)):
                yield from _reader_term(value, nodes, roles, network, times, self.gathers.get(identity, Once()))


def _signature(value: Value, roles: Roles) -> Hashable:
    return (value.type, roles[value.id])


def _node_term(
    node: Node, moved: tuple[Value, ...], roles: Roles, network: Network, times: float, once: Once
) -> tuple[Hashable, Term]:
    """The price of a node, and of its results' reductions after a loop if these wait for one."""
    space = space_of(node, roles)
    stored = space.role == "storage" or any(roles[value.id] == "storage" for value in (*node.outputs, *moved))

    def price(rules: ShardingRules) -> Cost:
        cost = Cost(compute=operation_seconds(node, moved, roles, rules, network.chip))
        for reshard in result_reshards(node, roles, rules):
            cost.add(reshard_cost(_stacked(reshard, once.stacked), rules, network), once.share)
        return cost

    key = (
        "node",
        node.kind,
        once,
        space.key,
        space.reduced,
        tuple(_signature(value, roles) for value in node.outputs),
        tuple(_signature(value, roles) for value in moved),
        str(node.attrs.get("over", "")),
    )
    return key, Term(_names(space, moved), stored, price, times)


def _stacked(reshard: Reshard, count: int) -> Reshard:
    """The reshard of so many values at once."""
    if count == 1:
        return reshard
    value = reshard.value
    stack = replace(value.type, dims=(Dim(None, count), *value.type.dims))
    return replace(reshard, value=replace(value, type=stack))


def _names(space: Space, moved: tuple[Value, ...]) -> tuple[str, ...]:
    """All names that the price of a node depends on; a rename's operand has one that its space has not."""
    names = dict.fromkeys(space.sizes)
    for value in moved:
        names.update(dict.fromkeys(value.type.names))
    return tuple(names)


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
            yield key, Term(tuple(sizes_of(reshard.value.type)), True, price, times)


def _reader_term(
    value: Value, nodes: list[Node], roles: Roles, network: Network, times: float, once: Once
) -> Iterator[tuple[Hashable, Term]]:
    """A value on its way to all its readers: readers that want it in the same place share one copy."""
    distinct: dict[Hashable, Node] = {}
    for node in nodes:
        distinct.setdefault(_reader_key(node, value, roles), node)
    own = _own_space(value, roles)
    wanting = {key: node for key, node in distinct.items() if key != own}
    if not wanting:
        return
    chosen = list(wanting.values())
    names: dict[str, None] = dict.fromkeys(sizes_of(value.type))
    for node in chosen:
        if not entered(node):
            names.update(dict.fromkeys(space_of(node, roles).sizes))

    def price(rules: ShardingRules) -> Cost:
        cost = Cost()
        earlier: list[Reshard] = []
        for node in chosen:
            for reshard in operand_reshards(node, roles, rules):
                if reshard.value.id != value.id:
                    continue
                fresh = np.float64(1.0)
                for other in earlier:
                    fresh = fresh * (1.0 - _same_target(reshard, other))
                cost.add(reshard_cost(_stacked(reshard, once.stacked), rules, network, fresh), once.share)
                earlier.append(reshard)
        return cost

    stored = roles[value.id] == "storage" or any(_reads_stored(node, roles) for node in chosen)
    key = ("reader", _signature(value, roles), once, tuple(sorted(map(str, wanting))))
    yield key, Term(tuple(names), stored, price, times)


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


def _reads_stored(node: Node, roles: Roles) -> bool:
    if entered(node):
        return any(roles[inside.id] == "storage" for _, inside in _feeds(node))
    return space_of(node, roles).role == "storage"


def _same_target(first: Reshard, second: Reshard) -> Any:
    same = np.array(True)
    for name, mask in first.target.items():
        same = same & (np.asarray(mask) == np.asarray(second.target.get(name, 0)))
    return same.astype(np.float64)
