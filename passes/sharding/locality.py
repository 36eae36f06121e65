"""Whether a node can run on shards as they are, by the rule of its op; what the partitioner does where it cannot.

Layouts are chosen by name. Where two names meet in one dim, or a name stands twice, that may be no layout for the dims
themselves; the rules of the ops (`Op.spread`), which go by position, are the judge.
"""

from collections.abc import Sequence
from dataclasses import replace

from ir.graph import Node
from ir.ops import op_of
from ir.ops.spread import Misplaced, Spread, layout_of
from ir.types import TensorType


def made_on_shards(node: Node) -> Sequence[Spread] | None:
    """How the results of a node are laid out where its operands are as their types say; None where no device could run
    it on these shards, or what it made were other shards, or another pending reduction, than its results' types say.

    The mesh axes of a dim may come in another order than the types have them.
    """
    try:
        found = op_of(node).spread(node)
    except Misplaced:
        return None
    if found is None:
        return [layout_of(value.type) for value in node.outputs]
    fits = all(_same_shards(spread, layout_of(value.type)) for spread, value in zip(found, node.outputs, strict=True))
    return found if fits else None


def _same_shards(found: Spread, wanted: Spread) -> bool:
    if set(found.partial) != set(wanted.partial) or (found.partial and found.reduction != wanted.reduction):
        return False
    return all(set(a) == set(b) for a, b in zip(found.dims, wanted.dims, strict=True))


def in_order(type_: TensorType, spread: Spread) -> TensorType:
    """The type with the mesh axes of its dims in the order that a layout has them."""
    return replace(type_, dims=tuple([replace(d, mesh=axes) for d, axes in zip(type_.dims, spread.dims, strict=True)]))
