"""contract: multiplies and sums over the listed dims; with windows (`convolve`), in groups of rows (`ragged`), or in
blocks that have a scale each (`scaled`)."""

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import replace
from math import prod
from typing import Any

import numpy as np

from ir import errors
from ir.graph import Node, Value
from ir.jax_api import jnp, lax
from ir.ops.dtypes import family
from ir.ops.op import Mismatch, Names, Op, Place, meeting, names_of, params_of
from ir.ops.padding import Filling
from ir.ops.products import convolved_labels, in_groups, named_labels, product_labels
from ir.ops.rule import (
    Broken,
    Expected,
    Hole,
    Piece,
    Slot,
    fit_all,
    has,
    listed,
    must,
    operands,
    same,
    without,
)
from ir.ops.spread import Spread, Walked, all_whole, pending, replicated
from ir.ring import in_ring, signed, to_ring, touches, unsigned
from ir.shards import Shards
from ir.types import SUM, Dim

Dims = tuple[Dim, ...]
_ATTRIBUTES = frozenset(("over", "with", "batch", "batch_with", "along", "window"))
_FLOATS = ("bfloat16", "float16", "float32", "float64")
_DTYPES: tuple[tuple[str, ...], ...] = (
    (),
    ("int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64", *_FLOATS),
    _FLOATS,
    ("complex64", "complex128"),
)
"""By family of the operands, what a product may be accumulated in."""


class Contract(Op):
    """The result has the batch dims, then what is left of the first operand, then what is left of the second."""

    kind = "contract"
    attributes = _ATTRIBUTES
    meetings = {"contract": "contraction of {pairs}: only one axis can be summed with itself"}
    multiplies = True
    always_computes = True
    pads = True
    reads_whole_parameters = True

    def results(self, node: Node) -> Sequence[Expected]:
        operands(node, 2, 4)
        if node.fn == "convolve":
            dims = _convolved(node)
        elif node.fn == "ragged":
            dims = _grouped(node)
        else:
            must(
                node.fn in ("", "scaled"), Piece("op"), errors.rule_needs("a plain contraction or a member of the kind")
            )
            operands(node, 2 if not node.fn else 4, 2 if not node.fn else 4)
            dims = _product(node)
        return [Expected(_accumulated(node), dims)]

    def by_rows(self, node: Node) -> Sequence[Value]:
        """All of a product in groups of rows, which a kernel computes."""
        return [*node.value_inputs, *node.outputs] if node.fn == "ragged" else ()

    def spread(self, node: Node) -> Sequence[Spread] | None:
        """Sharded alike on both sides, what is contracted leaves the product partial."""
        if replicated(node):
            return all_whole(node)
        if node.fn == "convolve":
            labels, summed, whole = convolved_labels(node)
        elif node.fn:
            labels, summed, whole = named_labels(node)
        else:
            labels, summed = product_labels(node)
            whole = set[int]()
        walked = Walked(node, labels[:-1], whole)
        return [walked.result(labels[-1], pending(node, ((0,), (1,))), summed)]

    def mismatches(self, node: Node) -> Iterator[Mismatch]:
        for key, other in (("over", "with"), ("batch", "batch_with")):
            for a, b in zip(node.dims(key), node.dims(other), strict=False):
                yield from meeting(a, b, "contract", (0, 1))

    def reduced(self, node: Node) -> Names:
        blocked = self.blocked(node)
        return tuple(name for name in node.names("over") if name not in blocked)

    def blocked(self, node: Node) -> Names:
        """A plain contraction asks for nothing; windows and groups must be replicated."""
        if not node.fn:
            return ()
        made = sorted(names_of(node.outputs) - names_of(node.value_inputs))
        # Of features in groups of several, those that are contracted are a part of a dim on one side alone.
        grouped = node.names("over") if in_groups(node) else ()
        return tuple(dict.fromkeys((*node.names("along"), *node.names("window"), *grouped, *made)))

    def padding(self, node: Node, names: Collection[str]) -> Sequence[Filling] | None:
        """What is summed over is 0 on both sides, as nothing times infinity is not nothing."""
        if node.fn or set(self.replicated(node)) & set(names):
            return None
        return [{name: SUM for name in names if name in (*node.names("over"), *node.names("with"))}] * 2

    def shadow(self, node: Node, arrays: Sequence[Any], shards: Shards) -> Sequence[Any]:
        """Products and sums are the ring's own, of integers too where the result is real."""
        if not in_ring(node.outputs[0].type.dtype):
            return super().shadow(node, arrays, shards)
        if node.fn == "scaled":
            return [_scaled(*map(to_ring, arrays), numbers=params_of(node)["dimension_numbers"])]
        factors = [signed(to_ring(array)) for array in arrays[:2]]
        return [unsigned(each) for each in super().shadow(node, [*factors, *arrays[2:]], shards)]

    def ring_params(self, node: Node) -> Mapping[str, Any]:
        params = params_of(node)
        if not touches(node) or "preferred_element_type" not in params:
            return params
        return {**params, "preferred_element_type": np.dtype(np.int32), "precision": None}

    def repaired(self, node: Node, key: str) -> Node:
        """Dims that both operands have, and the result has not, are summed over."""
        if key != "over" or len(node.inputs) < 2:
            return super().repaired(node, key)
        left, right = (operand.type.dims for operand in node.inputs[:2])
        kept = [dim for value in node.outputs for dim in value.type.dims]
        over = tuple(Dim(dim.name, dim.size) for dim in left if has(right, dim) and not has(kept, dim))
        return replace(node, attrs={**node.attrs, key: over})

    def local(self, node: Node, params: dict[str, Any], shards: Shards) -> Mapping[str, Any]:
        """A depthwise convolution has a group for each feature, so each device has fewer groups."""
        if node.fn != "convolve":
            return params
        batch, features = (node.inputs[0].type.dims[int(axis)] for axis in params["dimension_numbers"].lhs_spec[:2])
        counts = {"feature_group_count": features, "batch_group_count": batch}
        return params | {key: params[key] // shards.count(dim.mesh) for key, dim in counts.items() if params[key] > 1}

    def flops(self, node: Node) -> int:
        multiplied = (*node.dims("over"), *node.dims("window"))
        every = 2 * node.outputs[0].type.elements * prod(dim.size for dim in multiplied)
        return every // _stacked_groups(node)

    def flops_in_tiles(self, node: Node) -> float:
        """Where each group of rows makes a matrix of its own, XLA for TPUs multiplies all rows for each group, what is
        not of it as zeros, and half as much again to leave that out: of 8 and of 64 groups 12.2 and 98 times what they
        need, by its estimates."""
        groups = _stacked_groups(node)
        return self.flops(node) * (1.53 * groups if groups > 1 else 1)

    def links(self, node: Node) -> Iterator[tuple[Place, Place]]:
        """Contracted and batch pairs, then what is left of each side. Without its primitive, names alone must do."""
        if node.origin is None or node.fn:  # windows and groups have numbers of their own
            return
        (left, right), result = node.inputs[:2], node.outputs[0]
        (left_over, right_over), (left_batch, right_batch) = node.origin.params["dimension_numbers"]
        for a, b in (*zip(left_over, right_over, strict=True), *zip(left_batch, right_batch, strict=True)):
            yield (left, a), (right, b)
        out = iter(range(len(result.type.dims)))
        yield from [((left, axis), (result, next(out))) for axis in left_batch]
        for operand, over, batch in ((left, left_over, left_batch), (right, right_over, right_batch)):
            free = [axis for axis in range(len(operand.type.dims)) if axis not in over and axis not in batch]
            yield from [((operand, axis), (result, next(out))) for axis in free]


def _stacked_groups(node: Node) -> int:
    """Of groups of rows that each make a matrix of its own how many there are: a row is of one of them. Else 1."""
    if node.fn != "ragged":
        return 1
    rows, groups = node.dims("along")
    return groups.size if has(node.dims("over"), rows) else 1


def _accumulated(node: Node) -> tuple[str, ...]:
    """A sum of products is kept in a dtype of the operands' family, or (of integers) in floats."""
    families = max(family(operand.type.dtype) for operand in node.inputs[:2])
    allowed = _DTYPES[families]
    if not allowed:
        return (node.inputs[0].type.dtype,)
    found = node.outputs[0].type.dtype if node.outputs else ""
    own = tuple(dict.fromkeys(operand.type.dtype for operand in node.inputs[:2]))
    return (found,) if found in allowed or found.startswith("float8") and families == 2 else own


def _sides(node: Node) -> tuple[Dims, Dims, Dims, Dims]:
    """(left dims, right dims, contracted left, contracted right)."""
    left, right = (operand.type.dims for operand in node.inputs[:2])
    over = listed(node, "over", left, "the first operand")
    if "with" in node.attrs:
        other = listed(node, "with", right, "the second operand")
        must(len(other) == len(over), Piece("attribute", key="with"), errors.rule_needs("as many dims as `over` lists"))
    else:
        other = listed(node, "over", right, "the second operand")
    for a, b in zip(over, other, strict=True):
        must(a.size == b.size, Piece("attribute", key="with"), errors.rule_needs(f"the size of {a} for {b}"))
    return left, right, over, other


def _pairs(node: Node, left: Dims, right: Dims) -> list[tuple[Dim, Dim]]:
    """Batch dims that have two names."""
    first = listed(node, "batch", left, "the first operand", required=False)
    second = listed(node, "batch_with", right, "the second operand", required=False)
    must(
        len(first) == len(second), Piece("attribute", key="batch_with"), errors.rule_needs("a dim for each of `batch`")
    )
    return list(zip(first, second, strict=True))


def _product(node: Node) -> tuple[Slot, ...]:
    left, right, over, other = _sides(node)
    pairs = _pairs(node, left, right)
    if node.fn:
        along = listed(node, "along", left, "the first operand")
        must(_equal(along, over), Piece("attribute", key="along"), errors.wrong_list("along", _text(over)))
    out = node.outputs[0].type.dims
    first_rest, second_rest = without(left, over), without(right, other)
    spare = len(first_rest[0]) + len(second_rest[0]) - len(out)
    for a in first_rest:
        for b in second_rest:
            if spare >= 0 and _splits(out, a, b, spare, pairs):
                return out
    return _by_names(first_rest[0], second_rest[0], pairs)


def _splits(out: Dims, left: Dims, right: Dims, batch: int, pairs: Sequence[tuple[Dim, Dim]]) -> bool:
    """Whether a result is `batch` dims that both sides have, then what is left of the one, then of the other."""
    if batch > min(len(left), len(right), len(out)):
        return False
    lead = out[:batch]
    partners = [next((b for a, b in pairs if same(a, dim)), dim) for dim in lead]
    if not all(has([dim for dim in lead], a) for a, _ in pairs):
        return False
    return any(fit_all((*a, *b), out[batch:]) for a in without(left, lead) for b in without(right, partners))


def _by_names(left: Dims, right: Dims, pairs: Sequence[tuple[Dim, Dim]]) -> Dims:
    """The result where every name that both sides have is a batch dim: what is said of a result that cannot be."""
    batch = [dim for dim in left if dim.name is not None and (has(right, dim) or any(same(dim, a) for a, _ in pairs))]
    partners = [next((b for a, b in pairs if same(a, dim)), dim) for dim in batch]
    rest = [dim for dim in right if not has(partners, dim)]
    return (*batch, *(dim for dim in left if not has(batch, dim)), *rest)


def _grouped(node: Node) -> tuple[Slot, ...]:
    """Free and ragged: each group of rows meets its own matrix. Contracted and ragged: each group of rows makes a
    matrix of its own, stacked in front."""
    operands(node, 3, 3)
    left, right, over, other = _sides(node)
    pairs = _pairs(node, left, right)
    groups = node.inputs[2].type.dims
    along = listed(node, "along", (*left, *groups), "the operands")
    must(
        len(along) == 2 and has(left, along[0]) and has(groups, along[1]),
        Piece("attribute", key="along"),
        errors.rule_needs("the rows and the groups"),
    )
    rows, group = along
    out = node.outputs[0].type.dims
    stacked = has(over, rows)
    if stacked:
        if not out or not same(out[0], group):
            return (group, *_by_names(without(left, over)[0], without(right, other)[0], pairs))
        out = out[1:]
    rests = without(right, other)
    if not stacked:
        # The groups of the matrices are those of the rows, or meet them under another name.
        rests = [(*b[:i], *b[i + 1 :]) for b in rests for i in range(len(b)) if b[i].size == group.size]
        must(bool(rests), Piece("operand", 1), errors.rule_needs(f"a dim of the size of {group}"))
    lefts = without(left, over)
    spare = len(lefts[0]) + len(rests[0]) - len(out)
    if spare >= 0 and any(_splits(out, a, b, spare, pairs) for a in lefts for b in rests):
        return node.outputs[0].type.dims
    found = _by_names(lefts[0], rests[0], pairs)
    return (group, *found) if stacked else found


def _convolved(node: Node) -> tuple[Slot, ...]:
    """Batch, made features and places, in any order. A place keeps its name; an offset of a window is named by what it
    meets."""
    operands(node, 2, 2)
    image, kernel = (operand.type.dims for operand in node.inputs)
    must(
        len(image) == len(kernel) and len(image) >= 2,
        Piece("operand", 1),
        errors.operand_rank(str(node.inputs[1].type), f"{len(image)} dims"),
    )
    window = listed(node, "window", kernel, "the second operand")
    over = listed(node, "over", (*image, *kernel), "the operands")
    along = listed(node, "along", (*image, *kernel), "the operands", required=False)
    must(len(window) == len(image) - 2, Piece("attribute", key="window"), errors.rule_needs("all dims of the window"))
    sliding = sum(dim.size > 1 for dim in window)
    must(
        len(along) >= sliding,
        Piece("attribute", key="along"),
        errors.rule_needs("the dims that the window slides over"),
    )
    must(len(over) <= 1, Piece("attribute", key="over"), errors.rule_needs("the features that are contracted"))
    # The features of the image, unless it is cut into groups of them.
    contracted = all(has(image, dim) for dim in over) or any(has(image, dim) and not has(kernel, dim) for dim in along)
    must(contracted, Piece("attribute", key="over"), errors.rule_needs("features that the image has"))
    for first, second in zip(
        listed(node, "batch", image, "the first operand", required=False),
        listed(node, "batch_with", kernel, "the second operand", required=False),
        strict=True,
    ):
        must(first.size == second.size, Piece("attribute", key="batch_with"), errors.rule_needs(f"the size of {first}"))
    out = node.outputs[0].type.dims
    sources = without(kernel, window)[0]
    slots: list[Slot] = []
    if len(out) != len(image):
        raise Broken(Piece("result"), errors.rule_needs(f"{len(image)} dims"))
    free = list((*image, *sources))
    for dim in (*over, *over):  # contracted features are a dim of either side
        free = list(next(iter(without(free, (dim,))), free))
    holes = 0
    for dim in out:
        known = next((each for each in free if same(each, dim)), None)
        if known is not None:
            free.remove(known)
            slots.append(known)
        else:
            holes += dim.size != 1  # a batch that is cut into groups of one
            slots.append(Hole(dim.size))
    # Offsets of a window are new, and so is a batch that is cut into groups.
    must(
        holes <= len(window) + (len(along) > len(window)),
        Piece("result"),
        errors.other_type(str(node.outputs[0].type), _text((*image, *sources))),
    )
    return tuple(slots)


def _equal(first: Sequence[Dim], second: Sequence[Dim]) -> bool:
    return len(first) == len(second) and all(same(a, b) for a, b in zip(first, second, strict=True))


def _text(dims: Sequence[Dim]) -> str:
    return ", ".join(f"{dim.name or '_'}={dim.size}" for dim in dims)


def _scaled(first: Any, second: Any, *scales: Any, numbers: Any) -> Any:
    """A product of two arrays, each of which has scales: one for each block of its elements."""
    whole: list[Any] = []
    for side, scale in zip((first, second), scales, strict=True):
        for axis, (size, count) in enumerate(zip(side.shape, scale.shape, strict=True)):
            scale = jnp.repeat(scale, size // count, axis=axis)
        whole.append(signed(side * scale))
    return unsigned(lax.dot_general(whole[0], whole[1], numbers))
