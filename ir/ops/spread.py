"""How a value is laid out over the mesh, by the position of its dims; and how operands that are laid out in some way
make results that are laid out in some way.

For each mesh axis a value is in one of three states: *replicated*; a dim is *sharded* over the axis; or the value is
*partial* over it, the sum (max, …) of what its devices have. The rule of an op (`Op.spread`) says in which state its
results are when each device runs the op on what it has of the operands, and raises `Misplaced` where that would not be
the op. The states are those of GSPMD and of `spmd_types`; that an op may run on shards is read off its labels, as in an
einsum: dims with one label are walked through together, so they must be sharded alike.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field

from ir import layout_errors as errors
from ir.graph import Constant, Node, Operand
from ir.ops.rule import Piece, same
from ir.types import REDUCTIONS, SUM, Dim, TensorType

Axes = tuple[str, ...]
Labels = Sequence[int | None]
"""One label a dim. Dims of one label are the same dim; a dim without one must be whole."""
Groups = Sequence[Sequence[int]]
"""Positions of operands: an op is linear in all operands of a group together, if those of the others are given."""

ANY = frozenset(REDUCTIONS)
SUMS = frozenset((SUM,))


class Misplaced(Exception):
    """An op cannot run on the shards of its operands. `piece` is what does not fit."""

    def __init__(self, piece: Piece, what: str) -> None:
        super().__init__(what)
        self.piece = piece
        self.what = what


@dataclass(frozen=True, slots=True)
class Spread:
    """How a value is laid out: the mesh axes of each dim, outermost first; those over which it is partial, and by what
    reduction."""

    dims: tuple[Axes, ...]
    partial: Axes = ()
    reduction: str = SUM

    def __str__(self) -> str:
        return state_text(Spread(self.dims, self.partial, self.reduction))

    def agrees(self, other: "Spread") -> bool:
        """Whether the two are one layout; in which order partial axes are listed is no matter."""
        if self.dims != other.dims or set(self.partial) != set(other.partial):
            return False
        return not self.partial or self.reduction == other.reduction


def state_text(spread: Spread, type_: TensorType | None = None) -> str:
    """`sharded [data, ·] and partial over model`, `replicated`; with the names of a type `sharded batch@data`."""
    names = [dim.name or "_" for dim in type_.dims] if type_ is not None else [str(i) for i in range(len(spread.dims))]
    cut = [f"{name}@{','.join(axes)}" for name, axes in zip(names, spread.dims, strict=False) if axes]
    parts = [f"sharded {' '.join(cut)}"] if cut else []
    if spread.partial:
        by = "" if spread.reduction == SUM else f" by {spread.reduction}"
        parts.append(f"partial over {', '.join(spread.partial)}{by}")
    return " and ".join(parts) or "replicated"


def layout_of(type_: TensorType) -> Spread:
    """How a type says that its value is laid out."""
    return Spread(tuple([dim.mesh for dim in type_.dims]), type_.partial, type_.reduction)


def described(operand: Operand) -> str:
    """The layout of an operand in words."""
    return state_text(layout_of(operand.type), operand.type)


def is_zero(operand: Operand) -> bool:
    """Whether it is a literal 0, which is the sum of zeros and so in any partial state."""
    if not isinstance(operand, Constant):
        return False
    return operand.text.strip().lower() in ("0", "0.0", "-0.0", "0.0+0.0j", "0j", "false")


def name_of(node: Node) -> str:
    return f"{node.kind}.{node.fn}" if node.fn else node.kind


def places(dims: Sequence[Dim], listed: Sequence[Dim]) -> list[int]:
    """Where listed dims stand among others, each at the first place that is left."""
    free = list(range(len(dims)))
    found: list[int] = []
    for dim in listed:
        at = next((place for place in free if same(dims[place], dim)), None)
        if at is not None:
            free.remove(at)
            found.append(at)
    return found


@dataclass
class Walked:
    """The places that a device walks through together: for each label the mesh axes that shard it, read off the
    operands.

    Raises `Misplaced` where operands differ, a mesh axis shards two labels, or a dim must be whole and is not.
    """

    node: Node
    labels: Sequence[Labels]
    whole: Collection[int] = ()
    axes: dict[int, Axes] = field(default_factory=dict[int, Axes])
    owner: dict[str, int] = field(default_factory=dict[str, int])
    dims: dict[int, Dim] = field(default_factory=dict[int, Dim])

    def __post_init__(self) -> None:
        for i, (operand, labels) in enumerate(zip(self.node.inputs, self.labels, strict=True)):
            for dim, label in zip(operand.type.dims, labels, strict=True):
                self._enter(i, dim, label)
        for i, operand in enumerate(self.node.inputs):
            self._apart(i, operand.type)

    def _enter(self, i: int, dim: Dim, label: int | None) -> None:
        if label is None or label in self.whole:
            if dim.mesh:
                raise Misplaced(Piece("operand", i), errors.dim_must_be_whole(dim, name_of(self.node)))
            return
        known = self.dims.setdefault(label, dim)
        if known.mesh != dim.mesh:
            raise Misplaced(Piece("operand", i), errors.shards_not_aligned(dim, known))
        self.axes[label] = dim.mesh
        for axis in dim.mesh:
            owner = self.owner.setdefault(axis, label)
            if owner != label:
                raise Misplaced(Piece("operand", i), errors.axis_shards_two(axis, dim, self.dims[owner]))

    def _apart(self, i: int, type_: TensorType) -> None:
        for axis in type_.partial:
            if axis in self.owner:
                raise Misplaced(Piece("operand", i), errors.pending_and_sharded(axis, self.dims[self.owner[axis]]))

    def result(self, labels: Labels, due: Spread, summed: Collection[int] = (), reduction: str = SUM) -> Spread:
        """The layout of a result with these labels.

        Args:
            due: what was partial before, from `pending`.
            summed: labels that are reduced by `reduction` on the way, so that the result is partial where they are
                sharded.
        """
        kept = {label for label in labels if label is not None}
        over: list[str] = list(due.partial)
        for label, axes in self.axes.items():
            if label in kept or not axes:
                continue
            if label not in summed:
                i = next(i for i, own in enumerate(self.labels) if label in own)
                raise Misplaced(Piece("operand", i), errors.dim_must_be_whole(self.dims[label], name_of(self.node)))
            if due.partial and due.reduction != reduction:
                i = next(i for i, each in enumerate(self.node.inputs) if each.type.partial)
                raise Misplaced(
                    Piece("operand", i),
                    errors.other_reduction(due.partial, due.reduction, name_of(self.node)),
                )
            over += [axis for axis in axes if axis not in over]
            due = Spread((), tuple(over), reduction)
        return Spread(
            tuple([self.axes.get(label, ()) if label is not None else () for label in labels]),
            tuple(over),
            due.reduction,
        )


def pending(node: Node, linear: Groups, keeps: Collection[str] = SUMS) -> Spread:
    """What stays partial through an op that is linear in each group of operands, by whatever reduction it `keeps`.

    Raises `Misplaced` where parts of an operand do not make up the op of the whole.
    """
    over: list[str] = []
    reduction, several = SUM, False
    carrier: dict[str, int] = {}
    for i, operand in enumerate(node.inputs):
        for axis in operand.type.partial:
            if axis not in over:
                over.append(axis)
                carrier[axis] = i
        if operand.type.partial:
            found = operand.type.reduction
            if several and found != reduction:
                raise Misplaced(Piece("operand", i), errors.reductions_differ(reduction, found))
            if found not in keeps:
                axes, op = operand.type.partial, name_of(node)
                what = errors.not_linear(axes, op) if found == SUM else errors.other_reduction(axes, found, op)
                raise Misplaced(Piece("operand", i), what)
            several, reduction = True, found
    for axis in over:
        _carried(node, linear, axis, carrier[axis])
    return Spread((), tuple(over), reduction)


def _carried(node: Node, linear: Groups, axis: str, first: int) -> None:
    """One group is partial over an axis as a whole, and no other operand is."""
    group = next((each for each in linear if first in each), None)
    if group is None:
        raise Misplaced(Piece("operand", first), errors.not_linear(node.inputs[first].type.partial, name_of(node)))
    for i, operand in enumerate(node.inputs):
        has = axis in operand.type.partial
        if i in group and not has and not is_zero(operand):
            raise Misplaced(Piece("operand", i), errors.added_to_partial((axis,), str(node.inputs[first])))
        if i not in group and has:
            known = any(i in each for each in linear)
            what = (
                errors.two_partials((axis,), str(node.inputs[first]))
                if known
                else errors.not_linear((axis,), name_of(node))
            )
            raise Misplaced(Piece("operand", i), what)


def joined(node: Node, reduction: str) -> Spread:
    """What stays partial through an op that takes the max (min, and, or) of its operands: the max of maxima, of which
    some may be there on every device."""
    over: list[str] = []
    for i, operand in enumerate(node.inputs):
        if operand.type.partial and operand.type.reduction != reduction:
            axes, found = operand.type.partial, operand.type.reduction
            op = name_of(node)
            raise Misplaced(
                Piece("operand", i),
                errors.not_linear(axes, op) if found == SUM else errors.other_reduction(axes, found, op),
            )
        over += [axis for axis in operand.type.partial if axis not in over]
    return Spread((), tuple(over), reduction)


def by_position(node: Node, rank: int) -> list[Labels]:
    """The labels of operands whose dims meet by position; one that is a scalar has none, a dim of size 1 that is
    repeated is whole."""
    shape = next((each.type.shape for each in node.inputs if len(each.type.dims) == rank), ())
    size = [max(each.type.shape[p] for each in node.inputs if len(each.type.dims) == rank) for p in range(len(shape))]
    return [
        [p if own == size[p] else None for p, own in enumerate(each.type.shape)]
        if len(each.type.dims) == rank
        else [None] * len(each.type.dims)
        for each in node.inputs
    ]


def nothing_pending(node: Node) -> Spread:
    """No operand may be partial."""
    return pending(node, ())


def replicated(node: Node) -> bool:
    """Whether all operands are replicated and nothing is pending: any op may run as it is."""
    return all(not each.type.partial and not any(dim.mesh for dim in each.type.dims) for each in node.inputs)


def all_whole(node: Node) -> list[Spread]:
    """Results that are replicated."""
    return [Spread(((),) * len(value.type.dims)) for value in node.outputs]


def chosen(value: TensorType, kept: Mapping[int, Axes] = {}) -> Spread:
    """A layout that the type says, for a value that each device can make any part of; `kept` are the mesh axes of dims
    that come from an operand."""
    return Spread(tuple([kept.get(position, dim.mesh) for position, dim in enumerate(value.dims)]))
