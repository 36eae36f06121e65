"""Other orders in which names may take mesh axes, where that makes a difference that no sharding alone makes.

The names of the batch come first, so what shares an array with them never has a mesh axis that they want. That is right
but for one kind of product: each entry of an axis that the batch and the weights both have is multiplied by weights of
its own, as the experts of a mixture are. Where such a name comes before the batch, the batch goes to the weights and
back by all-to-alls, and not the weights to the batch (expert parallelism on the batch's mesh axis: Lepikhin et al.,
"GShard", arXiv:2006.16668). It does so where one of the weights' other names is: with `{"mlp": ("experts", "batch")}`
in the products with the experts' weights, not in the router.

Only what is exchanged so is searched, and nothing that would gather the batch, as the weights that are smaller are
better gathered, or summed over by a name that is sharded in any order. An all-to-all brings a mesh axis from one dim of
an array to another one. So each operand with the name of the batch must have the other name too, wherever the order is
another one, and the result of a product with weights must have both. A step without such a product, and a mesh none of
whose axes both names can have, are searched in one order: in the others there is nothing else.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import chain, product

import numpy as np

from ir.graph import Graph, Node
from ir.ops import entered, op_of
from passes.planner.space import PlanSpace
from passes.planner.undivided import batch_axes
from passes.sharding.roles import Roles
from passes.sharding.rules import OrderWhere

ORDER = "order"
"""What is explained of a plan besides its names: the other orders."""
_Pair = tuple[str, str]
"""A name, and one of the batch, which comes before it in the order of the space."""


def orders(graph: Graph, roles: Roles, space: PlanSpace) -> tuple[OrderWhere, ...]:
    """The orders to search, that of the space itself first: each pair of names the other way round nowhere, or where
    one of the weights' names is."""
    batch = batch_axes(graph)
    places: dict[_Pair, dict[str, None]] = {}
    for node in graph.walk() if batch else ():
        if node.phase == "forward" and not entered(node) and op_of(node).flops(node):
            for pair, weights in _exchanged(node, roles, batch):
                if _competing(space, *pair):
                    only = [where for where in sorted(weights - {*pair}) if _only_exchanged(graph, where, *pair)]
                    places.setdefault(pair, {}).update(dict.fromkeys(only))
    ways = [[None, *(((where, pair),) for where in each)] for pair, each in places.items()]
    found: list[OrderWhere] = [dict(chain.from_iterable(filter(None, each))) for each in product(*ways)]
    return tuple({str(sorted(each.items())): each for each in found}.values())


def _exchanged(node: Node, roles: Roles, batch: Mapping[str, int]) -> Iterator[tuple[_Pair, set[str]]]:
    """Pairs of names that an operand and the result of a product have, and its weights only the first of; with the
    names of the weights. The window of a convolution is no axis of what it goes over, whatever its name."""
    tensors = [(set(value.type.names), roles[value.id]) for value in node.value_inputs if value.type.dims]
    results = set[str]().union(*(value.type.names for value in node.outputs))
    window = set(node.names("window"))
    for weights in (names for names, role in tensors if role != "compute"):
        for others in (names & results for names, role in tensors if role == "compute"):
            for name, before in product(sorted(weights & others - {*batch} - window), batch):
                if before in others - weights:
                    yield (name, before), weights


def _only_exchanged(graph: Graph, where: str, name: str, before: str) -> bool:
    """Whether no operation that has three names has an operand with the last alone."""
    for node in graph.walk():
        if not entered(node):
            operands = [set(value.type.names) for value in node.value_inputs]
            names = set[str]().union(*operands, *(value.type.names for value in node.outputs))
            if {where, name, before} <= names and any(before in each and name not in each for each in operands):
                return False
    return True


def _competing(space: PlanSpace, name: str, before: str) -> int:
    """The mesh axes that both names can have."""
    if name not in space.options or before not in space.options:
        return 0
    return int(np.bitwise_or.reduce(space.options[name]) & np.bitwise_or.reduce(space.options[before]))


def _narrowed(space: PlanSpace, where: OrderWhere) -> PlanSpace:
    """A space in another order, with the plans alone in which both names are on some mesh axis: without that nothing is
    exchanged."""
    options = dict(space.options)
    pairs = tuple([(name, before) for name, before in where.values()])
    for name, before in pairs:
        axes = _competing(space, name, before)
        options |= {each: options[each][(options[each] & axes) != 0] for each in (name, before)}
    return replace(space, options=options, order_where=where, together=pairs)


def in_each_order(spaces: Sequence[PlanSpace], others: Iterable[OrderWhere]) -> list[PlanSpace]:
    """Parts of a space, and the same with the names in other orders, as far as they have a plan of their own there."""
    found = list(spaces)
    for where in others:
        parts = (_narrowed(space, where) for space in spaces)
        found += [part for part in parts if part.plans]
    return found
