"""What the ops that passes insert share: one value, brought to another place on the mesh.

`axis` is the name that moves, `mesh` the mesh axes it moves over, `bytes` what one group of devices handles (after
gathering, before reducing), `moving` what the value is in the step.
"""

from abc import abstractmethod
from collections.abc import Iterator, Sequence
from typing import Any

from haliax.core.in_order import tree_sum
from ir import errors, layout_errors
from ir.graph import Node, Operand
from ir.jax_api import lax
from ir.ops.op import Op
from ir.ops.rule import OP, Expected, Fault, Piece, count, like, must, operands, words
from ir.ops.spread import Axes, Misplaced, Spread, described, layout_of
from ir.types import IN_ORDER, SUM


def moved(node: Node) -> Sequence[Expected]:
    """The result of what sends one value over mesh axes: dtype, names and sizes are the operand's."""
    (operand,) = operands(node, 1, 1)
    words(node, "mesh")
    if "bytes" in node.attrs:
        count(node, "bytes")
    must(len(node.outputs) == 1, Piece("op"), errors.rule_needs("one result"))
    return [like(operand.type)]


def axes_gained(node: Node) -> list[tuple[int, tuple[str, ...]]]:
    """(position, mesh axes) of each dim that has, behind a move, mesh axes that it had not, in their order."""
    return _differing(node.outputs[0], node.inputs[0])


def axes_lost(node: Node) -> list[tuple[int, tuple[str, ...]]]:
    """(position, mesh axes) of each dim that has lost mesh axes by a move, in their order."""
    return _differing(node.inputs[0], node.outputs[0])


def _differing(first: Operand, second: Operand) -> list[tuple[int, tuple[str, ...]]]:
    found: list[tuple[int, tuple[str, ...]]] = []
    for position, (a, b) in enumerate(zip(first.type.dims, second.type.dims, strict=True)):
        axes = tuple([axis for axis in a.mesh if axis not in b.mesh])
        if axes:
            found.append((position, axes))
    return found


class Move(Op):
    """The value stays what it is: dtype, names and sizes are the operand's."""

    attributes = frozenset(("axis", "mesh", "bytes", "moving"))
    crossings = 1.0

    def results(self, node: Node) -> Sequence[Expected]:
        return moved(node)

    def faults(self, node: Node) -> Iterator[Fault]:
        found = list(super().faults(node))
        yield from found or self._misplaced(node)

    @abstractmethod
    def lays(self, gained: set[str], lost: set[str], paid: set[str], mesh: set[str]) -> str:
        """What the move must do to the layout, where it does something else; empty where all is well.

        Args:
            gained: mesh axes that a dim has in the result and had not in the operand.
            lost: those that a dim had in the operand and has no longer.
            paid: those over which the operand was partial and the result is not.
            mesh: those that take part.
        """

    def _misplaced(self, node: Node) -> Iterator[Fault]:
        before, after = node.inputs[0].type, node.outputs[0].type
        gained: set[str] = set()
        lost: set[str] = set()
        for a, b in zip(before.dims, after.dims, strict=True):
            gained |= set(b.mesh) - set(a.mesh)
            lost |= set(a.mesh) - set(b.mesh)
        paid = set(before.partial) - set(after.partial)
        if set(after.partial) - set(before.partial):
            yield Fault(Piece("result"), errors.rule_needs("no reduction to become pending in a move"))
        elif wrong := self.lays(gained, lost, paid, set(node.words("mesh"))):
            yield Fault(Piece("result"), errors.rule_needs(wrong))


def with_dim(before: Spread, position: int, axes: Axes) -> Spread:
    """A layout with one dim sharded otherwise."""
    return Spread((*before.dims[:position], axes, *before.dims[position + 1 :]), before.partial, before.reduction)


def gaining(node: Node) -> int:
    """The position of the dim that gets mesh axes. Raises `Misplaced` where there is not exactly one."""
    pairs = zip(node.inputs[0].type.dims, node.outputs[0].type.dims, strict=True)
    found = [position for position, (a, b) in enumerate(pairs) if set(b.mesh) - set(a.mesh)]
    if len(found) != 1:
        raise Misplaced(Piece("result"), layout_errors.one_dim_moves(len(found), "gain"))
    return found[0]


def losing(node: Node) -> tuple[int, Axes]:
    """(position, mesh axes that are left) of the dim whose innermost mesh axes are those of `mesh`.

    Raises `Misplaced` where there is none.
    """
    mesh = node.words("mesh")
    dims = node.inputs[0].type.dims
    for position, dim in enumerate(dims):
        if mesh and set(dim.mesh[len(dim.mesh) - len(mesh) :]) == set(mesh):
            return position, dim.mesh[: len(dim.mesh) - len(mesh)]
    for dim in dims:
        if set(dim.mesh) & set(mesh):
            raise Misplaced(Piece("operand"), layout_errors.gathers_other_axes(dim, mesh))
    raise Misplaced(Piece("operand"), layout_errors.not_sharded_over(described(node.inputs[0]), mesh))


def gained(node: Node, position: int) -> Axes:
    """The mesh axes of `mesh` in the order in which a dim has them in the result: whichever that is, a device can take
    it. As `mesh` lists them, where the dim does not get just these."""
    mesh = node.words("mesh")
    had = node.inputs[0].type.dims[position].mesh
    got = tuple([axis for axis in node.outputs[0].type.dims[position].mesh if axis not in had])
    return got if set(got) == set(mesh) else mesh


def must_be_free(node: Node, axes: Axes) -> None:
    """Raises `Misplaced` where a mesh axis that a dim is to get is in use in the operand."""
    type_ = node.inputs[0].type
    for axis in axes:
        for dim in type_.dims:
            if axis in dim.mesh:
                raise Misplaced(OP, layout_errors.axis_is_used(axis, f"shards `{dim.name or '_'}={dim.size}`"))
        if axis in type_.partial:
            raise Misplaced(OP, layout_errors.axis_is_used(axis, "is one that the operand is partial over"))


def reduced(node: Node) -> Spread:
    """The layout without the reductions over `mesh`. Raises `Misplaced` where one of them is not pending."""
    before, mesh = layout_of(node.inputs[0].type), node.words("mesh")
    if missing := tuple(axis for axis in mesh if axis not in before.partial):
        raise Misplaced(Piece("operand"), layout_errors.nothing_pending(missing, before.partial))
    left = tuple(axis for axis in before.partial if axis not in mesh)
    if before.reduction == IN_ORDER and left != before.partial[: len(left)]:
        raise Misplaced(Piece("operand"), layout_errors.adds_out_of_order(mesh, before.partial))
    return Spread(before.dims, left, before.reduction if left else SUM)


def scattered_sum(array: Any, axes: Sequence[str], position: int) -> Any:
    """The sum, in the order of the devices along mesh axes, of what each of them has of this device's shard."""
    count = lax.psum(1, tuple(axes))
    shape = array.shape
    parts = array.reshape(*shape[:position], count, shape[position] // count, *shape[position + 1 :])
    return tree_sum(lax.all_to_all(parts, tuple(axes), split_axis=position, concat_axis=0))
