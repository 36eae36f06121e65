"""reshape: another memory order (`transpose`), dims of size 1 that go (`squeeze`), merges and splits (`reshape`)."""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from ir import errors, layout_errors
from ir.graph import Node
from ir.ops.grouping import factors, groups
from ir.ops.op import Names, Op, matched, names_of, params_of
from ir.ops.rule import Broken, Expected, Hole, Piece, Slot, listed, must, must_list, operands, same, without
from ir.ops.spread import ANY, Axes, Misplaced, Spread, pending, places
from ir.shards import Shards
from ir.types import Dim


class Reshape(Op):
    """`along` lists the operand's dims that are merged or split; `order` all of them, where they are read in another
    order than that of memory."""

    kind = "reshape"
    attributes = frozenset(("along", "order"))
    fusible = True
    repeats_places = True
    stays_proportional = True
    pads = True

    def results(self, node: Node) -> Sequence[Expected]:
        (operand,) = operands(node, 1, 1)
        type_, out = operand.type, node.outputs[0].type.dims if node.outputs else ()
        if node.fn == "transpose":
            dims = _transposed(type_.dims, out)
        elif node.fn == "squeeze":
            dims = _squeezed(type_.dims, out)
        else:
            must(node.fn == "reshape", Piece("op"), errors.rule_needs("`transpose`, `squeeze` or `reshape`"))
            if type_.elements != node.outputs[0].type.elements:
                raise Broken(Piece("result"), errors.rule_needs(f"the {type_.elements} elements of {type_}"))
            dims, along = _regrouped(_read(node, type_.dims), [dim.size for dim in out])
            must_list(node, "along", along)
        return [Expected((type_.dtype,), dims)]

    def spread(self, node: Node) -> Sequence[Spread]:
        """Dims move with what shards them. Of dims that are merged or split only the outermost may be sharded: its
        shards are shards of the outermost one that is made."""
        due = pending(node, ((0,),), ANY)
        dims, out = node.inputs[0].type.dims, node.outputs[0].type.dims
        if self.transposes(node):
            axes: list[Axes] = [()] * len(out)
            for dim, target in zip(dims, self.targets(node), strict=True):
                if target is not None:
                    axes[target] = dim.mesh
        else:
            axes = _regrouped_axes([dims[position] for position in self._reading(node)], [dim.size for dim in out])
        return [Spread(tuple(axes), due.partial, due.reduction)]

    def _reading(self, node: Node) -> Sequence[int]:
        """The positions of the operand's dims in the order in which they are read."""
        dims, order = node.inputs[0].type.dims, params_of(node).get("dimensions")
        if self.regroups(node) and order is not None:
            return list(map(int, order))
        return places(dims, node.dims("order")) if "order" in node.attrs else range(len(dims))

    def blocked(self, node: Node) -> Names:
        outgoing, incoming = names_of(node.outputs), names_of(node.value_inputs)
        kept = set(self._outermost(node))
        along = [name for name in node.names("along") if name not in kept]
        return tuple(dict.fromkeys((*along, *sorted(incoming ^ outgoing))))

    def _outermost(self, node: Node) -> Iterator[str]:
        """Names whose dims are the outermost of those that are merged or split, before and after: their shards are of
        the same elements."""
        if self.transposes(node) or not node.value_inputs:
            return
        dims, out = node.value_inputs[0].type.dims, node.outputs[0].type.dims
        read = [dims[position] for position in self._reading(node)]
        names = [*(dim.name for dim in dims), *(dim.name for dim in out)]
        for left, right in factors([dim.size for dim in read], [dim.size for dim in out]):
            name = read[left[0]].name if left and right else None
            if name is not None and name == out[right[0]].name and names.count(name) == 2:
                yield name

    def targets(self, node: Node) -> Sequence[int | None]:
        before, after = node.inputs[0].type.dims, node.outputs[0].type.dims
        if self.transposes(node):
            params = params_of(node)
            if "permutation" not in params:
                return matched(before, after)
            return [tuple(params["permutation"]).index(position) for position in range(len(before))]
        targets: list[int | None] = [None] * len(before)
        for left, right in factors([dim.size for dim in before], [dim.size for dim in after]):
            if len(left) == len(right) == 1:
                targets[left[0]] = right[0]
        return targets

    def keeps_elements(self, node: Node) -> bool:
        return "along" not in node.attrs and bool(node.value_inputs)

    def is_operand(self, node: Node) -> bool:
        return not self.transposes(node) and "order" not in node.attrs

    def transposes(self, node: Node) -> bool:
        return node.fn == "transpose"

    def reorders(self, node: Node) -> bool:
        return not self.regroups(node)

    def widens(self, node: Node) -> bool:
        before, after = ([size for size in v.type.shape if size != 1] for v in (node.inputs[0], node.outputs[0]))
        return before == after and not self.transposes(node)

    def local(self, node: Node, params: dict[str, Any], shards: Shards) -> Mapping[str, Any]:
        return {**params, "new_sizes": shards.shape(node.outputs[0].type)} if "new_sizes" in params else params

    def regroups(self, node: Node) -> bool:
        return node.fn == "reshape"


def _read(node: Node, dims: tuple[Dim, ...]) -> tuple[Dim, ...]:
    """The operand's dims in the order in which they are read."""
    order = listed(node, "order", dims, "the operand", required=False)
    if "order" not in node.attrs:
        return dims
    if without(dims, order) != [()]:
        text = ", ".join(f"{dim.name or '_'}={dim.size}" for dim in dims)
        raise Broken(Piece("attribute", key="order"), errors.rule_needs(f"the operand's dims in some order: {text}"))
    return order


def _transposed(dims: tuple[Dim, ...], out: tuple[Dim, ...]) -> tuple[Slot, ...]:
    if Counter((dim.name, dim.size) for dim in dims) != Counter((dim.name, dim.size) for dim in out):
        text = ", ".join(f"{dim.name or '_'}={dim.size}" for dim in dims)
        raise Broken(Piece("result"), errors.rule_needs(f"the operand's dims in some order: {text}"))
    return out


def _squeezed(dims: tuple[Dim, ...], out: tuple[Dim, ...]) -> tuple[Slot, ...]:
    """The operand's dims without some of size 1."""
    at = 0
    kept: list[Slot] = []
    for dim in dims:
        if at < len(out) and same(dim, out[at]):
            at += 1
            kept.append(dim)
        elif dim.size != 1:
            return tuple(each for each in dims if each.size != 1)
    return tuple(kept)


def _regrouped(dims: tuple[Dim, ...], sizes: Sequence[int]) -> tuple[tuple[Slot, ...], tuple[Dim, ...]]:
    """The dims of the result, and the operand's dims that are merged or split."""
    out: list[Slot] = [Hole(size) for size in sizes]
    along: list[Dim] = []
    for left, right in groups([dim.size for dim in dims], sizes):
        if len(left) == len(right) == 1:
            out[right[0]] = dims[left[0]]
        elif left and right:
            along += [dims[position] for position in left]
    return tuple(out), tuple(along)


def _regrouped_axes(dims: Sequence[Dim], sizes: Sequence[int]) -> list[Axes]:
    axes: list[Axes] = [()] * len(sizes)
    for left, right in groups([dim.size for dim in dims], sizes):
        real = [position for position in left if dims[position].size != 1]
        for position in left:
            if dims[position].mesh and position not in real[:1]:
                raise Misplaced(Piece("operand"), layout_errors.merged_behind(dims[position]))
        made = [position for position in right if sizes[position] != 1]
        if real and made:
            axes[made[0]] = dims[real[0]].mesh
    return axes
