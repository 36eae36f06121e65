"""What the rule of an op says of a node's types, and the ways in which a node can differ from it.

A rule may leave a dim open where neither operands nor attributes tell: the new dim of a broadcast has no name that
follows from anything, the part that a slice takes any size up to that of the whole. Placement is no matter of the rule:
names, sizes and dtype are compared, mesh axes are not.
"""

from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

from ir import errors
from ir.graph import Node, Operand
from ir.types import Dim, TensorType, short_dtype

Part = Literal["result", "operand", "attribute", "op"]


@dataclass(frozen=True, slots=True)
class Piece:
    """A part of a node: its result or operand number `index`, its attribute `key`, or the operation itself."""

    part: Part
    index: int = 0
    key: str = ""


OP = Piece("op")


@dataclass(frozen=True, slots=True)
class Fault:
    """One thing that is wrong with a node, and where."""

    piece: Piece
    what: str


class Broken(Exception):
    """The rule of an op has no answer for a node. `piece` is what does not fit."""

    def __init__(self, piece: Piece, what: str) -> None:
        super().__init__(what)
        self.piece = piece
        self.what = what


@dataclass(frozen=True, slots=True)
class Hole:
    """A dim of which the rule does not say the name, and where `size` is None not the size either."""

    size: int | None = None
    at_most: int | None = None

    def __str__(self) -> str:
        return f"?={'?' if self.size is None else self.size}"


Slot = Dim | Hole


@dataclass(frozen=True, slots=True)
class Expected:
    """The type that a rule gives. `dtypes` are those that are possible; empty where it does not say. `dims` is None
    where the dims are right in some other way than one by one, and the rule has seen to it."""

    dtypes: tuple[str, ...]
    dims: tuple[Slot, ...] | None

    def __str__(self) -> str:
        dtype = "|".join(map(short_dtype, self.dtypes)) or "?"
        dims = "…" if self.dims is None else ", ".join(map(_bare_text, self.dims))
        return f"{dtype}[{dims}]"

    def fits(self, type_: TensorType) -> bool:
        """Whether a type is one that the rule gives."""
        if self.dtypes and type_.dtype not in self.dtypes:
            return False
        return self.dims is None or self.dims == type_.dims or fit_all(self.dims, type_.dims)


def _bare_text(slot: Slot) -> str:
    return f"{slot.name or '_'}={slot.size}" if isinstance(slot, Dim) else str(slot)


def like(type_: TensorType) -> Expected:
    """The very type, placement aside."""
    return Expected((type_.dtype,), type_.dims)


def same(first: Dim, second: Dim) -> bool:
    """Whether two dims are the same, placement aside."""
    return first is second or (first.size == second.size and first.name == second.name)


def fit(slot: Slot, dim: Dim) -> bool:
    if isinstance(slot, Dim):
        return same(slot, dim)
    return slot.size in (None, dim.size) and (slot.at_most is None or dim.size <= slot.at_most)


def fit_all(slots: Sequence[Slot], dims: Sequence[Dim]) -> bool:
    return len(slots) == len(dims) and all([fit(slot, dim) for slot, dim in zip(slots, dims, strict=True)])


def has(dims: Sequence[Dim], dim: Dim) -> bool:
    """Whether a dim is among others, placement aside."""
    return any([same(each, dim) for each in dims])


def result_faults(
    node: Node,
    attributes: Collection[str],
    rule: Callable[[Node], Sequence[Expected]],
    repaired: Callable[[Node, str], Node],
) -> Iterator[Fault]:
    """How the results of a node differ from what the rule gives, or why it gives nothing."""
    for key in node.attrs:
        if key not in attributes:
            yield Fault(Piece("attribute", key=key), errors.no_attribute(node.kind, key, sorted(attributes)))
            return
    try:
        expected = rule(node)
    except Broken as broken:
        yield Fault(broken.piece, broken.what)
        if broken.piece.part == "attribute" and node.dims(broken.piece.key):
            yield from _as_if(repaired(node, broken.piece.key), broken.piece.key, rule)
        return
    if len(expected) != len(node.outputs):
        yield Fault(OP, errors.result_count(len(expected), len(node.outputs)))
        return
    for i, (each, value) in enumerate(zip(expected, node.outputs, strict=True)):
        if not each.fits(value.type):
            yield Fault(Piece("result", i), errors.other_type(str(value.type), str(each)))


def _as_if(node: Node, key: str, rule: Callable[[Node], Sequence[Expected]]) -> Iterator[Fault]:
    """What is wrong with the results of a node whose attribute was repaired."""
    try:
        expected = rule(node)
    except Broken:
        return
    for i, (each, value) in enumerate(zip(expected, node.outputs, strict=False)):
        if not each.fits(value.type):
            listed_ = f"{key}=[{', '.join(map(_bare_text, node.dims(key)))}]"
            yield Fault(Piece("result", i), errors.other_type_with(str(value.type), listed_, str(each)))


# --- questions that many rules ask, each answered or `Broken` ---------------------------------------------------------


def operands(node: Node, least: int, most: int | None = None) -> tuple[Operand, ...]:
    """The operands, of which there must be between `least` and `most` (None: any number)."""
    if len(node.inputs) < least or (most is not None and len(node.inputs) > most):
        raise Broken(OP, errors.operand_count(least, most, len(node.inputs)))
    return node.inputs


def listed(node: Node, key: str, among: Sequence[Dim], owner: str, required: bool = True) -> tuple[Dim, ...]:
    """The dims under an attribute, each of which must be one of `among`, which are those of `owner`."""
    if key not in node.attrs:
        if required:
            raise Broken(OP, errors.attribute_missing(key))
        return ()
    dims, value = node.dims(key), node.attrs[key]
    if not isinstance(value, tuple) or len(dims) != len(value):
        raise Broken(Piece("attribute", key=key), errors.no_dims(key))
    for dim in dims:
        if not has(among, dim):
            raise Broken(Piece("attribute", key=key), errors.no_such_dim(key, str(dim), owner))
    if len(set(dims)) < len(dims) and not without(among, dims):
        raise Broken(Piece("attribute", key=key), errors.listed_twice(key, owner))
    return dims


def must_list(node: Node, key: str, rule: Sequence[Dim]) -> None:
    """The attribute lists exactly these dims, in order."""
    found = node.dims(key)
    if len(found) != len(rule) or not all(same(a, b) for a, b in zip(found, rule, strict=True)):
        text = ", ".join(f"{dim.name or '_'}={dim.size}" for dim in rule)
        piece = Piece("attribute", key=key) if key in node.attrs else Piece("op")
        raise Broken(piece, errors.wrong_list(key, text))


def count(node: Node, key: str) -> int:
    """The whole number, not negative, under an attribute."""
    value = node.attrs.get(key)
    if not isinstance(value, int) or isinstance(value, bool) or value < 0:
        piece = Piece("attribute", key=key) if key in node.attrs else OP
        raise Broken(piece, errors.no_number(key))
    return value


def words(node: Node, key: str, least: int = 1) -> tuple[str, ...]:
    """The words, no two alike, under an attribute."""
    found = node.words(key)
    if len(found) < least or key not in node.attrs or len(found) != len(set(found)):
        piece = Piece("attribute", key=key) if key in node.attrs else OP
        raise Broken(piece, errors.no_words(key))
    return found


def same_dtype(node: Node, positions: Sequence[int]) -> str:
    """The one dtype of some operands."""
    first = node.inputs[positions[0]].type.dtype
    for i in positions[1:]:
        if node.inputs[i].type.dtype != first:
            raise Broken(
                Piece("operand", i), errors.operand_dtype(short_dtype(node.inputs[i].type.dtype), short_dtype(first))
            )
    return first


def same_shape(node: Node, positions: Sequence[int]) -> None:
    """Sizes of some operands are those of the first of them, dim by dim; names may differ (see `ir.ops`)."""
    first = node.inputs[positions[0]].type
    for i in positions[1:]:
        if node.inputs[i].type.shape != first.shape:
            raise Broken(Piece("operand", i), errors.operand_shape(str(node.inputs[i].type), str(first)))


def must(condition: bool, piece: Piece, what: str) -> None:
    """Raises `Broken` where a condition of the rule does not hold."""
    if not condition:
        raise Broken(piece, what)


def without(dims: Sequence[Dim], gone: Sequence[Dim]) -> list[tuple[Dim, ...]]:
    """What may be left of dims when some are taken out: several answers where a name occurs twice."""
    found = [tuple(dims)]
    for dim in gone:
        taken = ((*rest[:i], *rest[i + 1 :]) for rest in found for i in range(len(rest)) if same(rest[i], dim))
        found = list(dict.fromkeys(taken))
    return found


def changed_dims(before: Sequence[Dim], after: Sequence[Dim]) -> tuple[Dim, ...]:
    """The dims of `before` whose size is not that of `after` at the same position."""
    return tuple([a for a, b in zip(before, after, strict=True) if a.size != b.size])


def resized(dims: Sequence[Dim], after: Sequence[Dim]) -> tuple[Slot, ...]:
    """The dims of a result at the positions of an operand's: the same where the size is, of any name where not."""
    return tuple([a if a.size == b.size else Hole(b.size) for a, b in zip(dims, after, strict=True)])
